"""What a network costs for one image, counted and not measured."""

import math
from collections.abc import Iterator
from typing import Any

import keras

from tfseg.layers.upsample import DepthwiseConv2DTranspose


def _nodes(model: Any, height: int, width: int) -> Iterator[tuple[Any, Any]]:
    """Each layer of the model for one image of this size, and each node, which is a call of it."""
    image = keras.Input((height, width, model.inputs[0].shape[-1]))
    for layer in keras.models.clone_model(model, input_tensors=image).layers:
        for node in layer._inbound_nodes:  # shared layers have several
            yield layer, node


def count_macs(model: Any, height: int, width: int) -> int:
    """Multiply-accumulates of the convolutions and dense layers for one image.

    Args:
        model: a functional Keras model of one image input.
        height: of the image.
        width: of the image.

    Raises:
        ValueError: for a layer with a kernel whose products are not known here.
    """
    total = 0
    for layer, node in _nodes(model, height, width):
        kernel = getattr(layer, "kernel", None)
        if kernel is None:
            continue
        if isinstance(layer, keras.layers.Conv2DTranspose | DepthwiseConv2DTranspose):
            places = node.input_tensors[0].shape[1:3]
        elif isinstance(
            layer, keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.Dense
        ):
            places = node.output_tensors[0].shape[1:-1]
        else:
            raise ValueError(f"cannot count {layer.name}, a {type(layer).__name__}")
        total += math.prod((*kernel.shape, *places))
    return total


def activation_bytes(model: Any, height: int, width: int) -> int:
    """Bytes of the float32 outputs of all layers for one image.

    It is what backpropagation keeps where no layer works in place: an estimate of a training
    step's memory beside weights, gradients and the optimizer's state.

    Args:
        model: a functional Keras model of one image input.
        height: of the image.
        width: of the image.
    """
    values: int = sum(
        math.prod(output.shape[1:])
        for _, node in _nodes(model, height, width)
        if not node.is_input
        for output in node.output_tensors
    )
    return 4 * values
