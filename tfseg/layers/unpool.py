"""DeconvNet's unpooling as a layer."""

from typing import Any

import keras

from tfseg.ops.unpool import argmax_places, max_unpool


@keras.saving.register_keras_serializable(package="tfseg")
class MaxUnpool2D(keras.layers.Layer):
    """Reverses a 2x2 max pooling of stride 2: values go where the maxima were, zeros elsewhere.

    Inputs: (B, h, w, C), and the map (B, H, W, C) that was pooled to (h, w), sizes rounded up.
    Output (B, H, W, C). The second input has no gradient.
    """

    def call(self, inputs: Any) -> Any:
        x, pooled = inputs
        return max_unpool(x, argmax_places(pooled), keras.ops.shape(pooled)[1:3])

    def compute_output_shape(self, shapes: Any) -> Any:
        x, pooled = shapes
        return (x[0], pooled[1], pooled[2], x[3])
