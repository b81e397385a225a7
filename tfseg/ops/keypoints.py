"""Keypoints as places on a region's heat map, and back."""

from typing import Any

from keras import ops


def encode_keypoints(keypoints: Any, boxes: Any, size: int) -> tuple[Any, Any]:
    """The cell of each region's heat map that holds the keypoint.

    Coordinates are rounded down, and a keypoint on the right or lower border belongs to the last
    cell, as in detectron2's Keypoints.to_heatmap and torchvision.

    Args:
        keypoints: float32 (..., K, 3): x, y in continuous pixels, and the visibility, 0 for a
            keypoint that is not labelled.
        boxes: float32 (..., 4), the regions.
        size: cells a side of the heat map.

    Returns:
        index: int32 (..., K), row * size + column; 0 where not valid.
        valid: bool (..., K): labelled and inside the region.
    """
    place, borders = keypoints[..., :2], boxes[..., None, 2:]
    corner = boxes[..., None, :2]
    cells = ops.floor((place - corner) * ops.divide_no_nan(float(size), borders - corner))
    cells = ops.where(place == borders, size - 1.0, cells)
    inside = ops.all(ops.logical_and(cells >= 0, cells < size), axis=-1)
    # A box without extent divides nothing: its border is its corner, and everything is outside.
    inside = ops.logical_and(inside, ops.all(borders > corner, axis=-1))
    valid = ops.logical_and(inside, keypoints[..., 2] > 0)
    cells = ops.cast(ops.where(valid[..., None], cells, 0.0), "int32")
    return cells[..., 1] * size + cells[..., 0], valid
