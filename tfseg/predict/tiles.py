"""How a network of valid convolutions covers an image with tiles: sizes measured on the model."""

import math
from contextlib import suppress
from typing import NamedTuple

import numpy as np

from tfseg.predict import views
from tfseg.predict.graph import WholeImage

#: sides to measure with: large enough for any network, and as many as the stride of six poolings
_PROBED = range(1024, 1024 + 64)


class Tiling(NamedTuple):
    """The tiles along one side of an image. All but ``stride`` are in pixels of the image.

    Attributes:
        tile: side of what a tile's output covers.
        margin: what a tile's input extends beyond that, on each of the two ends.
        step: distance of tiles. A multiple of the network's pooling stride, because only then
            the pooling grids of neighbouring tiles agree, and tiles give what the network would
            give for the whole image; so it can be less than ``tile``.
        stride: pixels to a cell of the output, each of which stands for its first pixel.
    """

    tile: int
    margin: int
    step: int
    stride: int

    def starts(self, size: int) -> list[int]:
        """Where the tiles of a side start; the last may reach over the border."""
        count = math.ceil(max(0, size - self.tile) / self.step) + 1
        return [i * self.step for i in range(count)]

    def cells(self, size: int) -> int:
        """The output's cells that a side needs: up to the one behind the last pixel."""
        if self.stride == 1:
            return size
        covered = self.starts(size)[-1] + self.tile
        return min(covered, size - 1 + 2 * self.stride) // self.stride

    def input(self, start: int, size: int) -> np.ndarray:
        """The pixels of a side that a tile's input is made of, int (tile + 2 margin,).

        The side is mirrored over the margin on both ends, and the far end of that is mirrored
        again where a tile reaches over it, as in Dilation's predict.py.
        """
        there = size + 2 * self.margin - start
        places = views.mirror(np.arange(self.tile + 2 * self.margin), there)
        return views.mirror(start - self.margin + places, size)


def tilings(network: WholeImage, tile_size: tuple[int, int]) -> tuple[Tiling, Tiling]:
    """The tilings down and across for tiles whose output covers this many pixels.

    Raises:
        ValueError: if the network does not lose a border (then whole images and sliding windows
            are the way), or has no input that gives this output (valid sizes are named).
    """
    margin, period, stride, exact = _measure(network)
    for tile in tile_size:
        # tile = what the exact input's output covers + a whole number of periods
        excess = (tile - (exact - margin)) % period
        if (
            excess
            or tile < period
            or network.output_size(*(tile + margin,) * 2)[0] * stride != tile
        ):
            lower = tile - excess
            sizes = [s for s in (lower, lower + period) if s >= period]
            raise ValueError(
                f"tile_size {tuple(tile_size)}: model {network.model.name!r} has no tiles of side "
                f"{tile}; the nearest possible are {' and '.join(map(str, sizes))}"
            )
    down, across = (Tiling(t, margin // 2, t // period * period, stride) for t in tile_size)
    return down, across


def _measure(network: WholeImage) -> tuple[int, int, int, int]:
    """What the network loses of a side, its strides in pooling and output, and an exact input side.

    A side is exact if it fits the poolings, which recurs every pooling stride. Others lose more
    than those, or less where poolings round up, as Caffe's: windows of which a part is missing.
    """
    name = network.model.name
    if network.input_size != (None, None):
        raise ValueError(f"overlap tiles need a model of any input size, {name!r} has a fixed one")
    count = len(_PROBED)
    sides = {}
    for n in _PROBED:
        sides[n], sides[n + count] = network.output_size(n, n + count)
    stride, rest = divmod(count, sides[_PROBED.stop] - sides[_PROBED.start])
    if rest:
        raise ValueError(f"model {name!r} has no whole number of pixels to a cell of its output")
    lost = {n: n - stride * sides[n] for n in sorted(sides)}
    rounds_up = any(getattr(layer, "ceil_mode", False) for layer in network.model.layers)
    margin = max(lost.values()) if rounds_up else min(lost.values())
    if margin <= 0:
        raise ValueError(
            f"overlap tiles need a network of valid convolutions; {name!r} loses no border: "
            "use mode 'whole' or 'sliding'"
        )
    if margin % 2:
        raise ValueError(f"model {name!r} loses {margin} rows, which are no two equal margins")
    fitting = [n for n, loss in lost.items() if loss == margin]
    return margin, fitting[1] - fitting[0], stride, fitting[0]


def whole_side(network: WholeImage) -> tuple[int, int]:
    """A small (height, width) that the network takes whole: its own, or one that fits it."""
    height, width = network.input_size
    if height is not None and width is not None:
        return height, width
    for side in range(64, 257, 32):
        with suppress(ValueError):  # Keras': smaller than the border that the network loses
            if network.output_size(side, side) == (side, side):
                return side, side
    side = _measure(network)[3]
    return side, side
