"""RoIAlign: bilinear samples of a region's map, averaged or their maximum.

The average is separable: it is R F C^T with a small matrix R of weights for the rows of the map F
and another for its columns, both computed from the box. F is read in windows of WINDOW x WINDOW
cells, as many as a region covers, so any region at any sampling ratio costs what it covers.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from tfseg.ops.roi_table import WINDOW, Table, cells_at_once, in_lots


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
        """How many windows a region needs, int32 (R,); none without samples."""
        last = self._cell(ops.ceil(self.start + self.bin * bins))
        return ops.where(self.count > 0, (last - self.first_cell()) // WINDOW + 1, 0)

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
        size = ops.cast(self.size, "float32")
        number = ops.cast(ops.maximum(self.count, 1), "float32")
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


def _windows(table: Table, rows: _Axis, columns: _Axis, bins: int, number: Any) -> Any:
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
    own_across = ops.maximum(ops.take(across, region), 1)  # the first may have no window
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


def _samples(table: Table, rows: _Axis, columns: _Axis, bins: int) -> Any:
    """R F C^T of every region, (R, bins, bins, C), with its gradient in the table."""
    cells, regions = table.cells, ops.shape(table.boxes)[0]
    channels = cells.shape[-1]
    at_once = cells_at_once(channels) // WINDOW**2
    total = ops.sum(rows.windows(bins) * columns.windows(bins))

    def each(start: Any, body: Callable[..., Any]) -> Any:
        def lot(result: Any, number: Any) -> Any:
            return body(result, *_windows(table, rows, columns, bins, number))

        return in_lots(total, at_once, start, lot)

    def pooled(cells: Any) -> Any:
        def add(result: Any, region: Any, by_row: Any, by_column: Any, places: Any) -> Any:
            seen = ops.reshape(ops.take(cells, places, axis=0), (at_once, WINDOW, -1))
            weights = ops.cast(by_row, cells.dtype), ops.cast(by_column, cells.dtype)
            seen = ops.matmul(weights[0], seen)
            seen = ops.reshape(seen, (at_once, bins, WINDOW, channels))
            found = ops.matmul(weights[1][:, None], seen)
            flat = ops.reshape(found, (at_once, bins * bins * channels))
            flat = ops.cast(flat, "float32")
            return ops.scatter_update(result, region[:, None], flat, reduction="add")

        # Sums in float32: bfloat16 stops growing after a few hundred regions on one cell.
        start = ops.zeros((regions, bins * bins * channels), "float32")
        result = ops.reshape(each(start, add), (regions, bins, bins, channels))

        def gradient(*args: Any, upstream: Any = None) -> Any:
            above = args[0] if upstream is None else upstream

            def back(result: Any, region: Any, by_row: Any, by_column: Any, places: Any) -> Any:
                weights = ops.cast(by_row, cells.dtype), ops.cast(by_column, cells.dtype)
                own = ops.take(above, region, axis=0)
                own = ops.matmul(ops.transpose(weights[1], (0, 2, 1))[:, None], own)
                own = ops.reshape(own, (at_once, bins, WINDOW * channels))
                own = ops.matmul(ops.transpose(weights[0], (0, 2, 1)), own)
                own = ops.reshape(own, (at_once * WINDOW * WINDOW, channels))
                index = ops.reshape(places, (-1, 1))
                own = ops.cast(own, "float32")
                return ops.scatter_update(result, index, own, reduction="add")

            return ops.cast(each(ops.zeros_like(cells, "float32"), back), cells.dtype)

        return ops.cast(result, cells.dtype), gradient

    return ops.custom_gradient(pooled)(cells)


def align(table: Table, size: int, ratio: int, aligned: bool, reduce: str) -> Any:
    """RoIAlign of the table's boxes, (R, size, size, C); see `tfseg.ops.roi.pool_regions`."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (table.boxes[:, i] - shift for i in range(4))

    def axis(low: Any, high: Any, cells: Any) -> _Axis:
        side = ops.maximum(high - low, 0.0 if aligned else 1.0)
        count = ops.full_like(cells, ratio)
        if not ratio:
            # side / size rounded up, also where compilers make the last bit of it another.
            near = ops.round(side / size)
            count = ops.cast(near, "int32") + ops.cast(near * size < side, "int32")
        return _Axis(low, side / size, count, cells)

    rows, columns = axis(y1, y2, table.heights), axis(x1, x2, table.widths)
    if reduce == "average":
        return _samples(table, rows, columns, size)
    # Each sample in a bin of its own, then the largest of each bin.
    rows, columns = (
        _Axis(a.start, a.bin / ratio, ops.ones_like(a.count), a.size) for a in (rows, columns)
    )
    return ops.max_pool(_samples(table, rows, columns, size * ratio), ratio, ratio)
