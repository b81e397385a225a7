"""Statistics of batch normalisation for inference, measured after training."""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf


def estimate_batch_statistics(
    model: keras.Model, batches: Iterable[tf.Tensor], steps: int = 500
) -> None:
    """Replaces moving means and variances by averages over batches, weights staying as they are.

    DeconvNet's authors train with the statistics of the batch alone and measure those for
    inference afterwards (BN_make_INFERENCE_script.py). All norms see inputs that the statistics
    of the batch have normalised, so one pass over the batches serves all of them. A norm's mean
    is the average of the batches' means, its variance that of their unbiased variances, m / (m -
    1) times the mean squared deviation, for m values a channel and batch. (In the script that
    factor is an integer division, and 1 under Python 2.) Frozen norms stay as they are.

    Args:
        model: a model with batch norms; it runs in training mode, dropout included.
        batches: preprocessed images (B, H, W, C); what lies beyond ``steps`` is not read.
        steps: how many batches.

    Raises:
        ValueError: if no batch norm would change, or there are fewer batches.
    """
    norms = [
        layer
        for layer in model.layers
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable
    ]
    if not norms or steps < 1:
        raise ValueError(f"{model.name!r} has no batch norms that train, or steps is {steps}")
    inputs = keras.Model(model.inputs, [norm.input for norm in norms])
    moments = tf.function(
        lambda images: [_moments(x) for x in inputs(images, training=True)], reduce_retracing=True
    )
    means = [np.zeros(norm.moving_mean.shape) for norm in norms]
    variances = [np.zeros(norm.moving_variance.shape) for norm in norms]
    done = 0
    for images in batches:
        for index, (mean, variance) in enumerate(moments(images)):
            means[index] += mean.numpy()
            variances[index] += variance.numpy()
        done += 1
        if done == steps:
            break
    if done < steps:
        raise ValueError(f"there are {done} batches, {steps} were asked for")
    for norm, mean, variance in zip(norms, means, variances, strict=True):
        norm.moving_mean.assign(mean / steps)
        norm.moving_variance.assign(variance / steps)


def _moments(x: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Mean and unbiased variance of each channel of (B, H, W, C)."""
    x = tf.cast(x, tf.float32)
    mean, variance = tf.nn.moments(x, (0, 1, 2))
    count = tf.cast(tf.size(x) // tf.shape(x)[-1], tf.float32)
    return mean, variance * count / tf.maximum(count - 1, 1)
