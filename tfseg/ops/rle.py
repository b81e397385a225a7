"""The runs of COCO's run-length encoded masks, checked.

They alternate between outside and inside, go down the columns, and start outside; a list of
integers, or the string of cocoapi, common/maskApi.c, ``rleFrString``. pycocotools checks neither:
of runs that end early it decodes garbage, and overlaps with them never end.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np


def rle_runs(rle: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """The runs of one mask.

    Args:
        rle: {"size": [height, width], "counts": list of runs, or their string}.
        size: the (height, width) that the mask must have.

    Returns:
        int64 (R,), lengths outside, inside, outside, ...; they sum to height x width.

    Raises:
        ValueError: another size, or runs that are damaged or do not fill it.
    """
    if rle.get("size") not in (list(size), tuple(size)):
        raise ValueError(f"the RLE has size {rle.get('size')}, its image {list(size)}")
    counts = rle.get("counts")
    if isinstance(counts, str):
        runs = _string_runs(counts)
    elif isinstance(counts, list) and all(type(run) is int for run in counts):
        runs = np.array(counts, object)
    else:
        raise ValueError("RLE counts must be a string or a list of integers")
    # In Python's integers: the sum of damaged runs may not fit 64 bits.
    if (runs < 0).any() or sum(runs.tolist()) != size[0] * size[1]:
        raise ValueError(f"the RLE's runs do not fill {size[0]} x {size[1]} pixels")
    return runs.astype(np.int64)


def _string_runs(text: str) -> np.ndarray:
    """The runs of a compressed RLE.

    A number has a character for every 5 bits, the lowest first: 48 + the bits, + 32 if another
    follows. Bit 4 of the last one is the sign. From the fourth run on the numbers are differences
    to the run two places before.
    """
    codes = np.frombuffer(text.encode("ascii", "replace"), np.uint8).astype(np.int64) - 48
    if not len(codes) or codes.min() < 0 or codes.max() > 63 or codes[-1] & 32:
        raise ValueError("the RLE's string is damaged")
    last = np.flatnonzero((codes & 32) == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > 7:  # 32 bits are the most that cocoapi writes
        raise ValueError("the RLE's string has a number of more than 32 bits")
    place = np.arange(len(codes)) - np.repeat(first, lengths)
    numbers = np.add.reduceat((codes & 31) << (5 * place), first)
    numbers -= np.where(codes[last] & 16, 1 << (5 * lengths), 0)
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
