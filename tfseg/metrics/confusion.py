"""Scores of semantic segmentation, all from one confusion matrix over the whole data set."""

from typing import Any, Self

import numpy as np
from tabulate import tabulate


class ConfusionMatrix:
    """Counts labelled pixels by true and predicted class, and scores the counts.

    The conventions are those of FCN's ``score.py`` (Long et al. 2015, section 5), computed once
    from the counts of the whole data set, never averaged over images:

    - IoU of a class: true positives / (true pixels + predicted pixels - true positives). A class
      that is predicted but never true scores 0 and counts in the mean; a class that is neither
      is nan and is left out.
    - Accuracy of a class: true positives / true pixels. Nan, and left out of the mean, where the
      class has no true pixel.
    - Frequency-weighted IoU weights each class by its share of the true pixels.

    Attributes:
        matrix: int64 (num_classes, num_classes); rows are true classes, columns predicted ones.
    """

    def __init__(self, num_classes: int, ignore_label: int = 255) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be positive, not {num_classes}")
        self.num_classes = num_classes
        self.ignore_label = ignore_label
        self.matrix = np.zeros((num_classes, num_classes), np.int64)

    def update(self, labels: np.ndarray, predictions: np.ndarray) -> None:
        """Counts the pixels of one image or batch.

        Args:
            labels: integer array of true classes; ``ignore_label`` where nothing is scored.
            predictions: integer array of the same shape, predicted classes. They must be
                classes everywhere, also where the label is ignored.

        Raises:
            ValueError: other dtypes, unequal shapes, or an id that is no class (it is named).
        """
        labels, predictions = np.asarray(labels), np.asarray(predictions)
        for what, array in (("labels", labels), ("predictions", predictions)):
            if not np.issubdtype(array.dtype, np.integer):
                raise ValueError(f"{what} must be integers, not {array.dtype}")
        if labels.shape != predictions.shape:
            raise ValueError(f"labels are {labels.shape} but predictions {predictions.shape}")
        scored = labels != self.ignore_label
        self._check("prediction", predictions)
        self._check("label", labels[scored])
        pairs = self.num_classes * labels[scored].astype(np.int64) + predictions[scored]
        counts = np.bincount(pairs, minlength=self.num_classes**2)
        self.matrix += counts.reshape(self.matrix.shape)

    def _check(self, what: str, ids: np.ndarray) -> None:
        wrong = ids[(ids < 0) | (ids >= self.num_classes)]
        if wrong.size:
            ignored = f" or the ignore label {self.ignore_label}" if what == "label" else ""
            raise ValueError(
                f"{what} id {int(wrong.flat[0])} at {wrong.size} pixels: "
                f"expected 0..{self.num_classes - 1}{ignored}"
            )

    def __iadd__(self, other: "ConfusionMatrix") -> Self:
        """Adds the counts of another part of the data.

        Raises:
            ValueError: if the two differ in their number of classes or ignore label.
        """
        mine, theirs = (
            (self.num_classes, self.ignore_label),
            (other.num_classes, other.ignore_label),
        )
        if mine != theirs:
            raise ValueError(f"(classes, ignore label) are {mine} here and {theirs} there")
        self.matrix += other.matrix
        return self

    def __add__(self, other: "ConfusionMatrix") -> "ConfusionMatrix":
        """The counts of both; see ``+=``."""
        total = ConfusionMatrix(self.num_classes, self.ignore_label)
        total += self
        total += other
        return total

    def result(self) -> dict[str, Any]:
        """The scores of everything counted so far.

        Returns:
            ``mean_iou``, ``frequency_weighted_iou``, ``mean_accuracy``, ``pixel_accuracy`` in
            0..1 (nan when no pixel was scored), and ``per_class``: for each class ``iou``,
            ``accuracy`` (nan as the class states) and ``pixels``, its number of true pixels.
        """
        hits = np.diag(self.matrix).astype(np.float64)
        true, predicted = self.matrix.sum(1), self.matrix.sum(0)
        iou = _ratio(hits, true + predicted - hits)
        accuracy = _ratio(hits, true)
        total = true.sum()
        weighted = np.nansum(true * iou) / total if total else np.nan
        return {
            "mean_iou": _mean(iou),
            "frequency_weighted_iou": float(weighted),
            "mean_accuracy": _mean(accuracy),
            "pixel_accuracy": float(hits.sum() / total) if total else float("nan"),
            "per_class": [
                {"iou": float(i), "accuracy": float(a), "pixels": int(p)}
                for i, a, p in zip(iou, accuracy, true, strict=True)
            ],
        }

    def to_dict(self, classes: tuple[str, ...]) -> dict[str, Any]:
        """The result with class names, as JSON can hold it: None instead of nan.

        Args:
            classes: the class names, by id.

        Raises:
            ValueError: if there are not as many names as classes.
        """
        result = self.result()
        rows = [
            {"name": name, **{key: _finite(value) for key, value in row.items()}}
            for name, row in zip(self._names(classes), result.pop("per_class"), strict=True)
        ]
        return {**{key: _finite(value) for key, value in result.items()}, "per_class": rows}

    def table(self, classes: tuple[str, ...]) -> str:
        """The result in percent, a line a class and the means below.

        Args:
            classes: the class names, by id.

        Raises:
            ValueError: if there are not as many names as classes.
        """
        result = self.result()
        rows = [
            (name, 100 * row["iou"], 100 * row["accuracy"], row["pixels"])
            for name, row in zip(self._names(classes), result["per_class"], strict=True)
        ]
        pixels = int(self.matrix.sum())
        rows.append(("mean", 100 * result["mean_iou"], 100 * result["mean_accuracy"], pixels))
        body = tabulate(rows, ("class", "IoU %", "accuracy %", "pixels"), floatfmt=".2f")
        weighted, accuracy = result["frequency_weighted_iou"], result["pixel_accuracy"]
        return (
            f"{body}\nfrequency-weighted IoU {100 * weighted:.2f} %, "
            f"pixel accuracy {100 * accuracy:.2f} %"
        )

    def _names(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        if len(classes) != self.num_classes:
            raise ValueError(f"{len(classes)} class names for {self.num_classes} classes")
        return classes


def _ratio(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    nan = np.full(len(part), np.nan)
    return np.asarray(np.divide(part, whole, out=nan, where=whole > 0))


def _mean(scores: np.ndarray) -> float:
    present = scores[~np.isnan(scores)]
    return float(present.mean()) if present.size else float("nan")


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and np.isnan(value) else value
