"""Scores of neuron segmentation in electron microscopy, as the ISBI 2012 challenge defines them.

Arganda-Carreras et al., "Crowdsourcing the creation of image segmentation algorithms for
connectomics", Frontiers in Neuroanatomy 2015, and the challenge's scoring code (Fiji's
Trainable_Segmentation). Everywhere "inside" is a cell's interior, label 0 of a segmentation is
membrane, and "truth" and "proposal" are the two segmentations compared.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, sparse

from tfseg.metrics.warping import warping_error

# 1.0, the challenge's last threshold, leaves nothing inside and is never the best.
THRESHOLDS = tuple(np.round(np.arange(0, 1, 0.1), 1).tolist())


def segments(inside: np.ndarray) -> np.ndarray:
    """The 4-connected components of the inside.

    Args:
        inside: bool (H, W).

    Returns:
        int32 (H, W): 1, 2, ... inside, 0 on membrane.
    """
    labels, _ = ndimage.label(inside)
    return np.asarray(labels, np.int32)


def thin_borders(labels: np.ndarray) -> np.ndarray:
    """Grows each segment into the membrane until a border about one pixel wide is left.

    The 2015 scores are computed on such proposals, so that the width of a drawn membrane does
    not matter. Each membrane pixel goes to its nearest segment (Euclidean; the challenge's
    code floods a watershed); of two 4-neighbours in different segments the one farther inside
    the membrane stays membrane. The truth is scored as it is, its membrane excluded.

    Args:
        labels: int (H, W), 0 on membrane; no two segments are 4-neighbours.

    Returns:
        int (H, W); all 0 if ``labels`` is.
    """
    thinned = np.zeros_like(labels)
    if not labels.any():
        return thinned
    depth, nearest = ndimage.distance_transform_edt(labels == 0, return_indices=True)
    grown = labels[tuple(nearest)]
    thinned[:] = grown
    for axis in (0, 1):
        meets = np.diff(grown, axis=axis) != 0
        second_deeper = np.diff(depth, axis=axis) >= 0
        view = np.moveaxis(thinned, axis, 0)
        view[1:][np.moveaxis(meets & second_deeper, axis, 0)] = 0
        view[:-1][np.moveaxis(meets & ~second_deeper, axis, 0)] = 0
    return thinned


def pixel_error(truth: np.ndarray, proposal: np.ndarray) -> float:
    """1 - F-score of the inside pixels.

    Args:
        truth: bool (H, W), inside.
        proposal: bool (H, W), inside.

    Raises:
        ValueError: if the shapes differ.
    """
    return 1 - _f_score(*_pixel_sums(truth, proposal))


def rand_scores(truth: np.ndarray, proposal: np.ndarray) -> tuple[float, float, float]:
    """The foreground-restricted Rand F-score, and its split and merge scores.

    With p_ij the share of pixels in segment i of the proposal and j of the truth, s_i and t_j
    its sums: V_split = sum p^2 / sum t^2, V_merge = sum p^2 / sum s^2, and the F-score is their
    harmonic mean (alpha = 1/2). Membrane of the truth is not scored; each membrane pixel of the
    proposal inside the truth is a segment of its own.

    Args:
        truth: int (H, W) segments, 0 membrane.
        proposal: int (H, W) segments, 0 membrane. V_rand is this score of `thin_borders`;
            the Rand error of ISBI 2012 is 1 - the score without thinning.

    Returns:
        (F-score, V_split, V_merge), each in 0..1, 1 best.

    Raises:
        ValueError: if the shapes differ or the truth has no inside pixel.
    """
    both, true, proposed = _rand_sums(_overlaps(truth, proposal))
    return _f_score(both, true, proposed), both / true, both / proposed


def info_scores(truth: np.ndarray, proposal: np.ndarray) -> tuple[float, float, float]:
    """The foreground-restricted information-theoretic score, and its split and merge scores.

    With I the mutual information and H the entropies of the two segmentations:
    V_split = I / H(proposal), V_merge = I / H(truth), and their harmonic mean. Membrane counts
    as in `rand_scores`.

    Args:
        truth: int (H, W) segments, 0 membrane.
        proposal: int (H, W) segments, 0 membrane. V_info is this score of `thin_borders`.

    Returns:
        (score, V_split, V_merge), each in 0..1, 1 best. One entropy of 0 makes the score 0;
        both, where each segmentation is one segment, 1.

    Raises:
        ValueError: if the shapes differ or the truth has no inside pixel.
    """
    counts, alone = _overlaps(truth, proposal)
    total = counts.sum() + alone.sum()
    single = alone.sum() / total * np.log(total)
    joint = _entropy(counts.data / total) + single
    true = _entropy((np.asarray(counts.sum(1)).ravel() + alone) / total)
    proposed = _entropy(np.asarray(counts.sum(0)).ravel() / total) + single
    mutual = max(true + proposed - joint, 0.0)
    if true + proposed == 0:
        return 1.0, 1.0, 1.0
    split = mutual / proposed if proposed else 0.0
    merge = mutual / true if true else 0.0
    return 2 * mutual / (true + proposed), split, merge


class EMScores:
    """The five ISBI 2012 scores of a stack of probability maps, each at its best threshold.

    As in the challenge, the probability is cut at each of ``thresholds`` (inside where it is
    greater), the stack is scored at each, and the best score counts:

    - ``pixel_error``: 1 - F-score of the inside pixels of the stack.
    - ``rand_error``: 1 - foreground-restricted Rand F-score, pairs summed over the slices.
    - ``v_rand``: the same F-score, the proposal's borders thinned.
    - ``v_info``: the information-theoretic score, borders thinned, mean over the slices.
    - ``warping_error``: splits and mergers, as a fraction of the pixels (`warping_error`).

    Attributes:
        boundary_class: the membrane's class in the labels; every other class is inside.
        ignore_label: pixels with this label are scored by none of the five.
    """

    def __init__(
        self,
        boundary_class: int = 0,
        ignore_label: int = 255,
        thresholds: Sequence[float] = THRESHOLDS,
    ) -> None:
        if not len(thresholds):
            raise ValueError("at least one threshold is needed")
        self.boundary_class = boundary_class
        self.ignore_label = ignore_label
        self._thresholds = tuple(thresholds)
        count = len(self._thresholds)
        self._pixels, self._rand, self._thinned = (np.zeros((count, 3)) for _ in range(3))
        self._info, self._topology = np.zeros(count), np.zeros(count)
        self._slices = self._area = 0

    def update(self, labels: np.ndarray, inside_probability: np.ndarray) -> None:
        """Scores one slice.

        Args:
            labels: int (H, W) classes.
            inside_probability: float (H, W) in 0..1, of not being membrane.

        Raises:
            ValueError: if the shapes differ, a probability is out of range or not finite, or
                no pixel is inside.
        """
        if labels.ndim != 2 or labels.shape != inside_probability.shape:
            shapes = f"{labels.shape} and {inside_probability.shape}"
            raise ValueError(f"labels and probabilities must be one (H, W), are {shapes}")
        if not ((inside_probability >= 0) & (inside_probability <= 1)).all():
            raise ValueError("inside probabilities must lie in 0..1")
        scored = labels != self.ignore_label
        inside = scored & (labels != self.boundary_class)
        truth = segments(inside)
        for index, threshold in enumerate(self._thresholds):
            cut = inside_probability > threshold
            proposal = segments(cut)
            thinned = thin_borders(proposal)
            self._pixels[index] += _pixel_sums(inside[scored], cut[scored])
            self._rand[index] += _rand_sums(_overlaps(truth, proposal))
            self._thinned[index] += _rand_sums(_overlaps(truth, thinned))
            self._info[index] += info_scores(truth, thinned)[0]
            confidence = np.abs(inside_probability - threshold)
            left = warping_error(inside, cut, confidence, scored)
            self._topology[index] += left.splits + left.mergers
        self._slices += 1
        self._area += int(scored.sum())

    def result(self) -> dict[str, float]:
        """The scores of all slices.

        Returns:
            ``pixel_error``, ``rand_error``, ``warping_error`` (0 best), ``v_rand``, ``v_info``
            (1 best).

        Raises:
            ValueError: if no slice was scored.
        """
        if not self._slices:
            raise ValueError("no slice was scored")
        return {
            "pixel_error": 1 - max(_f_score(*sums) for sums in self._pixels),
            "rand_error": 1 - max(_f_score(*sums) for sums in self._rand),
            "v_rand": max(_f_score(*sums) for sums in self._thinned),
            "v_info": float(self._info.max() / self._slices),
            "warping_error": float(self._topology.min() / self._area),
        }


def _pixel_sums(truth: np.ndarray, proposal: np.ndarray) -> tuple[float, float, float]:
    """Inside pixels of both, of the truth, of the proposal."""
    if truth.shape != proposal.shape:
        raise ValueError(f"truth is {truth.shape} but proposal {proposal.shape}")
    return float((truth & proposal).sum()), float(truth.sum()), float(proposal.sum())


def _overlaps(truth: np.ndarray, proposal: np.ndarray) -> tuple[sparse.csr_matrix, np.ndarray]:
    """Pixels in each (true, proposed) pair of segments; of each true one, those on membrane."""
    if truth.shape != proposal.shape:
        raise ValueError(f"truth is {truth.shape} but proposal {proposal.shape}")
    inside = truth > 0
    if not inside.any():
        raise ValueError("the truth has no inside pixel: nothing can be scored")
    pairs = (np.ones(int(inside.sum())), (truth[inside], proposal[inside]))
    counts = sparse.coo_matrix(pairs).tocsr()
    return counts[:, 1:], counts[:, :1].toarray().ravel()


def _rand_sums(overlaps: tuple[sparse.csr_matrix, np.ndarray]) -> tuple[float, float, float]:
    """Ordered pairs of pixels that share a segment in both, in the truth, in the proposal."""
    counts, alone = overlaps
    single = alone.sum()
    both = (counts.data**2).sum() + single
    true = ((np.asarray(counts.sum(1)).ravel() + alone) ** 2).sum()
    proposed = (np.asarray(counts.sum(0)) ** 2).sum() + single
    return float(both), float(true), float(proposed)


def _f_score(both: float, true: float, proposed: float) -> float:
    """Harmonic mean of both/true and both/proposed; 1 where there is nothing on either side."""
    return float(2 * both / (true + proposed)) if true + proposed else 1.0


def _entropy(shares: np.ndarray) -> float:
    positive = shares[shares > 0]
    return float(-(positive * np.log(positive)).sum())
