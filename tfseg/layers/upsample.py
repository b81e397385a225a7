"""Transposed convolutions as upsampling, as FCN has them."""

from typing import Any

import keras
import numpy as np


def _bilinear(size: int) -> np.ndarray:
    """The kernel (size, size) of one channel."""
    factor = (size + 1) // 2
    centre = factor - 1 if size % 2 else factor - 0.5
    line = 1 - np.abs(np.arange(size) - centre) / factor
    return np.outer(line, line)


@keras.saving.register_keras_serializable(package="tfseg")
class BilinearKernel(keras.initializers.Initializer):
    """A transposed convolution's kernel that interpolates each channel by itself.

    The kernel is full, and 0 off its diagonal (Long, Shelhamer, Darrell; surgery.py: interp).
    """

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """The kernel.

        Args:
            shape: (size, size, channels, channels).

        Raises:
            ValueError: if it is not square or changes the number of channels.
        """
        height, width, out, into = shape
        if height != width or out != into:
            raise ValueError(f"a bilinear kernel is (n, n, C, C), not {tuple(shape)}")
        kernel = np.zeros(shape)
        kernel[:, :, range(out), range(out)] = _bilinear(height)[:, :, None]
        return keras.ops.convert_to_tensor(kernel, dtype)


def bilinear_deconvolution(x: Any, factor: int, kernel: int, *, trainable: bool, name: str) -> Any:
    """A transposed convolution without padding that starts as bilinear interpolation.

    Args:
        x: (B, h, w, C).
        factor: its stride.
        kernel: its side: 2 factor, or 2 factor - 1 for an odd one.
        trainable: False: it stays bilinear interpolation.

    Returns:
        float32 (B, (h - 1) factor + kernel, (w - 1) factor + kernel, C).
    """
    return keras.layers.Conv2DTranspose(
        x.shape[-1],
        kernel,
        strides=factor,
        padding="valid",
        use_bias=False,
        kernel_initializer=BilinearKernel(),
        trainable=trainable,
        # Scores stay float32 under mixed precision.
        dtype="float32",
        name=name,
    )(x)


@keras.saving.register_keras_serializable(package="tfseg")
class DepthwiseConv2DTranspose(keras.layers.Layer):
    """A transposed convolution of each channel by itself that starts as bilinear interpolation.

    Caffe's Deconvolution with as many groups as channels, and no bias.

    Args:
        size: side of the kernel.
        stride: the factor of upsampling.
        padding: rows and columns cut off on each side.

    Input (B, h, w, C), output (B, (h - 1) stride + size - 2 padding, ..., C).
    """

    def __init__(self, size: int, stride: int, *, padding: int = 0, **kwargs: Any):
        super().__init__(**kwargs)
        self.size, self.stride, self.padding = size, stride, padding

    def build(self, shape: Any) -> None:
        def bilinear(shape: tuple[int, ...], dtype: Any = None) -> Any:
            kernel = np.broadcast_to(_bilinear(self.size)[:, :, None], shape)
            return keras.ops.convert_to_tensor(kernel, dtype)

        self.kernel = self.add_weight(
            name="kernel", shape=(self.size, self.size, shape[-1]), initializer=bilinear
        )

    def call(self, x: Any) -> Any:
        # No backend has grouped transposed convolutions: a full kernel, 0 off its diagonal.
        kernel = self.kernel[..., None] * keras.ops.eye(x.shape[-1], dtype=self.compute_dtype)
        y = keras.ops.conv_transpose(x, kernel, self.stride, padding="valid")
        inner = slice(self.padding, -self.padding or None)
        return y[:, inner, inner]

    def compute_output_shape(self, shape: Any) -> Any:
        def side(n: int | None) -> int | None:
            return None if n is None else (n - 1) * self.stride + self.size - 2 * self.padding

        return (shape[0], side(shape[1]), side(shape[2]), shape[3])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "size": self.size,
            "stride": self.stride,
            "padding": self.padding,
        }
