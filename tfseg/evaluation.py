"""Scores and pictures of a predictor's work on labelled images."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from tqdm import tqdm

from tfseg import config
from tfseg.data.readers.cocostuff_labels import CHALLENGE, SUPERCATEGORIES
from tfseg.data.sample import Reader, Sample
from tfseg.metrics import ConfusionMatrix, EMScores, SegScore, stuff_scores
from tfseg.predict import ImagePredictor
from tfseg.predict.instances import instance_labels
from tfseg.visualize import contact_sheet, overlay, palette


@dataclass(frozen=True)
class Scores:
    """What `evaluate` found.

    Attributes:
        confusion: counts of the whole split.
        others: scores that were asked for beside it, by name.
    """

    confusion: ConfusionMatrix
    others: dict[str, float]

    def summary(self) -> dict[str, float]:
        """The scores that are one number each."""
        result = self.confusion.result()
        return {k: v for k, v in result.items() if k != "per_class"} | self.others


def prefetched(reader: Reader) -> Iterator[Sample]:
    """The samples in order, each read while the one before it is in use."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(reader.__getitem__, 0)
        for index in range(len(reader)):
            sample = ahead.result()
            if index + 1 < len(reader):
                ahead = pool.submit(reader.__getitem__, index + 1)
            yield sample


def evaluate(
    predictor: ImagePredictor,
    reader: Reader,
    metrics: config.Metrics,
    *,
    progress: bool = True,
    on_prediction: Callable[[Sample, np.ndarray], None] | None = None,
) -> Scores:
    """Scores predictions at the images' original resolution.

    Args:
        predictor: what predicts.
        reader: the labelled images.
        metrics: which scores.
        progress: show a progress bar.
        on_prediction: called with each sample and its predicted labels, int32 (H, W).

    Raises:
        ConfigError: if the reader lacks what a score needs.
    """
    check_metrics(metrics, reader)
    confusion = ConfusionMatrix(len(reader.classes), reader.ignore_label)
    em = EMScores(metrics.boundary_class, reader.ignore_label) if metrics.em else None
    seg = SegScore() if metrics.seg else None
    for sample in tqdm(
        prefetched(reader), total=len(reader), unit="image", disable=not progress, leave=False
    ):
        probabilities = predictor(sample["image"])
        labels = probabilities.argmax(-1).astype(np.int32)
        confusion.update(sample["mask"], labels)
        if em is not None:
            inside = 1 - probabilities[..., metrics.boundary_class]
            em.update(sample["mask"], np.clip(inside, 0, 1))
        if seg is not None:
            found = instance_labels(labels > 0, min_area=metrics.seg_min_area)
            seg.update(sample["instances"], found)
        if on_prediction is not None:
            on_prediction(sample, labels)
    others = {} if em is None else em.result()
    if seg is not None:
        others |= seg.result()
    if metrics.cocostuff:
        others |= stuff_scores(confusion.matrix, SUPERCATEGORIES)
    return Scores(confusion, others)


def check_metrics(metrics: config.Metrics, reader: Reader) -> None:
    """Checks that the labelled images have what the scores need.

    Raises:
        ConfigError: if not.
    """
    if metrics.seg and "instances" not in reader.keys():  # noqa: SIM118 (not a mapping)
        raise config.ConfigError(
            "metrics.seg needs instances, but the reader's samples have only "
            f"{', '.join(reader.keys())}"
        )
    if metrics.cocostuff and reader.classes != CHALLENGE:
        raise config.ConfigError(
            f"metrics.cocostuff needs the {len(CHALLENGE)} classes of the stuff challenge, as "
            f"reader 'cocostuff' has them with format 'challenge2017'; these are "
            f"{', '.join(reader.classes[:5])}{', ...' if len(reader.classes) > 5 else ''}"
        )


class Pictures:
    """Collects (image, ground truth, prediction) rows of images spread over a split."""

    def __init__(self, reader: Reader, count: int):
        wanted = np.linspace(0, len(reader) - 1, min(count, len(reader))).round()
        self.wanted = {int(index) for index in wanted}
        self._seen, self._ignore = 0, reader.ignore_label
        colors = reader.colors
        self._colors = palette(len(reader.classes)) if colors is None else colors
        self._classes = reader.classes
        self._rows: list[list[np.ndarray]] = []

    def __call__(self, sample: Sample, labels: np.ndarray) -> None:
        """Takes the next image's prediction; those not wanted are left out."""
        if self._seen in self.wanted:
            self.add(sample, labels)
        self._seen += 1

    def add(self, sample: Sample, labels: np.ndarray) -> None:
        """Takes this prediction."""
        image = sample["image"]
        truth = overlay(image, sample["mask"], self._colors, ignore_label=self._ignore)
        predicted = overlay(image, labels, self._colors, ignore_label=self._ignore)
        self._rows.append([image, truth, predicted])

    def sheet(self) -> np.ndarray:
        """All rows as one uint8 (H, W, 3) picture with captions and legend."""
        captions = ("image", "ground truth", "prediction")
        return contact_sheet(self._rows, captions, classes=self._classes, colors=self._colors)


def scores_as_json(scores: Scores, reader: Reader, facts: dict[str, Any]) -> dict[str, Any]:
    """The scores, per class too, with the facts they were computed under."""
    return {**facts, **scores.confusion.to_dict(reader.classes), **scores.others}
