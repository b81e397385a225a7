"""RoIPool: the largest of the cells of each bin of a region."""

from collections.abc import Callable
from typing import Any, NamedTuple

from keras import ops

from tfseg.ops.roi_table import Table, cells_at_once, in_lots


class _Bins(NamedTuple):
    """The bins of all regions, each a rectangle of cells that may be empty.

    Attributes:
        starts: int32 (N,): how many cells the bins before it have.
        ends: int32 (N,): how many it and these have.
        columns: int32 (N,): of the bin.
        first: int32 (N,): the row in the table of the bin's first cell.
        across: int32 (N,): columns of the map.
    """

    starts: Any
    ends: Any
    columns: Any
    first: Any
    across: Any

    def cells(self, number: Any) -> tuple[Any, Any, Any]:
        """Of cells int32 (n,), counted through all bins: bin, row of the table, whether it is."""
        own = ops.cast(ops.searchsorted(self.ends, number, side="right"), "int32")
        there = own < ops.shape(self.ends)[0]
        own = ops.where(there, own, 0)
        starts, _, columns, first, across = (ops.take(value, own) for value in self)
        offset = ops.where(there, number - starts, 0)
        columns = ops.maximum(columns, 1)  # the first bin may be empty where no cell is left
        return own, first + offset // columns * across + offset % columns, there


def _bins(table: Table, size: int) -> _Bins:
    """size x size bins of boxes rounded to cells.

    In whole numbers: Caffe's float32 gives some bins, as the last of a box of 57 cells, a row or
    column more, and which depends on the device.
    """
    corners = ops.cast(ops.floor(ops.clip(table.boxes, -1e6, 1e6) + 0.5), "int32")
    bins = ops.arange(size, dtype="int32")

    def limits(low: Any, high: Any, cells: Any) -> tuple[Any, Any]:
        side = ops.maximum(high - low + 1, 1)[:, None]
        first = low[:, None] + bins * side // size
        last = low[:, None] - (-(bins + 1) * side) // size
        first, last = (ops.clip(v, 0, cells[:, None]) for v in (first, last))
        return first, last - first

    low_x, low_y, high_x, high_y = (corners[:, i] for i in range(4))
    top, rows = limits(low_y, high_y, table.heights)
    left, columns = limits(low_x, high_x, table.widths)
    across = table.widths[:, None, None]
    first = table.first[:, None, None] + top[:, :, None] * across + left[:, None]
    columns = ops.broadcast_to(columns[:, None], ops.shape(first))
    across = ops.broadcast_to(across, ops.shape(first))
    counts = ops.reshape(rows[:, :, None] * columns, (-1,))
    columns, first, across = (ops.reshape(v, (-1,)) for v in (columns, first, across))
    ends = ops.cumsum(counts)
    return _Bins(ends - counts, ends, columns, first, across)


def max_pool_bins(table: Table, size: int) -> Any:
    """The largest value of each bin, (R, size, size, C); its gradient is its first cell's."""
    bins, channels = _bins(table, size), table.cells.shape[-1]
    total = ops.sum(bins.ends - bins.starts)
    shape = (ops.shape(bins.ends)[0], channels)
    lowest = float("-inf")

    def largest(cells: Any) -> Any:
        def each(start: Any, body: Callable[..., Any]) -> Any:
            def lot(result: Any, number: Any) -> Any:
                own, row, there = bins.cells(number)
                values = ops.cast(ops.take(cells, row, axis=0), "float32")
                return body(result, own[:, None], row, ops.where(there[:, None], values, lowest))

            return in_lots(total, cells_at_once(channels), start, lot)

        def higher(best: Any, own: Any, row: Any, values: Any) -> Any:
            return ops.scatter_update(best, own, values, reduction="max")

        best = each(ops.full(shape, lowest, "float32"), higher)
        none = ops.shape(cells)[0]

        def gradient(*args: Any, upstream: Any = None) -> Any:
            above = args[0] if upstream is None else upstream

            def earlier(places: Any, own: Any, row: Any, values: Any) -> Any:
                same = values == ops.take(best, own[:, 0], axis=0)
                found = ops.where(same, row[:, None], none)
                return ops.scatter_update(places, own, found, reduction="min")

            places = each(ops.full(shape, none, "int32"), earlier)
            index = places * channels + ops.arange(channels, dtype="int32")
            # One row more for the bins without cells.
            result = ops.zeros(((none + 1) * channels,), "float32")
            above = ops.cast(ops.reshape(above, (-1,)), "float32")
            index = ops.reshape(index, (-1, 1))
            result = ops.scatter_update(result, index, above, reduction="add")
            result = ops.reshape(result, (none + 1, channels))[:-1]
            return ops.cast(result, cells.dtype)

        best_or_0 = ops.where(best == lowest, 0.0, best)
        return ops.cast(best_or_0, cells.dtype), gradient

    found = ops.custom_gradient(largest)(table.cells)
    return ops.reshape(found, (ops.shape(table.boxes)[0], size, size, channels))
