"""The warping error: what is left of a disagreement once boundaries may move but not topology."""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

# The radius, in pixels, of the window in which a removed pixel may disconnect an object; that
# of the ISBI 2012 scoring script.
SPLIT_RADIUS = 20

# The eight neighbours, in order around the pixel, starting at its right.
_RING = ((0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1))


def _simple_points() -> bytes:
    """For each of the 256 sets of inside neighbours: may the pixel flip (Yokoi's number is 1)?"""
    ring = np.arange(256)[:, None] >> np.arange(8) & 1
    here, corner, beyond = ring[:, ::2], ring[:, 1::2], np.roll(ring[:, ::2], -1, axis=1)
    return bytes(np.sum(here - here * corner * beyond, axis=1) == 1)


_SIMPLE = _simple_points()


@dataclass(frozen=True)
class Warping:
    """What warping a truth toward a proposal could not resolve.

    Attributes:
        pixels: the number of pixels compared.
        mismatches: pixels where the warped truth still differs from the proposal.
        splits: those of them that, given up, would cut an object of the truth in two.
        mergers: those of them that, filled, would join two objects of the truth.
    """

    pixels: int
    mismatches: int
    splits: int
    mergers: int

    @property
    def error(self) -> float:
        """The warping error of Jain et al. 2010: mismatches as a fraction of the pixels."""
        return self.mismatches / self.pixels


def warp(
    truth: np.ndarray,
    proposal: np.ndarray,
    confidence: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> np.ndarray:
    """Moves the truth's boundaries toward the proposal without changing its topology.

    Pixels that differ are visited again and again, the most confident first, and flipped where
    they are simple points, until a round changes nothing. Inside is 4-connected, membrane is
    8-connected, and everything beyond the image is membrane.

    Args:
        truth: bool (H, W), true inside objects.
        proposal: bool (H, W).
        confidence: float (H, W), how sure the proposal is of each pixel; None: equally.
        mask: bool (H, W), true where the truth may move; None: everywhere.

    Returns:
        bool (H, W), the warped truth.

    Raises:
        ValueError: if the shapes differ.

    Source: Jain et al., "Boundary learning by optimization with topological constraints", CVPR
    2010; the order of the flips is that of Fiji's Trainable_Segmentation.
    """
    for what, array in (("proposal", proposal), ("confidence", confidence), ("mask", mask)):
        if array is not None and array.shape != truth.shape:
            raise ValueError(f"truth is {truth.shape} but {what} {array.shape}")
    source = np.pad(truth.astype(bool), 1)
    width = source.shape[1]
    differs = truth.astype(bool) ^ proposal.astype(bool)
    rows, columns = np.nonzero(differs if mask is None else differs & mask.astype(bool))
    if confidence is not None:
        order = np.argsort(-confidence[rows, columns], kind="stable")
        rows, columns = rows[order], columns[order]
    flat = bytearray(source.tobytes())
    waiting = ((rows + 1) * width + columns + 1).tolist()
    offsets = [dy * width + dx for dy, dx in _RING]
    while True:
        left = _flip_round(flat, waiting, offsets)
        if len(left) == len(waiting):
            break
        waiting = left
    warped = np.frombuffer(flat, np.bool_).reshape(source.shape)
    return warped[1:-1, 1:-1].copy()


def _flip_round(flat: bytearray, waiting: list[int], offsets: list[int]) -> list[int]:
    """Flips the simple points of ``waiting`` in place; returns the others."""
    e, ne, n, nw, w, sw, s, se = offsets
    left = []
    for at in waiting:
        code = (
            flat[at + e]
            | flat[at + ne] << 1
            | flat[at + n] << 2
            | flat[at + nw] << 3
            | flat[at + w] << 4
            | flat[at + sw] << 5
            | flat[at + s] << 6
            | flat[at + se] << 7
        )
        if _SIMPLE[code]:
            flat[at] ^= 1
        else:
            left.append(at)
    return left


def warping_error(
    truth: np.ndarray,
    proposal: np.ndarray,
    confidence: np.ndarray | None = None,
    mask: np.ndarray | None = None,
) -> Warping:
    """Warps the truth toward the proposal and counts what still differs.

    Args:
        truth: bool (H, W), true inside objects.
        proposal: bool (H, W).
        confidence: float (H, W), how sure the proposal is of each pixel; None: equally.
        mask: bool (H, W), true where pixels are compared; None: everywhere.

    Returns:
        The mismatches; ``.error`` is the warping error, ``.splits`` and ``.mergers`` are the
        mismatches that the ISBI 2012 challenge counts.

    Raises:
        ValueError: if the shapes differ.
    """
    warped = warp(truth, proposal, confidence, mask)
    differs = warped ^ proposal.astype(bool)
    if mask is not None:
        differs &= mask.astype(bool)
    splits, mergers = _splits_and_mergers(warped, differs)
    pixels = truth.size if mask is None else int(np.count_nonzero(mask))
    return Warping(pixels, int(differs.sum()), splits, mergers)


def _splits_and_mergers(warped: np.ndarray, differs: np.ndarray) -> tuple[int, int]:
    """Counts the mismatches around which two objects meet, or would after a removal."""
    objects, _ = ndimage.label(warped)
    padded = np.pad(objects, SPLIT_RADIUS)
    middle = slice(SPLIT_RADIUS - 1, SPLIT_RADIUS + 2)
    splits = mergers = 0
    for y, x in np.argwhere(differs):
        window = padded[y : y + 2 * SPLIT_RADIUS + 1, x : x + 2 * SPLIT_RADIUS + 1].copy()
        window[SPLIT_RADIUS, SPLIT_RADIUS] = 0
        if not warped[y, x]:
            mergers += _several(window[middle, middle])
        elif _several(window[middle, middle]):
            splits += 1
        else:
            parts, _ = ndimage.label(window)
            splits += _several(parts[middle, middle])
    return splits, mergers


def _several(ids: np.ndarray) -> bool:
    """Whether more than one object id (0 is none) occurs."""
    found = ids[ids > 0]
    return bool(found.size) and bool((found != found[0]).any())
