"""Anchors: boxes of fixed sizes and shapes at every cell of a feature map."""

import math
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
from keras import ops

AnchorStyle = Literal["detectron2", "torchvision", "detectron"]


def cell_anchors(
    sizes: Sequence[float],
    ratios: Sequence[float],
    stride: int,
    style: AnchorStyle = "detectron2",
) -> np.ndarray:
    """The anchors of a map's first cell.

    - "detectron2" (``DefaultAnchorGenerator``): exact sides, centred on the cell's corner (0, 0),
      the ratios of one size beside each other.
    - "torchvision" (``AnchorGenerator``): the same with corners rounded, the sizes of one ratio
      beside each other.
    - "detectron" (``generate_anchors.py``): centred in the cell; the sides of a stride's square
      are rounded and then scaled; the sizes of one ratio beside each other.

    Args:
        sizes: square roots of the areas, in pixels.
        ratios: heights over widths.
        stride: pixels of a cell.
        style: whose rounding and order.

    Returns:
        float32 (len(sizes) * len(ratios), 4).
    """
    if style == "detectron":
        sides = []
        for ratio in ratios:
            width = round(math.sqrt(stride * stride / ratio))
            height = round(width * ratio)
            sides += [(width * size / stride, height * size / stride) for size in sizes]
        half = np.array(sides) / 2
        return np.concatenate([stride / 2 - half, stride / 2 + half], 1).astype(np.float32)
    pairs = [(size, ratio) for size in sizes for ratio in ratios]
    if style == "torchvision":
        pairs = [(size, ratio) for ratio in ratios for size in sizes]
    half = np.array([(s / math.sqrt(r) / 2, s * math.sqrt(r) / 2) for s, r in pairs])
    corners = np.concatenate([-half, half], 1)
    return (np.round(corners) if style == "torchvision" else corners).astype(np.float32)


def grid_anchors(cell: np.ndarray, height: Any, width: Any, stride: Any) -> Any:
    """The anchors of all cells of a map, row by row, a cell's beside each other.

    Args:
        cell: float32 (A, 4), of the first cell.
        height: rows of the map; an integer or an integer tensor.
        width: columns of the map.
        stride: pixels of a cell, or those of its height and of its width.

    Returns:
        float32 (height * width * A, 4).
    """
    down, across = stride if isinstance(stride, tuple) else (stride, stride)
    x = ops.cast(ops.arange(width) * across, "float32")
    y = ops.cast(ops.arange(height) * down, "float32")
    rows, columns = ops.meshgrid(y, x, indexing="ij")
    shifts = ops.stack([columns, rows, columns, rows], axis=-1)
    return ops.reshape(shifts[:, :, None] + cell, (-1, 4))
