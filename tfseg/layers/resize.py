"""Layers that fit one feature map to another's size."""

from fractions import Fraction
from typing import Any

import keras

from tfseg.ops.resize import (
    adaptive_average_pool,
    enlarge_bilinear,
    pad_below_right,
    resize_bilinear,
    window,
)


@keras.saving.register_keras_serializable(package="tfseg")
class ResizeLike(keras.layers.Layer):
    """Bilinear interpolation of the first input to the second's height and width.

    Args:
        align_corners: see `tfseg.ops.resize.bilinear_matrix`.

    Inputs (B, h, w, C) and (B, H, W, any), output (B, H, W, C).
    """

    def __init__(self, *, align_corners: bool, **kwargs: Any):
        super().__init__(**kwargs)
        self.align_corners = align_corners

    def call(self, inputs: Any) -> Any:
        x, like = inputs
        size = keras.ops.shape(like)[1:3]
        return resize_bilinear(x, size, align_corners=self.align_corners)

    def compute_output_shape(self, shapes: Any) -> Any:
        x, like = shapes
        return (x[0], like[1], like[2], x[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "align_corners": self.align_corners}


@keras.saving.register_keras_serializable(package="tfseg")
class Enlarge(keras.layers.Layer):
    """Bilinear interpolation to a multiple of the size, with half-pixel centres.

    As Keras' bilinear UpSampling2D, which cannot be traced for unknown sizes (Keras 3.15).

    Args:
        factor: of both sides.

    Input (B, H, W, C), output (B, factor * H, factor * W, C).
    """

    def __init__(self, factor: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = factor

    def call(self, x: Any) -> Any:
        return enlarge_bilinear(x, self.factor)

    def compute_output_shape(self, shape: Any) -> Any:
        sides = (None if side is None else side * self.factor for side in shape[1:3])
        return (shape[0], *sides, shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}


@keras.saving.register_keras_serializable(package="tfseg")
class AdaptiveAveragePool2D(keras.layers.Layer):
    """Averages over a ``bins`` x ``bins`` grid; see `tfseg.ops.resize.adaptive_average_pool`.

    Input (B, H, W, C), output (B, bins, bins, C).
    """

    def __init__(self, bins: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.bins = bins

    def call(self, x: Any) -> Any:
        return adaptive_average_pool(x, self.bins)

    def compute_output_shape(self, shape: Any) -> Any:
        return (shape[0], self.bins, self.bins, shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "bins": self.bins}


@keras.saving.register_keras_serializable(package="tfseg")
class CenterCropLike(keras.layers.Layer):
    """The centre of the first input, as large as the second.

    Inputs (B, H, W, C) and (B, h, w, any) with h <= H and w <= W, output (B, h, w, C).
    """

    def call(self, inputs: Any) -> Any:
        x, like = inputs
        height, width = keras.ops.shape(like)[1:3]
        top = (keras.ops.shape(x)[1] - height) // 2
        left = (keras.ops.shape(x)[2] - width) // 2
        return window(x, top, left, height, width)

    def compute_output_shape(self, shapes: Any) -> Any:
        x, like = shapes
        return (x[0], like[1], like[2], x[3])


@keras.saving.register_keras_serializable(package="tfseg")
class PadLike(keras.layers.Layer):
    """The first input with zeros below and to the right, as large as the second.

    Inputs (B, h, w, C) and (B, H, W, any) with h <= H and w <= W, output (B, H, W, C).
    """

    def call(self, inputs: Any) -> Any:
        x, like = inputs
        height, width = keras.ops.shape(like)[1:3]
        return pad_below_right(x, height, width)

    def compute_output_shape(self, shapes: Any) -> Any:
        x, like = shapes
        return (x[0], like[1], like[2], x[3])


@keras.saving.register_keras_serializable(package="tfseg")
class CropLike(keras.layers.Layer):
    """A window of the first input as large as the second, ``offset`` rows and columns in.

    Caffe's Crop layer. Inputs (B, H, W, C) and (B, h, w, any) with offset + h <= H and
    offset + w <= W, output (B, h, w, C).
    """

    def __init__(self, offset: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.offset = offset

    def call(self, inputs: Any) -> Any:
        x, like = inputs
        height, width = keras.ops.shape(like)[1:3]
        return window(x, self.offset, self.offset, height, width)

    def compute_output_shape(self, shapes: Any) -> Any:
        x, like = shapes
        return (x[0], like[1], like[2], x[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "offset": self.offset}


@keras.saving.register_keras_serializable(package="tfseg")
class PadToMultiple(keras.layers.Layer):
    """Zeros below and to the right, so that height and width are multiples of ``multiple``.

    Input (B, H, W, C), output (B, h, w, C).
    """

    def __init__(self, multiple: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.multiple = multiple

    def call(self, x: Any) -> Any:
        height, width = keras.ops.shape(x)[1:3]
        return pad_below_right(x, self._side(height), self._side(width))

    def _side(self, n: Any) -> Any:
        # Not -n % multiple, of which ONNX files take the remainder of C, below zero.
        return n + (self.multiple - n % self.multiple) % self.multiple

    def compute_output_shape(self, shape: Any) -> Any:
        sides = (None if n is None else self._side(n) for n in shape[1:3])
        return (shape[0], *sides, shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "multiple": self.multiple}


@keras.saving.register_keras_serializable(package="tfseg")
class Interp(keras.layers.Layer):
    """Bilinear interpolation by a factor with aligned corners: the Interp layer of DeepLab's Caffe.

    Args:
        factor: new samples a sample: 8 turns a side of n into (n - 1) * 8 + 1, 0.75 a side of
            321 into 241. Where the product is no integer, it is rounded down.

    Input (B, H, W, C), output (B, h, w, C).
    """

    def __init__(self, factor: float, **kwargs: Any):
        super().__init__(**kwargs)
        self.factor = factor
        self._ratio = Fraction(factor).limit_denominator(100)

    def call(self, x: Any) -> Any:
        height, width = keras.ops.shape(x)[1:3]
        return resize_bilinear(x, (self._side(height), self._side(width)), align_corners=True)

    def _side(self, n: Any) -> Any:
        return (n - 1) * self._ratio.numerator // self._ratio.denominator + 1

    def compute_output_shape(self, shape: Any) -> Any:
        sides = (None if n is None else self._side(n) for n in shape[1:3])
        return (shape[0], *sides, shape[3])

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "factor": self.factor}
