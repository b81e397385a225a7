"""SEG, the Cell Tracking Challenge's score of segmented objects.

Maška et al., A benchmark for comparison of cell tracking algorithms, Bioinformatics 2014, and the
challenge's SEG.pdf.
"""

import numpy as np


def object_jaccards(reference: np.ndarray, proposal: np.ndarray) -> np.ndarray:
    """The Jaccard index of each reference object with the proposed one that covers most of it.

    A proposed object S matches the reference object R if it covers more than half of it,
    ``|R and S| > |R| / 2``; at most one does. The index is ``|R and S| / |R or S|``, or 0 where
    nothing matches. Proposed objects that match none do not count: annotations may be partial.

    Args:
        reference: int (H, W), or any shape; 0 background, one id an object.
        proposal: int of the same shape, likewise.

    Returns:
        float64 (N,) in 0..1, in the order of the reference objects' ids.

    Raises:
        ValueError: if the shapes or kinds differ, or an id is negative.
    """
    if reference.shape != proposal.shape:
        raise ValueError(f"reference is {reference.shape} but proposal {proposal.shape}")
    for name, labels in (("reference", reference), ("proposal", proposal)):
        if labels.dtype.kind not in "iu" or (labels.size and labels.min() < 0):
            raise ValueError(f"{name} must hold object ids, integers from 0 on")
    # Ids may be as large as they like: count by their places among those that occur.
    ids, rows, sizes = np.unique(reference, return_inverse=True, return_counts=True)
    proposed, columns, areas = np.unique(proposal, return_inverse=True, return_counts=True)
    pairs, common = np.unique(rows.ravel() * len(proposed) + columns.ravel(), return_counts=True)
    row, column = np.divmod(pairs, len(proposed))
    matches = (ids[row] > 0) & (proposed[column] > 0) & (2 * common > sizes[row])
    row, column, common = row[matches], column[matches], common[matches]
    jaccards = np.zeros(len(ids))
    jaccards[row] = common / (sizes[row] + areas[column] - common)
    scores: np.ndarray = jaccards[ids > 0]
    return scores


class SegScore:
    """SEG: the mean of `object_jaccards` over the reference objects of all images."""

    def __init__(self) -> None:
        self._total, self._objects = 0.0, 0

    def update(self, reference: np.ndarray, proposal: np.ndarray) -> None:
        """Scores one image; see `object_jaccards`."""
        jaccards = object_jaccards(reference, proposal)
        self._total += float(jaccards.sum())
        self._objects += len(jaccards)

    def result(self) -> dict[str, float]:
        """The score of all images.

        Returns:
            ``seg``, 0..1, 1 best.

        Raises:
            ValueError: if there was no reference object.
        """
        if not self._objects:
            raise ValueError("SEG has no score: no image had a reference object")
        return {"seg": self._total / self._objects}
