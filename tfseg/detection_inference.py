"""From an experiment's detect section to what `tfseg evaluate` and `predict` look with."""

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import keras

from tfseg import config, runs
from tfseg import experiment as experiments
from tfseg.data.readers.coco import mirror_pairs
from tfseg.detection import is_detector, make_detection_predictor
from tfseg.predict.augmented import AugmentedDetector
from tfseg.predict.detect_views import DetectViews
from tfseg.predict.detector import Detector
from tfseg.predict.results_file import ResultsFile


def set_suppression(model: Any, section: config.Detect) -> None:
    """Makes a network suppress and vote as the config's detect section says."""
    model.thresholds = replace(
        model.thresholds,
        soft_nms=section.soft_nms,
        soft_sigma=section.soft_sigma,
        vote=section.vote,
    )


def make_test_predictor(
    experiment: config.Experiment,
    model: Any,
    run: Path,
    images: Sequence[int | str],
    known: Collection[int] | None = None,
    score_threshold: float | None = None,
) -> Detector:
    """The predictor that the config's detect section describes, with all that is for tests alone.

    Without further views and boxes of others it is `make_detection_predictor`'s.

    Args:
        experiment: the run's.
        model: its network, which is told how to suppress.
        run: the folder.
        images: ids of the images to look at.
        known: the ids that files of boxes may have; None: any.
        score_threshold: only what scores more is found; None: all, as scores need it.

    Raises:
        ConfigError: views or boxes for a panoptic network; boxes that are neither a run folder of
            a detector nor a file, or of other classes.
        ValueError: scales that cannot be.
        DataError: what is wrong with a file of boxes; see `ResultsFile`.
        FileNotFoundError: a run without weights.
    """
    section = experiment.detect
    set_suppression(model, section)
    if not (section.scales or section.flip or section.boxes):
        return make_detection_predictor(model, section, score_threshold)
    if model.panoptic:
        raise config.ConfigError(
            "detect.scales, detect.flip and detect.boxes are for networks that find objects "
            f"alone; {experiment.model.name!r} labels whole images too, of one view"
        )
    labels = runs.labels(run)
    paths = {path.resolve(): path for path in section.boxes or [run]}
    own = _views(experiment, model, section, searches=run.resolve() in paths)
    sources = [
        own if resolved == run.resolve() else _source(path, section, labels, run, images, known)
        for resolved, path in paths.items()
    ]
    return AugmentedDetector(
        own,
        sources,
        flip_pairs=mirror_pairs(labels.keypoints),
        score_threshold=score_threshold,
        batch_size=section.batch_size,
    )


def _views(
    experiment: config.Experiment, model: keras.Model, section: config.Detect, searches: bool = True
) -> DetectViews:
    """A network that looks with its own sizes first, then with those of a section.

    What is its own short side already is no further one.
    """
    return DetectViews(
        model,
        model.spec.preprocessing,
        short_side=experiment.detect.short_side,
        long_side=experiment.detect.long_side,
        scales=[scale for scale in section.scales if scale != experiment.detect.short_side],
        scales_long_side=section.scales_long_side,
        flip=section.flip,
        searches=searches,
        freeze=section.freeze,
    )


def _source(
    path: Path,
    section: config.Detect,
    labels: runs.Labels,
    run: Path,
    images: Sequence[int | str],
    known: Collection[int] | None,
) -> DetectViews | ResultsFile:
    """One of detect.boxes: a detector of the same classes with its best weights, or a file."""
    if not path.exists():
        raise config.ConfigError(f"detect.boxes: {path} is missing")
    if path.is_file():
        ids = labels.category_ids or tuple(range(len(labels.names)))
        return ResultsFile(path, ids, images, known)
    if not (path / "config.yaml").exists():
        raise config.ConfigError(f"detect.boxes: {path} is no run folder: it has no config.yaml")
    experiment = config.load(path / "config.yaml")
    if not is_detector(experiment):
        raise config.ConfigError(
            f"detect.boxes: the network of {path} is {experiment.model.name!r}, which finds no "
            "objects"
        )
    others = runs.labels(path)
    if (others.names, others.category_ids) != (labels.names, labels.category_ids):
        raise config.ConfigError(
            f"detect.boxes: {path} finds {_listed(others)}, but {run} {_listed(labels)}"
        )
    model = experiments.build_model(experiment, runs.weights(path))
    return _views(experiment, model, section)


def _listed(labels: runs.Labels) -> str:
    """A run's classes for a message."""
    ids = labels.category_ids or tuple(range(len(labels.names)))
    shown = [f"{name} ({number})" for name, number in zip(labels.names, ids, strict=True)]
    return ", ".join(shown[:8]) + (f", ... ({len(shown)} classes)" if len(shown) > 8 else "")
