"""COCO's run-length encoding of masks.

The runs alternate between outside and inside, go down the columns, and start outside. They are
stored as a list ("uncompressed") or as a string (cocoapi, common/maskApi.c, ``rleFrString``).
pycocotools decodes them too, but where the runs end early it leaves the rest of the mask
uninitialised, so that damaged files would pass for labels.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from tfseg.ops.rle import rle_runs


def decode_rle(rle: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Decodes one mask.

    Args:
        rle: {"size": [height, width], "counts": list of runs, or their string}.
        size: the (height, width) that the mask must have.

    Returns:
        bool (H, W), True inside.

    Raises:
        ValueError: another size, or runs that are damaged or do not fill it.
    """
    runs = rle_runs(rle, size)
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(size[1], size[0]).T


def encode_rle(mask: np.ndarray) -> dict[str, Any]:
    """Encodes one mask, uncompressed; pycocotools takes it, and `decode_rle` reads it back.

    Args:
        mask: bool (H, W), True inside.

    Returns:
        {"size": [height, width], "counts": list of runs}.
    """
    pixels = np.pad(mask.T.ravel(), 1)
    # A first run outside even where it is empty, and no run of 0 at the end.
    pixels[-1] = not pixels[-2]
    ends = np.flatnonzero(pixels[1:] != pixels[:-1])
    return {"size": list(mask.shape), "counts": np.diff(ends, prepend=0).tolist()}
