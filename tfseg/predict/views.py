"""The views of an image that prediction takes: sizes, orientations, windows. NumPy in and out."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf


class Orientation(NamedTuple):
    """A rotation by ``quarters`` times 90 degrees counter-clockwise, then maybe a mirroring."""

    quarters: int
    mirrored: bool

    def apply(self, image: np.ndarray) -> np.ndarray:
        """(H, W, C) in this orientation."""
        turned = np.rot90(image, self.quarters)
        return np.ascontiguousarray(turned[:, ::-1] if self.mirrored else turned)

    def undo(self, prediction: np.ndarray) -> np.ndarray:
        """A prediction on an applied image, back in the original orientation."""
        return np.rot90(prediction[:, ::-1] if self.mirrored else prediction, -self.quarters)


UPRIGHT = Orientation(0, False)
MIRRORED = Orientation(0, True)
#: the eight orientations of the square grid
EIGHT = tuple(Orientation(q, m) for m in (False, True) for q in range(4))


def scaled_size(height: int, width: int, scale: float, base_size: int | None) -> tuple[int, int]:
    """The size that an image is predicted at.

    Args:
        height: the image's.
        width: the image's.
        scale: the factor.
        base_size: None: both sides times ``scale``; else the long side becomes
            ``base_size * scale + 1`` and the short one follows (PSPNet, evaluation/eval_sub.m).
    """
    if base_size is None:
        return max(1, _round(height * scale)), max(1, _round(width * scale))
    long_side = _round(base_size * scale) + 1
    if height > width:
        return long_side, max(1, _round(long_side / height * width))
    return max(1, _round(long_side / width * height)), long_side


def _round(value: float) -> int:
    """Halves upwards, as MATLAB's round; Python's goes to the even number."""
    return math.floor(value + 0.5)


def resize_bilinear(values: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Bilinear resizing as MATLAB's imresize does it, which PSPNet's evaluation uses.

    Half-pixel centres, and when shrinking the triangle is widened to average what it covers
    (antialiasing); plain bilinear sampling would skip pixels and alias. uint8 is rounded back
    to uint8. imresize mirrors at the border where here the weights inside are renormalised, so
    that shrunken images differ in their outermost pixels alone.

    Args:
        values: uint8 or float32 (H, W, C).
        size: (height, width) wanted.

    Returns:
        (height, width, C) of the same dtype; ``values`` itself if it has that size.
    """
    if values.shape[:2] == tuple(size):
        return values
    with tf.device("CPU"):  # the antialiasing kernel has no other
        resized: np.ndarray = tf.image.resize(
            values, size, method="bilinear", antialias=True
        ).numpy()
    if values.dtype == np.uint8:
        resized = np.floor(resized + 0.5).clip(0, 255).astype(np.uint8)
    return resized


def window_starts(size: int, window: int, step: int) -> list[int]:
    """Where windows of a side start, the last one shifted back so that it ends at the border.

    ``ceil((size - window) / step) + 1`` windows, or one if ``size`` is no more than ``window``
    (PSPNet, evaluation/scale_process.m).
    """
    count = math.ceil(max(0, size - window) / step) + 1
    return [min(i * step, max(0, size - window)) for i in range(count)]


def coverage(starts: list[int], window: int, size: int) -> np.ndarray:
    """How many of the windows cover each place of a side: float32 (size,)."""
    counts = np.zeros(size, np.float32)
    for start in starts:
        counts[start : start + window] += 1
    return counts


def mirror(index: np.ndarray, size: int) -> np.ndarray:
    """Where places outside 0 .. size - 1 fall when a side is mirrored at both ends, any distance.

    The border itself is not repeated: -1 is 1. U-Net's release pads so
    (mycaffe_tiled_forward5_cpu.m: ``padded(1:from-1) = padded(from+pad:-1:from+1)``).
    """
    if size == 1:
        return np.zeros_like(index)
    period = 2 * (size - 1)
    folded: np.ndarray = np.abs(index) % period
    return np.where(folded < size, folded, period - folded)


def interpolate_cells(values: np.ndarray, stride: int, size: tuple[int, int]) -> np.ndarray:
    """Cells between which pixels are interpolated: cell i is pixel ``stride`` i's value.

    Dilation's util.interp_map, which reads beyond the last cell where pixels lie behind it; here
    they have its value.

    Args:
        values: float32 (h, w, C).
        stride: pixels to a cell.
        size: (height, width) wanted, at most ``stride`` times the cells.

    Returns:
        float32 (height, width, C).
    """
    for axis, pixels in enumerate(size):
        place = np.arange(pixels)
        near = place // stride
        far = np.minimum(near + 1, values.shape[axis] - 1)
        share = (place % stride / stride).astype(np.float32)
        share = share.reshape([-1 if i == axis else 1 for i in range(values.ndim)])
        values = values.take(near, axis) * (1 - share) + values.take(far, axis) * share
    return values


def batches(items: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """The items in lists of ``size``; the last may be shorter."""
    iterator = iter(items)
    while batch := list(islice(iterator, size)):
        yield batch
