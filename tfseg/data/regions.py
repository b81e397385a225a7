"""Objects as pieces of their images, so that a hundred of them fit into memory."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np


class Region(NamedTuple):
    """An object's pixels.

    Attributes:
        top: the first row of ``inside`` in the image.
        left: the first column.
        inside: bool (h, w), where the object is; all of it lies in the image.
    """

    top: int
    left: int
    inside: np.ndarray

    @property
    def place(self) -> tuple[slice, slice]:
        """The rows and columns of the image that ``inside`` covers."""
        height, width = self.inside.shape
        return slice(self.top, self.top + height), slice(self.left, self.left + width)


def region_of(mask: np.ndarray) -> Region:
    """The smallest region that holds all of a mask bool (H, W); (0, 0) pixels of an empty one."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    if not len(rows):
        return Region(0, 0, np.zeros((0, 0), bool))
    inside = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Region(int(rows[0]), int(columns[0]), inside)


def instance_map(regions: Sequence[Region], size: tuple[int, int]) -> np.ndarray:
    """One picture of all objects, the first on top.

    Args:
        regions: the objects, by falling score.
        size: the image's (height, width).

    Returns:
        int32 (H, W): 1 on the first object, 2 on what the second has beside it, ...; 0 elsewhere.
    """
    ids = np.zeros(size, np.int32)
    for index in range(len(regions) - 1, -1, -1):
        ids[regions[index].place][regions[index].inside] = index + 1
    return ids
