"""Batch norms as parts of the convolutions before them, for inference."""

import math
from typing import Any

import keras
import numpy as np

from tfseg.layers.conv import PackedConv2D

CONVOLUTIONS = (keras.layers.Conv2D, keras.layers.DepthwiseConv2D, keras.layers.Conv2DTranspose)

#: weights of a kernel, beyond which `PackedConv2D` is the faster layer
LARGE = 2**24


def fold_norms(model: keras.Model, *, packed: bool = False) -> keras.Model:
    """The same function of images at inference, with fewer layers to compute.

    A norm whose input is a convolution's output, and nothing else's input, is a factor and an
    offset of each channel: the factor goes into the kernel, the offset into the bias. Results
    differ by rounding. Other norms stay as they are.

    Args:
        model: functional or sequential. It keeps its own weights.
        packed: convolutions of many weights become `PackedConv2D`.

    Returns:
        A model with copies of the weights, for which ``training`` means nothing where norms are
        folded; the model itself where there are none to fold and nothing to pack.
    """
    norms = dict(_pairs(model))
    large = {layer.name for layer in model.layers if packed and _is_large(layer)}
    if not norms and not large:
        return model
    if isinstance(model, keras.Sequential):
        model = keras.Model(model.inputs[0], model.outputs[0], name=model.name)
    convolutions = {convolution: norm for norm, convolution in norms.items()}

    def clone(layer: Any) -> Any:
        config = layer.get_config()
        if layer.name in convolutions:
            config["use_bias"] = True
        kind = PackedConv2D if layer.name in large else type(layer)
        return kind.from_config(config)

    def call(layer: Any, *args: Any, **kwargs: Any) -> Any:
        return args[0] if layer.name in norms else layer(*args, **kwargs)

    folded = keras.models.clone_model(model, clone_function=clone, call_function=call)
    for layer in folded.layers:
        if not layer.weights:
            continue
        weights = model.get_layer(layer.name).get_weights()
        if layer.name in convolutions:
            weights = _folded(layer, weights, model.get_layer(convolutions[layer.name]))
        layer.set_weights(weights)
    return folded


def _is_large(layer: Any) -> bool:
    return (
        type(layer) is keras.layers.Conv2D
        and layer.groups == 1
        and set(layer.dilation_rate) == {1}
        and math.prod(layer.kernel.shape) > LARGE
    )


def _pairs(model: keras.Model) -> list[tuple[str, str]]:
    """The names of norms that can be folded, and of their convolutions."""
    outputs = {id(tensor) for tensor in model.outputs}
    pairs = []
    for norm in model.layers:
        if not isinstance(norm, keras.layers.BatchNormalization) or len(norm._inbound_nodes) != 1:
            continue
        (tensor,) = norm._inbound_nodes[0].input_tensors
        before = tensor._keras_history.operation
        if (
            isinstance(before, CONVOLUTIONS)
            and before.activation is keras.activations.linear
            and len(before._inbound_nodes) == len(before._outbound_nodes) == 1
            and id(tensor) not in outputs
        ):
            pairs.append((norm.name, before.name))
    return pairs


def _folded(convolution: Any, weights: list[np.ndarray], norm: Any) -> list[np.ndarray]:
    """The kernel and bias of a convolution with the norm behind it."""
    mean, variance = np.asarray(norm.moving_mean), np.asarray(norm.moving_variance)
    factor = (variance + norm.epsilon) ** -0.5
    if norm.scale:
        factor = factor * np.asarray(norm.gamma)
    kernel, bias = weights[0], weights[1] if len(weights) > 1 else 0.0
    offset = (bias - mean) * factor
    if norm.center:
        offset = offset + np.asarray(norm.beta)
    if isinstance(convolution, keras.layers.DepthwiseConv2D):
        factor = factor.reshape(kernel.shape[2:])
    elif isinstance(convolution, keras.layers.Conv2DTranspose):  # kernels (h, w, outputs, inputs)
        factor = factor[:, None]
    return [kernel * factor, offset]
