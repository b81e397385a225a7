"""Panoptic quality, as panopticapi's evaluation.py computes it.

Kirillov et al., "Panoptic Segmentation", CVPR 2019, section 4.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from tabulate import tabulate

from tfseg.ops.panoptic import MAX_ID

Segments = Sequence[Mapping[str, Any]]
_FIGURES = ("pq", "sq", "rq")


class PanopticQuality:
    """Matches an image's predicted and true segments at a time, and scores all matches.

    A predicted and a true segment of one category match if their IoU is above 0.5; pixels of no
    true segment (id 0) count in no union. Of a category,
    PQ = sum of the matches' IoU / (TP + FP / 2 + FN / 2) = SQ x RQ: SQ is the matches' mean IoU,
    RQ their F1 score. Means are over the categories that were true or predicted.

    Crowd segments are not to be found. An unmatched prediction that lies for more than half on
    pixels of no segment and on the crowd of its category is no mistake; of several crowds of one
    category the last counts, as in panopticapi.
    """

    def __init__(
        self, category_ids: Sequence[int], class_names: Sequence[str], things: Sequence[bool]
    ) -> None:
        """Makes the counts.

        Args:
            category_ids: of all categories, things and stuff.
            class_names: their names.
            things: which of them are things.

        Raises:
            ValueError: lists of unequal lengths, or an id that is there twice.
        """
        if not len(category_ids) == len(class_names) == len(things):
            lengths = f"{len(category_ids)}, {len(class_names)} and {len(things)}"
            raise ValueError(f"there are {lengths} ids, names and things")
        self._rows = {number: row for row, number in enumerate(category_ids)}
        if len(self._rows) != len(category_ids):
            raise ValueError(f"category_ids hold one twice: {list(category_ids)}")
        self._class_names = tuple(class_names)
        self._things = np.array(things, bool)
        self._iou = np.zeros(len(self._rows))
        # true positives, false positives, false negatives
        self._counts = np.zeros((len(self._rows), 3), np.int64)

    def update(
        self,
        truth: np.ndarray,
        true_segments: Segments,
        prediction: np.ndarray,
        predicted_segments: Segments,
    ) -> None:
        """Counts the segments of one image.

        Args:
            truth: int (H, W), segment ids, 0 where no segment is.
            true_segments: "id", "category_id", "area" in pixels, "iscrowd" of each, as COCO's
                ``segments_info``.
            prediction: int (H, W), likewise.
            predicted_segments: "id" and "category_id" of each.

        Raises:
            ValueError: shapes that differ, ids out of 0..2**24 - 1 or twice, unknown categories,
                segments that lack a key, or predicted ones that are listed but not there, or
                there but not listed.
        """
        keys = ("id", "category_id", "area", "iscrowd")
        true = _by_id("true", true_segments, self._rows, keys)
        predicted = _by_id("predicted", predicted_segments, self._rows, keys[:2])
        common = _intersections(truth, prediction)
        areas = _areas(prediction, predicted)
        matches = {}
        for (true_id, predicted_id), pixels in common.items():
            segment, other = true.get(true_id), predicted.get(predicted_id)
            if segment is None or other is None or segment["iscrowd"]:
                continue
            if segment["category_id"] != other["category_id"]:
                continue
            union = areas[predicted_id] + segment["area"] - pixels
            iou = pixels / (union - common.get((0, predicted_id), 0))
            if iou > 0.5:
                matches[true_id] = predicted_id
                self._iou[self._rows[segment["category_id"]]] += iou
        self._count(true, predicted, matches, areas, common)

    def _count(
        self,
        true: dict[int, Mapping[str, Any]],
        predicted: dict[int, Mapping[str, Any]],
        matches: dict[int, int],
        areas: dict[int, int],
        common: dict[tuple[int, int], int],
    ) -> None:
        crowds = {s["category_id"]: number for number, s in true.items() if s["iscrowd"]}
        for number, segment in true.items():
            if not segment["iscrowd"]:
                place = 0 if number in matches else 2
                self._counts[self._rows[segment["category_id"]], place] += 1
        for number in predicted.keys() - matches.values():
            category = predicted[number]["category_id"]
            ignored = common.get((0, number), 0)
            if category in crowds:
                ignored += common.get((crowds[category], number), 0)
            if ignored / areas[number] <= 0.5:
                self._counts[self._rows[category], 1] += 1

    def result(self) -> dict[str, float]:
        """The scores of all images.

        Returns:
            ``pq``, ``sq``, ``rq``, and of the things and the stuff alone ``pq_things``, ...,
            ``pq_stuff``, ...: 0..1, nan where no category was true or predicted.
        """
        scores = self._scores()
        parts = {"": np.full_like(self._things, True), "_things": self._things}
        parts["_stuff"] = ~self._things
        return {
            f"{name}{part}": _mean(scores[chosen, column])
            for part, chosen in parts.items()
            for column, name in enumerate(_FIGURES)
        }

    def per_class(self) -> list[dict[str, Any]]:
        """The scores of each category.

        Returns:
            By category ``name``, ``thing``, ``pq``, ``sq``, ``rq`` (nan, where panopticapi has 0,
            if it was neither true nor predicted), and the segments ``true_positives``,
            ``false_positives``, ``false_negatives``.
        """
        kinds = ("true_positives", "false_positives", "false_negatives")
        return [
            {"name": name, "thing": bool(thing)}
            | dict(zip(_FIGURES, scores.tolist(), strict=True))
            | dict(zip(kinds, counts.tolist(), strict=True))
            for name, thing, scores, counts in zip(
                self._class_names, self._things, self._scores(), self._counts, strict=True
            )
        ]

    def table(self) -> str:
        """The categories' scores in percent, and the means below."""
        rows = [(r["name"], *(100 * r[name] for name in _FIGURES)) for r in self.per_class()]
        result = self.result()
        for what, part in (("all", ""), ("things", "_things"), ("stuff", "_stuff")):
            rows.append((what, *(100 * result[name + part] for name in _FIGURES)))
        return f"{tabulate(rows, ('class', 'PQ %', 'SQ %', 'RQ %'), floatfmt='.2f')}"

    def _scores(self) -> np.ndarray:
        """PQ, SQ, RQ: float64 (categories, 3)."""
        hits, extra, missed = self._counts.T
        whole = hits + extra / 2 + missed / 2
        present = np.where(whole > 0, 0.0, np.nan)
        pq = np.divide(self._iou, whole, out=present.copy(), where=whole > 0)
        sq = np.divide(self._iou, hits, out=present.copy(), where=hits > 0)
        rq = np.divide(hits, whole, out=present.copy(), where=whole > 0)
        return np.stack([pq, sq, rq], axis=-1)


def _by_id(
    what: str, segments: Segments, categories: Mapping[int, int], keys: Sequence[str]
) -> dict[int, Mapping[str, Any]]:
    for segment in segments:
        lacking = [key for key in keys if key not in segment]
        if lacking:
            raise ValueError(f"{what} segment {dict(segment)} lacks {', '.join(lacking)}")
    found = {segment["id"]: segment for segment in segments}
    if len(found) != len(segments):
        raise ValueError(f"two {what} segments have one id")
    for number, segment in found.items():
        if segment["category_id"] not in categories:
            unknown = segment["category_id"]
            raise ValueError(f"{what} segment {number} is of the unknown category {unknown}")
        if number == 0:
            raise ValueError(f"a {what} segment has the id 0, which stands for none")
    return found


def _areas(prediction: np.ndarray, predicted: Mapping[int, Any]) -> dict[int, int]:
    """The pixels of each predicted segment."""
    ids, counts = np.unique(prediction, return_counts=True)
    areas = dict(zip(ids.tolist(), counts.tolist(), strict=True))
    unlisted = sorted(areas.keys() - predicted.keys() - {0})
    if unlisted:
        raise ValueError(f"predicted segments {unlisted} are not listed")
    absent = sorted(predicted.keys() - areas.keys())
    if absent:
        raise ValueError(f"predicted segments {absent} are listed but have no pixels")
    return areas


def _intersections(truth: np.ndarray, prediction: np.ndarray) -> dict[tuple[int, int], int]:
    """The common pixels of each (true, predicted) pair of ids that has any."""
    if truth.shape != prediction.shape or truth.ndim != 2:
        raise ValueError(
            f"truth and prediction must be one (H, W), are {truth.shape} and {prediction.shape}"
        )
    for name, ids in (("true", truth), ("predicted", prediction)):
        if ids.dtype.kind not in "iu" or (ids.size and (ids.min() < 0 or ids.max() > MAX_ID)):
            raise ValueError(f"{name} segment ids must be integers 0..{MAX_ID}")
    pairs = truth.astype(np.int64) * (MAX_ID + 1) + prediction
    codes, counts = np.unique(pairs, return_counts=True)
    true, predicted = np.divmod(codes, MAX_ID + 1)
    keys = zip(true.tolist(), predicted.tolist(), strict=True)
    return dict(zip(keys, counts.tolist(), strict=True))


def _mean(scores: np.ndarray) -> float:
    present = scores[~np.isnan(scores)]
    return float(present.mean()) if present.size else float("nan")
