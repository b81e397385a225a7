"""Windows of images as DeconvNet sees them: squares around boxes, over the border too."""

import numpy as np


def context_windows(boxes: np.ndarray, factor: float = 1.2) -> np.ndarray:
    """Squares around boxes, with some context.

    Noh et al. (section 5.1) extend boxes 1.2 times; the windows of their released lists are
    squares of 1.2 times the longer side.

    Args:
        boxes: (N, 4) xyxy, continuous pixels.
        factor: the square's side over the box's longer one.

    Returns:
        int32 (N, 4) xyxy: rows y1 up to y2 and columns x1 up to x2, both without the last. They
        may lie partly outside the image.
    """
    boxes = np.asarray(boxes, np.float64).reshape(-1, 4)
    low, high = boxes[:, :2], boxes[:, 2:]
    side = np.maximum(np.rint(factor * (high - low).max(axis=1, keepdims=True)), 1)
    corner = np.rint((low + high - side) / 2)
    return np.concatenate([corner, corner + side], axis=1).astype(np.int32)


def cut_window(array: np.ndarray, window: np.ndarray, fill: int = 0) -> np.ndarray:
    """A window of an image or mask, with ``fill`` where it lies outside.

    Args:
        array: (H, W, ...).
        window: integers (x1, y1, x2, y2), exclusive of x2 and y2.
        fill: the value outside.

    Returns:
        (y2 - y1, x2 - x1, ...) of the same dtype.
    """
    x1, y1, x2, y2 = (int(v) for v in window)
    out = np.full((y2 - y1, x2 - x1, *array.shape[2:]), fill, array.dtype)
    inside = inner(window, array.shape[:2])
    rows = slice(inside[1] - y1, inside[3] - y1)
    columns = slice(inside[0] - x1, inside[2] - x1)
    out[rows, columns] = array[inside[1] : inside[3], inside[0] : inside[2]]
    return out


def inner(window: np.ndarray, size: tuple[int, ...]) -> tuple[int, int, int, int]:
    """The part of a window that lies in an image of (height, width) ``size``; maybe empty."""
    height, width = size
    x1, y1, x2, y2 = (int(v) for v in window)
    left, top = min(max(x1, 0), width), min(max(y1, 0), height)
    return left, top, max(left, min(x2, width)), max(top, min(y2, height))


def box_overlaps(boxes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) and (M, 4), xyxy: float64 (N, M)."""
    boxes, others = np.asarray(boxes, np.float64), np.asarray(others, np.float64)
    low = np.maximum(boxes[:, None, :2], others[None, :, :2])
    high = np.minimum(boxes[:, None, 2:], others[None, :, 2:])
    common = np.prod(np.clip(high - low, 0, None), axis=-1)
    first, second = (np.prod(b[:, 2:] - b[:, :2], axis=-1) for b in (boxes, others))
    overlaps: np.ndarray = common / (first[:, None] + second[None] - common)
    return overlaps
