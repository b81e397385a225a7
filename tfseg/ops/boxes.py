"""Boxes: areas, overlaps, and the coding of one box relative to another.

Everywhere a box is x1, y1, x2, y2 in continuous pixels, half-open: its width is x2 - x1. Detectron
counts the last pixel in (width x2 - x1 + 1); its boxes are these with x2 and y2 one smaller.
"""

import math
from typing import Any

from keras import ops

#: what the logarithm of a side's growth is limited to: Detectron's BBOX_XFORM_CLIP
MAX_GROWTH = math.log(1000.0 / 16)


def area(boxes: Any) -> Any:
    """Areas of boxes (..., 4) as (...); 0 of boxes whose sides are negative."""
    sides = ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0)
    return sides[..., 0] * sides[..., 1]


def intersection(a: Any, b: Any) -> Any:
    """The area that each box of ``a`` shares with each of ``b``.

    Args:
        a: float32 (..., N, 4).
        b: float32 (..., M, 4).

    Returns:
        float32 (..., N, M).
    """
    # Coordinate by coordinate: no (..., N, M, 2) is held.
    x1, y1, x2, y2 = (a[..., :, None, i] for i in range(4))
    u1, v1, u2, v2 = (b[..., None, :, i] for i in range(4))
    width = ops.maximum(ops.minimum(x2, u2) - ops.maximum(x1, u1), 0.0)
    height = ops.maximum(ops.minimum(y2, v2) - ops.maximum(y1, v1), 0.0)
    return width * height


def iou(a: Any, b: Any) -> Any:
    """Intersection over union of each box of ``a`` with each of ``b``; 0 of two empty boxes.

    Args:
        a: float32 (..., N, 4).
        b: float32 (..., M, 4).

    Returns:
        float32 (..., N, M).
    """
    shared = intersection(a, b)
    union = area(a)[..., :, None] + area(b)[..., None, :] - shared
    return ops.divide_no_nan(shared, union)


def ioa(a: Any, b: Any) -> Any:
    """The share of each box of ``a`` that lies in each of ``b``; 0 of an empty box.

    Args:
        a: float32 (..., N, 4).
        b: float32 (..., M, 4).

    Returns:
        float32 (..., N, M).
    """
    return ops.divide_no_nan(intersection(a, b), area(a)[..., :, None])


def _centred(boxes: Any) -> tuple[Any, Any]:
    sides = boxes[..., 2:] - boxes[..., :2]
    return boxes[..., :2] + 0.5 * sides, sides


def encode(boxes: Any, anchors: Any, weights: tuple[float, float, float, float]) -> Any:
    """Boxes as offsets from anchors (R-CNN, appendix C).

    (x - x_a) / w_a and (y - y_a) / h_a of the centres, log(w / w_a) and log(h / h_a), each times
    its weight.

    Args:
        boxes: float32 (..., 4) with positive sides.
        anchors: float32, of the same shape or broadcastable to it, with positive sides.
        weights: of x, y, width and height.

    Returns:
        float32 (..., 4).
    """
    (center, sides), (center_a, sides_a) = _centred(boxes), _centred(anchors)
    offsets = ops.concatenate([(center - center_a) / sides_a, ops.log(sides / sides_a)], axis=-1)
    return offsets * ops.convert_to_tensor(weights, offsets.dtype)


def decode(deltas: Any, anchors: Any, weights: tuple[float, float, float, float]) -> Any:
    """The boxes that `encode` made offsets of.

    A side grows by 1000 / 16 at the most, so that no wild offset makes an infinite box.

    Args:
        deltas: float32 (..., 4).
        anchors: float32 (..., 4), broadcastable.
        weights: as in `encode`.

    Returns:
        float32 (..., 4).
    """
    deltas = deltas / ops.convert_to_tensor(weights, deltas.dtype)
    center_a, sides_a = _centred(anchors)
    center = deltas[..., :2] * sides_a + center_a
    half = 0.5 * sides_a * ops.exp(ops.minimum(deltas[..., 2:], MAX_GROWTH))
    return ops.concatenate([center - half, center + half], axis=-1)


def clip(boxes: Any, sizes: Any) -> Any:
    """Boxes cut to their images.

    Args:
        boxes: float32 (B, N, 4).
        sizes: float32 (B, 2): height and width.

    Returns:
        float32 (B, N, 4).
    """
    limits = ops.stack([sizes[:, 1], sizes[:, 0], sizes[:, 1], sizes[:, 0]], axis=-1)
    return ops.clip(boxes, 0.0, limits[:, None])
