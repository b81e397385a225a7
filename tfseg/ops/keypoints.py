"""Keypoints as places on a region's heat map, and back."""

from typing import Any, Literal

import numpy as np
from keras import ops

#: side of the squares that enlarged heat maps are searched in, and how many at a time: their size
#: does not depend on the boxes'
_SIDE, _SQUARES = 64, 8
_LOWEST, _LAST = float(np.finfo(np.float32).min), int(np.iinfo(np.int32).min)


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


def _cubic(places: Any, length: Any, size: int) -> tuple[Any, Any]:
    """The four samples of ``size`` that bicubic interpolation to ``length`` takes, and how much.

    torch's kernel: half-pixel centres, a = -0.75 (Keys, 1981), the border repeated.

    Args:
        places: float32 (n, T), which of the ``length`` values.
        length: float32 (n, 1).
        size: samples there are.

    Returns:
        indices int32 (4, n, T) and weights float32 (4, n, T).
    """
    source = (places + 0.5) * (size / length) - 0.5
    low = ops.floor(source)
    near = source - low

    def inner(x: Any) -> Any:
        return (1.25 * x - 2.25) * x * x + 1.0

    def outer(x: Any) -> Any:
        return ((-0.75 * x + 3.75) * x - 6.0) * x + 3.0

    weights = [outer(near + 1.0), inner(near), inner(1.0 - near), outer(2.0 - near)]
    indices = [ops.clip(low + float(tap), 0.0, size - 1.0) for tap in (-1, 0, 1, 2)]
    return ops.cast(ops.stack(indices), "int32"), ops.stack(weights)


def _taken(lines: Any, first: Any, indices: Any, weights: Any) -> Any:
    """Sums of four weighted lines: of (L, D) at first (n,) + indices (4, n, T), (n, T, D)."""
    # Sums, not a product of matrices: an accelerator rounds these, and a rounded heat map's
    # highest place is another.
    found = 0.0
    for tap in range(4):
        line = ops.take(lines, first[:, None] + indices[tap], axis=0)
        found = found + weights[tap][..., None] * line
    return found


class _Squares:
    """The squares that cover all regions' enlarged heat maps, region by region.

    Args:
        heatmaps: float32 (N, S, S, K).
        heights: float32 (N,), whole numbers.
        widths: float32 (N,), whole numbers.
        there: bool (N,), the regions to look at.
    """

    def __init__(self, heatmaps: Any, heights: Any, widths: Any, there: Any):
        self.size, self.points = heatmaps.shape[2:]
        # Column by column, so that a column is one line.
        self.lines = ops.reshape(
            ops.transpose(heatmaps, (0, 2, 1, 3)), (-1, self.size * self.points)
        )
        self.heights, self.widths = heights, widths
        down, self.across = (
            ops.cast(ops.ceil(side / _SIDE), "int32") for side in (heights, widths)
        )
        counts = ops.where(there, down * self.across, 0)
        self.ends = ops.cumsum(counts)
        self.starts, self.total = self.ends - counts, ops.sum(counts)

    def best(self, number: Any) -> tuple[Any, Any, Any]:
        """What is highest in some squares.

        Args:
            number: int32 (n,), which squares; there may be fewer.

        Returns:
            The squares' regions int32 (n,), their highest values float32 (n, K), and where in
            the whole map these are first, row * width + column, int32 (n, K).
        """
        exists = number < self.total
        number = ops.minimum(number, self.total - 1)
        region = ops.sum(ops.cast(self.ends[None] <= number[:, None], "int32"), axis=1)
        width = ops.take(self.widths, region)[:, None]
        height = ops.take(self.heights, region)[:, None]
        inside, across = number - ops.take(self.starts, region), ops.take(self.across, region)
        steps = ops.arange(_SIDE, dtype="float32")
        row, column = (
            ops.cast(place * _SIDE, "float32")[:, None] + steps
            for place in (inside // across, inside % across)
        )
        values = self._interpolated(
            region, _cubic(row, height, self.size), _cubic(column, width, self.size)
        )
        there = ops.logical_and((row < height)[:, :, None], (column < width)[:, None])
        there = ops.logical_and(there, exists[:, None, None])
        values = ops.where(there[..., None], values, _LOWEST)
        values = ops.reshape(values, (-1, _SIDE * _SIDE, self.points))
        place = ops.cast(ops.argmax(values, axis=1), "int32")
        row, column, width = (ops.cast(x, "int32") for x in (row[:, :1], column[:, :1], width))
        place = (row + place // _SIDE) * width + column + place % _SIDE
        return region, ops.max(values, axis=1), place

    def _interpolated(self, region: Any, rows: Any, columns: Any) -> Any:
        """The squares, (n, T, T, K): columns first, as torch does."""
        x = _taken(self.lines, region * self.size, *columns)
        x = ops.reshape(x, (-1, _SIDE, self.size, self.points))
        x = ops.reshape(ops.transpose(x, (0, 2, 1, 3)), (-1, _SIDE * self.points))
        x = _taken(x, ops.arange(_SQUARES, dtype="int32") * self.size, *rows)
        return ops.reshape(x, (-1, _SIDE, _SIDE, self.points))


def _highest(squares: _Squares, regions: Any) -> tuple[Any, Any]:
    """The highest value of each region's enlarged heat maps, and its first place, (N, K) each."""

    def more(start: Any, best: Any, negated: Any) -> Any:
        del best, negated
        return start < squares.total

    def search(start: Any, best: Any, negated: Any) -> tuple[Any, Any, Any]:
        region, values, places = squares.best(start + ops.arange(_SQUARES, dtype="int32"))
        rows = region[:, None]
        # Scattered, not by segments: XLA must know their number inside the loop.
        highest = ops.scatter_update(best, rows, values, reduction="max")
        # Of equal values the first, which is the largest of negated places.
        kept = ops.where(highest == best, negated, _LAST)
        found = ops.where(values == ops.take(highest, region, axis=0), -places, _LAST)
        return start + _SQUARES, highest, ops.scatter_update(kept, rows, found, reduction="max")

    shape = (regions, squares.points)
    start = ops.convert_to_tensor(0, "int32")
    initial = start, ops.full(shape, _LOWEST, "float32"), ops.full(shape, _LAST, "int32")
    _, best, negated = ops.while_loop(more, search, initial)
    return best, -negated


def decode_keypoints(
    heatmaps: Any,
    boxes: Any,
    valid: Any = None,
    *,
    convention: Literal["detectron2", "torchvision"] = "detectron2",
) -> Any:
    """The keypoints that heat maps show, as detectron2's and torchvision's heatmaps_to_keypoints.

    Each region's maps are enlarged to its size in whole pixels, rounded up, by bicubic
    interpolation; the keypoint is the centre of the highest pixel, the first of equals. All of
    this is exact, and needs no memory for the enlarged maps.

    Args:
        heatmaps: float32 (N, S, S, K), logits.
        boxes: float32 (N, 4), the regions; sides below a pixel count as one.
        valid: bool (N,), the regions to look at; None: all.
        convention: what the score is. "detectron2": the highest pixel's exponential over the sum
            of those of the S x S logits, a probability that may exceed 1; "torchvision": the
            highest pixel's logit.

    Returns:
        float32 (N, K, 3): x, y, in the boxes' pixels, and score; 0 in regions not looked at.

    Raises:
        ValueError: for another convention.
    """
    if convention not in ("detectron2", "torchvision"):
        raise ValueError(f"convention must be 'detectron2' or 'torchvision', not {convention!r}")
    heatmaps = ops.stop_gradient(ops.convert_to_tensor(heatmaps))
    boxes = ops.stop_gradient(ops.convert_to_tensor(boxes))
    number = ops.shape(heatmaps)[0]
    there = ops.ones((number,), "bool") if valid is None else ops.convert_to_tensor(valid)
    sides = ops.maximum(boxes[:, 2:] - boxes[:, :2], 1.0)
    whole = ops.ceil(sides)
    squares = _Squares(heatmaps, whole[:, 1], whole[:, 0], there)
    score, place = _highest(squares, number)
    if convention == "detectron2":
        excess = ops.exp(heatmaps - score[:, None, None])
        score = 1.0 / ops.sum(excess, axis=(1, 2))
    width = ops.cast(whole[:, :1], "int32")
    cells = ops.cast(ops.stack([place % width, place // width], axis=-1), "float32")
    # Back from whole pixels to the box's own.
    points = (cells + 0.5) * (sides / whole)[:, None] + boxes[:, None, :2]
    found = ops.concatenate([points, score[..., None]], axis=-1)
    return ops.where(there[:, None, None], found, 0.0)
