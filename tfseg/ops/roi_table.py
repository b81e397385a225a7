"""The cells of a pyramid in one table, for operations on regions, and loops of bounded memory."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from keras import ops

#: side of the windows that maps are read in
WINDOW = 16


def cells_at_once(channels: int) -> int:
    """How many cells a loop reads in one go: 64 MiB of float32, in whole windows.

    TensorFlow copies what a loop scatters into in each round, so many small rounds are slow.
    """
    return max(WINDOW**2, min(2**16, 2**24 // channels))


class Table(NamedTuple):
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


def make_table(features: Sequence[Any], strides: Sequence[int], boxes: Any, levels: Any) -> Table:
    """The table of a batch's maps and boxes; see `tfseg.ops.roi.pool_regions`."""
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
    return Table(cells, ops.take(starts, levels) + image * own_h * own_w, own_h, own_w, flat)


def in_lots(total: Any, size: int, start: Any, body: Callable[[Any, Any], Any]) -> Any:
    """What ``body(result, numbers)`` makes of a result, ``size`` of the numbers 0, 1... at a time.

    All below ``total`` have their turn; the last lot may hold some beyond.
    """

    def step(done: Any, result: Any) -> tuple[Any, Any]:
        return done + size, body(result, done + ops.arange(size, dtype="int32"))

    zero = ops.convert_to_tensor(0, "int32")
    return ops.while_loop(lambda done, _: done < total, step, (zero, start))[1]
