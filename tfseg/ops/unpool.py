"""Max unpooling: values go back to where pooling found the maxima (Noh et al., section 3.2.1)."""

from typing import Any

from keras import ops

from tfseg.ops.resize import window


def argmax_places(x: Any) -> Any:
    """Where in each 2x2 window of stride 2 the maximum is.

    Of equal values the first in scan order wins, as in Caffe's pooling. Sizes are rounded up:
    windows over the far edge hold what there is of the map.

    Args:
        x: float (B, H, W, C).

    Returns:
        int8 (B, ceil(H / 2), ceil(W / 2), C): 0 upper left, 1 upper right, 2 lower left, 3 lower
        right. It has no gradient.
    """
    height, width = ops.shape(x)[1:3]
    x = ops.pad(x, ((0, 0), (0, height % 2), (0, width % 2), (0, 0)), constant_values=float("-inf"))
    best = x[:, 0::2, 0::2]
    # Not int32, whose comparisons TensorFlow moves from the GPU to the CPU.
    places = ops.zeros_like(best, dtype="int8")
    for place, (row, column) in enumerate(((0, 1), (1, 0), (1, 1)), start=1):
        other = x[:, row::2, column::2]
        wins = ops.greater(other, best)
        best = ops.where(wins, other, best)
        places = ops.where(wins, ops.full_like(places, place), places)
    return places


def max_unpool(x: Any, places: Any, size: tuple[Any, Any]) -> Any:
    """Each value at its place in a 2x2 window, zeros around it.

    Args:
        x: float (B, h, w, C).
        places: int8 (B, h, w, C) as `argmax_places` gives them.
        size: (H, W) of the map that was pooled: 2 h or 2 h - 1 rows, columns alike.

    Returns:
        (B, H, W, C). The gradient of a value is that of its place.
    """
    batch, height, width, channels = ops.shape(x)
    zeros = ops.zeros_like(x)
    parts = [ops.where(ops.equal(places, place), x, zeros) for place in range(4)]

    def row(left: Any, right: Any) -> Any:
        return ops.reshape(ops.stack([left, right], 3), (batch, height, 2 * width, channels))

    rows = ops.stack([row(*parts[:2]), row(*parts[2:])], 2)
    full = ops.reshape(rows, (batch, 2 * height, 2 * width, channels))
    return window(full, 0, 0, *size)
