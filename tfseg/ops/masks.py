"""Masks of objects: from outlines to a grid in a box, and from there into an image."""

from typing import Any, Literal

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


def _hats(start: Any, step: Any, pixels: Any, cells: int) -> Any:
    """How much of each cell each pixel takes: linear interpolation, zeros beyond the border.

    Args:
        start: float32 (N,), where the first pixel's centre is, in cells whose centres are 0, 1...
        step: float32 (N,), cells a pixel.
        pixels: how many.
        cells: how many.

    Returns:
        float32 (N, pixels, cells).
    """
    places = start[:, None] + step[:, None] * ops.arange(pixels, dtype="float32")
    distance = ops.absolute(places[..., None] - ops.arange(cells, dtype="float32"))
    return ops.maximum(1.0 - distance, 0.0)


def paste(
    masks: Any,
    boxes: Any,
    height: Any,
    width: Any,
    *,
    convention: Literal["detectron2", "torchvision"] = "detectron2",
) -> Any:
    """Brings masks from their boxes into the image.

    "detectron2" (paste_masks_in_image) interpolates between the cells' centres where they lie in
    the box, and to zeros beyond the outermost. "torchvision", and Detectron, surround the mask
    with a cell of zeros, enlarge the box likewise, cut it to whole pixels x1, y1, x2, y2, all
    included, and resize the mask to that.

    Args:
        masks: float32 (N, M, M), probabilities.
        boxes: float32 (N, 4), in the image's pixels. A box without extent gives zeros in
            "detectron2".
        height: of the image; an integer or an integer scalar.
        width: of the image.
        convention: whose rule.

    Returns:
        float32 (N, height, width), probabilities; objects are where they are 0.5 or more
        ("torchvision": more than 0.5).

    Raises:
        ValueError: for another convention.
    """
    if convention not in ("detectron2", "torchvision"):
        raise ValueError(f"convention must be 'detectron2' or 'torchvision', not {convention!r}")
    cells = masks.shape[-1]
    corner, sides = boxes[:, :2], boxes[:, 2:] - boxes[:, :2]
    if convention == "detectron2":
        step = ops.divide_no_nan(float(cells), sides)
        start = (0.5 - corner) * step - 0.5
        # All weights of a box without extent are 0.
        start = ops.where(sides > 0, start, -1.0)
    else:
        centre, half = 0.5 * (boxes[:, 2:] + corner), 0.5 * sides * ((cells + 2) / cells)
        first, last = ops.trunc(centre - half), ops.trunc(centre + half)
        step = (cells + 2) / (last - first + 1.0)
        start = (0.5 - first) * step - 1.5
    columns = _hats(start[:, 0], step[:, 0], width, cells)
    rows = _hats(start[:, 1], step[:, 1], height, cells)
    return ops.matmul(ops.matmul(rows, masks), ops.swapaxes(columns, 1, 2))
