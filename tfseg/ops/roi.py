"""What a head sees of a region: RoIAlign, RoIPool and RoIWarp on the levels of a pyramid.

A region's features are bilinear samples, averaged. The rule is separable: they are R F C^T with a
small matrix R of weights for the rows of the map F and another for its columns, both computed
from the box. F is read in windows of WINDOW x WINDOW cells, as many as a region covers, so any
region at any sampling ratio costs what it covers.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

from tfseg.ops.boxes import area

#: side of the windows that maps are read in, and how many are read at once
WINDOW = 16
_AT_ONCE = 64


class _Table(NamedTuple):
    """The cells of all levels of a batch in one table, and where each region's map lies in it.

    Attributes:
        cells: (T, C).
        first: int32 (R,): the row of the region's map's first cell.
        heights: int32 (R,): of its map.
        widths: int32 (R,).
        boxes: float32 (R, 4) in cells of its map.
    """

    cells: Any
    first: Any
    heights: Any
    widths: Any
    boxes: Any


def _table(features: Sequence[Any], strides: Sequence[int], boxes: Any, levels: Any) -> _Table:
    shapes = [ops.shape(f) for f in features]
    channels = features[0].shape[-1]
    cells = ops.concatenate([ops.reshape(f, (-1, channels)) for f in features], axis=0)
    heights = ops.stack([ops.cast(s[1], "int32") for s in shapes])
    widths = ops.stack([ops.cast(s[2], "int32") for s in shapes])
    batch, count = ops.shape(boxes)[0], ops.shape(boxes)[1]
    sizes = heights * widths * ops.cast(batch, "int32")
    starts = ops.cumsum(sizes) - sizes
    levels = ops.reshape(levels, (-1,))
    own_h, own_w = ops.take(heights, levels), ops.take(widths, levels)
    image = ops.cast(ops.repeat(ops.arange(batch), count), "int32")
    scale = ops.take(ops.convert_to_tensor([1.0 / s for s in strides], "float32"), levels)
    flat = ops.stop_gradient(ops.reshape(boxes, (-1, 4))) * scale[:, None]
    return _Table(cells, ops.take(starts, levels) + image * own_h * own_w, own_h, own_w, flat)


class _Axis(NamedTuple):
    """Samples of regions along one axis: ``count`` in each of ``bins`` equal bins.

    Attributes:
        start: float32 (R,): where the first bin begins, in cells whose centres are integers.
        bin: float32 (R,): width of a bin.
        count: int32 (R,): samples in each bin.
        size: int32 (R,): cells of the map.
    """

    start: Any
    bin: Any
    count: Any
    size: Any

    def first_cell(self) -> Any:
        """The first cell that a region needs, int32 (R,)."""
        return self._cell(ops.floor(self.start))

    def windows(self, bins: int) -> Any:
        """How many windows a region needs, int32 (R,)."""
        last = self._cell(ops.ceil(self.start + self.bin * bins))
        return (last - self.first_cell()) // WINDOW + 1

    def _cell(self, place: Any) -> Any:
        return ops.clip(ops.cast(ops.clip(place, -1e6, 1e6), "int32"), 0, self.size - 1)

    def take(self, rows: Any) -> "_Axis":
        """The same for some of the regions."""
        return _Axis(*(ops.take(value, rows) for value in self))

    def weights(self, cells: Any, bins: int) -> Any:
        """The weight of each cell in each bin's average.

        A sample more than one cell off the map counts 0, and one between is moved onto the map,
        as in Detectron's RoIAlign.

        Args:
            cells: int32 (R, K).

        Returns:
            float32 (R, bins, K).
        """
        size, number = ops.cast(self.size, "float32"), ops.cast(self.count, "float32")
        edge = self.start[:, None] + self.bin[:, None] * ops.arange(bins, dtype="float32")
        step = self.bin / number
        centers = ops.cast(cells, "float32")[:, None]

        def add(k: Any, total: Any) -> tuple[Any, Any]:
            place = edge + (ops.cast(k, "float32") + 0.5) * step[:, None]
            inside = ops.logical_and(place >= -1, place <= size[:, None])
            inside = ops.logical_and(inside, (k < self.count)[:, None])
            place = ops.clip(place, 0.0, size[:, None] - 1)
            near = ops.maximum(1 - ops.abs(place[..., None] - centers), 0.0)
            return k + 1, total + ops.where(inside[..., None], near, 0.0)

        none = ops.zeros_like(centers) * edge[..., None]
        most = ops.max(self.count)
        zero = ops.convert_to_tensor(0, "int32")
        _, total = ops.while_loop(lambda k, _: k < most, add, (zero, none))
        return total / number[:, None, None]


def _windows(table: _Table, rows: _Axis, columns: _Axis, bins: int, number: Any) -> Any:
    """Windows of regions: which region, its weights and its cells.

    Args:
        number: int32 (n,), among all windows of all regions, one region after the other.

    Returns:
        region int32 (n,), row weights float32 (n, bins, K), column weights, and rows of the
        table int32 (n, K, K). A number past the last window has weights 0.
    """
    down, across = rows.windows(bins), columns.windows(bins)
    ends = ops.cumsum(down * across)
    region = ops.cast(ops.searchsorted(ends, number, side="right"), "int32")
    there = region < ops.shape(ends)[0]
    region = ops.where(there, region, 0)
    own_across = ops.take(across, region)
    own = number - ops.take(ends - down * across, region)
    rows, columns = rows.take(region), columns.take(region)
    reach = ops.arange(WINDOW, dtype="int32")
    y = (rows.first_cell() + own // own_across * WINDOW)[:, None] + reach
    x = (columns.first_cell() + own % own_across * WINDOW)[:, None] + reach
    by_row = rows.weights(y, bins) * ops.cast(there, "float32")[:, None, None]
    by_column = columns.weights(x, bins)
    y = ops.minimum(y, rows.size[:, None] - 1)
    x = ops.minimum(x, columns.size[:, None] - 1)
    first = ops.take(table.first, region)[:, None, None]
    return (
        region,
        by_row,
        by_column,
        first + y[:, :, None] * columns.size[:, None, None] + x[:, None],
    )


def _samples(table: _Table, rows: _Axis, columns: _Axis, bins: int) -> Any:
    """R F C^T of every region, (R, bins, bins, C), with its gradient in the table."""
    cells, regions = table.cells, ops.shape(table.boxes)[0]
    channels = cells.shape[-1]
    total = ops.sum(rows.windows(bins) * columns.windows(bins))
    zero = ops.convert_to_tensor(0, "int32")

    def each(start: Any, body: Callable[..., Any]) -> Any:
        """Windows one lot after the other; ``body(result, lot)`` adds a lot's share."""

        def step(done: Any, result: Any) -> tuple[Any, Any]:
            lot = done + ops.arange(_AT_ONCE, dtype="int32")
            return done + _AT_ONCE, body(result, *_windows(table, rows, columns, bins, lot))

        return ops.while_loop(lambda done, _: done < total, step, (zero, start))[1]

    @ops.custom_gradient
    def pooled(cells: Any) -> Any:
        def add(result: Any, region: Any, by_row: Any, by_column: Any, places: Any) -> Any:
            seen = ops.reshape(ops.take(cells, places, axis=0), (_AT_ONCE, WINDOW, -1))
            weights = ops.cast(by_row, cells.dtype), ops.cast(by_column, cells.dtype)
            seen = ops.matmul(weights[0], seen)
            seen = ops.reshape(seen, (_AT_ONCE, bins, WINDOW, channels))
            found = ops.matmul(weights[1][:, None], seen)
            flat = ops.reshape(found, (_AT_ONCE, bins * bins * channels))
            return ops.scatter_update(result, region[:, None], flat, reduction="add")

        start = ops.zeros((regions, bins * bins * channels), cells.dtype)
        result = ops.reshape(each(start, add), (regions, bins, bins, channels))

        def gradient(*args: Any, upstream: Any = None) -> Any:
            above = args[0] if upstream is None else upstream

            def back(result: Any, region: Any, by_row: Any, by_column: Any, places: Any) -> Any:
                weights = ops.cast(by_row, cells.dtype), ops.cast(by_column, cells.dtype)
                own = ops.take(above, region, axis=0)
                own = ops.matmul(ops.transpose(weights[1], (0, 2, 1))[:, None], own)
                own = ops.reshape(own, (_AT_ONCE, bins, WINDOW * channels))
                own = ops.matmul(ops.transpose(weights[0], (0, 2, 1)), own)
                own = ops.reshape(own, (_AT_ONCE * WINDOW * WINDOW, channels))
                index = ops.reshape(places, (-1, 1))
                return ops.scatter_update(result, index, own, reduction="add")

            return each(ops.zeros_like(cells), back)

        return result, gradient

    return pooled(cells)


def _align(table: _Table, size: int, ratio: int, aligned: bool, reduce: str) -> Any:
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (table.boxes[:, i] - shift for i in range(4))

    def axis(low: Any, high: Any, cells: Any) -> _Axis:
        side = high - low if aligned else ops.maximum(high - low, 1.0)
        count = ops.full_like(cells, ratio)
        if not ratio:
            count = ops.maximum(ops.cast(ops.ceil(side / size), "int32"), 1)
        return _Axis(low, side / size, count, cells)

    rows, columns = axis(y1, y2, table.heights), axis(x1, x2, table.widths)
    if reduce == "average":
        return _samples(table, rows, columns, size)
    # Each sample in a bin of its own, then the largest of each bin.
    fine = [_Axis(a.start, a.bin / ratio, ops.ones_like(a.count), a.size) for a in (rows, columns)]
    return ops.max_pool(_samples(table, *fine, size * ratio), ratio, ratio)


def _pool(table: _Table, size: int) -> Any:
    """The largest value of each bin of the box rounded to cells."""
    corners = ops.cast(ops.floor(table.boxes + 0.5), "int32")
    low_x, low_y, high_x, high_y = (corners[:, i] for i in range(4))
    bins = ops.arange(size, dtype="float32")

    def limits(low: Any, high: Any, cells: Any) -> tuple[Any, Any]:
        step = ops.cast(ops.maximum(high - low + 1, 1), "float32")[:, None] / size
        first = ops.cast(ops.floor(bins * step), "int32") + low[:, None]
        last = ops.cast(ops.ceil((bins + 1) * step), "int32") + low[:, None]
        return tuple(ops.clip(v, 0, cells[:, None]) for v in (first, last))  # type: ignore

    top, bottom = limits(low_y, high_y, table.heights)
    left, right = limits(low_x, high_x, table.widths)
    down = ops.max((bottom[:, -1] - top[:, 0] + WINDOW - 1) // WINDOW)
    across = ops.max((right[:, -1] - left[:, 0] + WINDOW - 1) // WINDOW)
    reach = ops.arange(WINDOW, dtype="int32")
    lowest = ops.cast(float("-inf"), table.cells.dtype)

    def largest(values: Any, inside: Any, axis: int) -> Any:
        """The maxima over an axis, each bin's over the cells that ``inside`` gives it."""
        found = [ops.max(ops.where(inside[:, i], values, lowest), axis=axis) for i in range(size)]
        return ops.stack(found, axis=axis)

    def look(done: Any, best: Any) -> tuple[Any, Any]:
        y = (top[:, :1] + done // across * WINDOW) + reach
        x = (left[:, :1] + done % across * WINDOW) + reach
        in_row = ops.logical_and(y[:, None] >= top[..., None], y[:, None] < bottom[..., None])
        in_column = ops.logical_and(x[:, None] >= left[..., None], x[:, None] < right[..., None])
        y = ops.clip(y, 0, table.heights[:, None] - 1)
        x = ops.clip(x, 0, table.widths[:, None] - 1)
        cell = table.first[:, None, None] + y[:, :, None] * table.widths[:, None, None] + x[:, None]
        seen = ops.take(table.cells, cell, axis=0)
        seen = largest(seen, in_column[:, :, None, :, None], 2)
        return done + 1, ops.maximum(best, largest(seen, in_row[..., None, None], 1))

    shape = (ops.shape(table.boxes)[0], size, size, table.cells.shape[-1])
    start = ops.full(shape, float("-inf"), table.cells.dtype)
    total, zero = down * across, ops.convert_to_tensor(0, "int32")
    _, best = ops.while_loop(lambda done, _: done < total, look, (zero, start))
    return ops.where(best == lowest, ops.zeros_like(best), best)


def pool_regions(
    features: Sequence[Any],
    strides: Sequence[int],
    boxes: Any,
    levels: Any,
    size: int,
    *,
    op: str = "align",
    sampling_ratio: int = 0,
    aligned: bool = True,
    reduce: str = "average",
) -> Any:
    """The features of boxes, each from one level of a pyramid.

    - "align" (Mask R-CNN, section 3; Detectron's and detectron2's RoIAlign): in each of
      size x size bins the average, or the maximum, of bilinear samples.
    - "pool" (Fast R-CNN, section 2.1; Caffe's ROIPooling): the box rounded to cells, and the
      maximum of each bin's cells.
    - "warp" (Dai et al., Instance-aware Semantic Segmentation, 2016; as Mask R-CNN, section 4.3
      compares it): the box rounded to cells like "pool"'s, sampled like "align"'s.

    Args:
        features: float (B, h, w, C), a map a level.
        strides: pixels of a cell, an integer a level.
        boxes: float32 (B, R, 4) in pixels. No gradient flows to them.
        levels: int32 (B, R), index of the level in ``features``.
        size: bins of a side.
        op: "align", "pool" or "warp".
        sampling_ratio: samples of a bin along each side; 0: the bin's side in cells, rounded up.
        aligned: cell i has its centre at i + 0.5 (detectron2's ROIAlignV2). False: at i, and a
            box is at least one cell large (Detectron, torchvision).
        reduce: "average" or "max" of the samples.

    Returns:
        float (B, R, size, size, C).

    Raises:
        ValueError: another op or reduce, or the maximum of an adaptive number of samples.
    """
    if op not in ("align", "pool", "warp") or reduce not in ("average", "max"):
        raise ValueError(
            f"op must be align, pool or warp, and reduce average or max, not {op!r}, {reduce!r}"
        )
    if reduce == "max" and not sampling_ratio and op != "pool":
        raise ValueError("the maximum of samples needs a sampling_ratio above 0")
    table = _table(features, strides, boxes, levels)
    if op == "pool":
        pooled = _pool(table, size)
    else:
        if op == "warp":
            corners = ops.floor(table.boxes + 0.5)
            far = ops.maximum(corners[:, 2:], corners[:, :2]) + 1
            # Whole cells: those from the first to the last, both included.
            table = table._replace(boxes=ops.concatenate([corners[:, :2], far], axis=1))
            aligned = True
        pooled = _align(table, size, sampling_ratio, aligned, reduce)
    batch = ops.shape(boxes)[0]
    return ops.reshape(pooled, (batch, -1, size, size, features[0].shape[-1]))


def pyramid_levels(boxes: Any, lowest: int, highest: int, epsilon: float = 1e-8) -> Any:
    """Which level of a feature pyramid a box is read from (Lin et al., 2017, equation 1).

    Level 4 holds boxes of 224 x 224, as in ImageNet training.

    Args:
        boxes: float32 (..., 4) in pixels.
        lowest: the finest level, mostly 2.
        highest: the coarsest, mostly 5.
        epsilon: added to the logarithm: 1e-8 in detectron2, 1e-6 in torchvision.

    Returns:
        int32 (...), counted from 0 at the finest.
    """
    size = ops.sqrt(area(boxes))
    level = ops.floor(4 + ops.log(size / 224 + 1e-30) / math.log(2.0) + epsilon)
    return ops.cast(ops.clip(level, lowest, highest), "int32") - lowest
