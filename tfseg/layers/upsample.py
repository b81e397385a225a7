"""Transposed convolutions as upsampling, as FCN has them."""

from typing import Any

import keras
import numpy as np


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
        factor = (height + 1) // 2
        centre = factor - 1 if height % 2 else factor - 0.5
        line = 1 - np.abs(np.arange(height) - centre) / factor
        kernel = np.zeros(shape)
        kernel[:, :, range(out), range(out)] = np.outer(line, line)[:, :, None]
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
