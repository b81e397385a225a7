"""Masks of objects: from outlines to a grid in a box, and from there into an image."""

from typing import Any

from keras import ops


def _filled(first: Any, size: int) -> Any:
    """Rows of cells of which each crossing switches those from its first on.

    Args:
        first: int32 (R, E, size), by row; ``size`` where there is no crossing.

    Returns:
        bool (R, size, size).
    """
    # Counted by place, not compared with each column: no (R, E, size, size) is held.
    regions = ops.shape(first)[0]
    row = ops.reshape(ops.arange(regions * size, dtype="int32"), (-1, 1, size))
    places = ops.reshape(row * (size + 1) + first, (-1,))
    counts = ops.segment_sum(
        ops.ones_like(places, dtype="float32"), places, regions * size * (size + 1)
    )
    counts = ops.reshape(counts, (-1, size, size + 1))[..., :size]
    return ops.cumsum(counts, axis=-1) % 2 == 1


def rasterise(edges: Any, boxes: Any, size: int) -> Any:
    """Fills outlines by the even-odd rule, at the centres of a grid's cells.

    The target of Mask R-CNN's mask head: what of the object lies in the region. A cell is inside
    if a ray to its left crosses the outline an odd number of times; an edge counts where it
    reaches from above a row of centres to below it or back, its upper end included. Detectron
    and detectron2 let pycocotools draw the polygon on the grid, which includes cells that the
    outline only touches.

    Args:
        edges: float32 (..., E, 4), line segments x1, y1, x2, y2 in pixels. Horizontal ones
            change nothing, so segments of length 0 serve as padding.
        boxes: float32 (..., 4), the grids' extents in the same pixels. A box without extent
            gives an empty mask.
        size: cells a side.

    Returns:
        bool (..., size, size).
    """
    lead = ops.shape(boxes)[:-1]
    number = ops.shape(edges)[-2]
    edges = ops.reshape(edges, (-1, number, 1, 4))
    boxes = ops.reshape(boxes, (-1, 1, 1, 4))
    corner, sides = boxes[..., :2], boxes[..., 2:] - boxes[..., :2]
    # In cells: the first centre is at 0. (R, E, 1) each
    start = ops.divide_no_nan(edges[..., :2] - corner, sides) * size - 0.5
    end = ops.divide_no_nan(edges[..., 2:] - corner, sides) * size - 0.5
    (u1, v1), (u2, v2) = ((point[..., 0], point[..., 1]) for point in (start, end))
    row = ops.arange(size, dtype="float32")
    crosses = (v1 <= row) != (v2 <= row)
    u = u1 + (row - v1) * ops.divide_no_nan(u2 - u1, v2 - v1)
    # The first centre right of the crossing.
    first = ops.cast(ops.where(crosses, ops.clip(ops.ceil(u), 0, size), size), "int32")
    return ops.reshape(_filled(first, size), (*lead, size, size))
