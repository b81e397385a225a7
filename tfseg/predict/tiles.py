"""How a network of valid convolutions covers an image with tiles: sizes measured on the model."""

import math
from typing import NamedTuple

from tfseg.predict.graph import WholeImage

#: input sides to measure with: large enough for any network, and twice the stride of six poolings
_PROBED = range(1024, 1024 + 2 * 64)


class Tiling(NamedTuple):
    """The tiles along one side of an image.

    Attributes:
        tile: side of a tile's output.
        margin: what a tile's input extends beyond its output, on each of the two ends.
        step: distance of tiles. A multiple of the network's pooling stride, because only then
            the pooling grids of neighbouring tiles agree, and tiles give what the network would
            give for the whole image; so it can be less than ``tile``.
    """

    tile: int
    margin: int
    step: int

    def starts(self, size: int) -> list[int]:
        """Where the tiles of a side start; the last may reach over the border."""
        count = math.ceil(max(0, size - self.tile) / self.step) + 1
        return [i * self.step for i in range(count)]


def tilings(network: WholeImage, tile_size: tuple[int, int]) -> tuple[Tiling, Tiling]:
    """The tilings down and across for tiles of this output size.

    Raises:
        ValueError: if the network does not lose a border (then whole images and sliding windows
            are the way), or has no input that gives this output (valid sizes are named).
    """
    margin, period, exact = _measure(network)
    for tile in tile_size:
        # tile = exact output size + a whole number of periods
        excess = (tile - (exact - margin)) % period
        if excess or tile < period or network.output_size(*(tile + margin,) * 2)[0] != tile:
            lower = tile - excess
            sizes = [s for s in (lower, lower + period) if s >= period]
            raise ValueError(
                f"tile_size {tuple(tile_size)}: model {network.model.name!r} has no tiles of side "
                f"{tile}; the nearest possible are {' and '.join(map(str, sizes))}"
            )
    down, across = (Tiling(t, margin // 2, t // period * period) for t in tile_size)
    return down, across


def _measure(network: WholeImage) -> tuple[int, int, int]:
    """What the network loses of a side, its pooling stride, and an input side that loses no more.

    Sides that do not fit the poolings lose more than the least, which recurs every pooling stride.
    """
    name = network.model.name
    if network.input_size != (None, None):
        raise ValueError(f"overlap tiles need a model of any input size, {name!r} has a fixed one")
    lost = {n: n - network.output_size(n, n)[0] for n in _PROBED}
    margin = min(lost.values())
    if margin <= 0:
        raise ValueError(
            f"overlap tiles need a network of valid convolutions; {name!r} loses no border: "
            "use mode 'whole' or 'sliding'"
        )
    if margin % 2:
        raise ValueError(f"model {name!r} loses {margin} rows, which are no two equal margins")
    fitting = [n for n, loss in lost.items() if loss == margin]
    return margin, fitting[1] - fitting[0], fitting[0]
