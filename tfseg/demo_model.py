"""Exports and run folders as what a page shows: an image's picture and its table."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import tensorflow as tf

from tfseg import config, registry, runs
from tfseg import experiment as experiments
from tfseg.data.io import decode_image
from tfseg.data.sample import DataError
from tfseg.detection import is_detector
from tfseg.detection_inference import make_test_predictor
from tfseg.exported import LoadedExport, export_combiner, version_folder
from tfseg.predict.detection_files import draw_detections
from tfseg.predict.detections import Detections, export_detections
from tfseg.predict.panoptic import Combiner
from tfseg.predict.panoptic_files import draw_panoptic
from tfseg.visualize import overlay, palette
from tfseg.visualize_instances import instance_colors

#: of an image: probabilities of some ten classes take some hundred bytes of each
MAX_PIXELS = 25_000_000


@dataclass(frozen=True)
class Row:
    """A line of the table: a class, an object, or a segment of a panoptic map.

    Attributes:
        name: of the class.
        color: uint8 (3,), that it has in the picture.
        share: of the image's pixels, 0..1; None where objects may overlap.
        score: an object's; of a semantic class its mean probability on its pixels; None of stuff.
    """

    name: str
    color: np.ndarray
    share: float | None
    score: float | None


class Found(ABC):
    """What a model found in one image."""

    @abstractmethod
    def show(self, threshold: float) -> tuple[np.ndarray, list[Row]]:
        """The picture that `tfseg predict` writes as overlay, and the table to it.

        Args:
            threshold: only objects above this score are shown; without effect on semantic labels.

        Returns:
            uint8 (H, W, 3), and the rows: classes by falling share, objects by falling score.
        """


@dataclass(frozen=True)
class SemanticFound(Found):
    """Labels of all pixels.

    Attributes:
        image: uint8 (H, W, 3) or (H, W, 1).
        labels: int (h, w), of the image's centre where they are smaller.
        probabilities: float32 (h, w), of these labels.
        names: by class.
        colors: uint8 (num_classes, 3).
    """

    image: np.ndarray
    labels: np.ndarray
    probabilities: np.ndarray
    names: Sequence[str]
    colors: np.ndarray

    def show(self, threshold: float) -> tuple[np.ndarray, list[Row]]:
        """See `Found.show`. Where there are no labels, the image shows unchanged."""
        del threshold
        counts = np.bincount(self.labels.ravel(), minlength=len(self.names))
        sums = np.bincount(self.labels.ravel(), self.probabilities.ravel(), len(self.names))
        rows = [
            Row(
                self.names[label],
                self.colors[label],
                share=float(counts[label] / self.labels.size),
                score=float(sums[label] / counts[label]),
            )
            for label in np.argsort(-counts, kind="stable").tolist()
            if counts[label] > 0
        ]
        (height, width), (high, wide) = self.image.shape[:2], self.labels.shape
        top, left = (height - high) // 2, (width - wide) // 2
        whole = np.full((height, width), -1)
        whole[top : top + high, left : left + wide] = self.labels
        return overlay(self.image, whole, self.colors, ignore_label=-1), rows


@dataclass(frozen=True)
class ObjectsFound(Found):
    """Boxes with what the model gives to them.

    Attributes:
        image: uint8 (H, W, 3) or (H, W, 1).
        objects: all of them.
        names: by class.
        skeleton: pairs of keypoints to be joined by lines.
    """

    image: np.ndarray
    objects: Detections
    names: Sequence[str]
    skeleton: Sequence[tuple[int, int]]

    def show(self, threshold: float) -> tuple[np.ndarray, list[Row]]:
        """See `Found.show`."""
        sure = self.objects.above(threshold)
        colors = instance_colors(sure.boxes)
        picture = draw_detections(
            self.image, sure, self.names, skeleton=self.skeleton, colors=colors
        )
        rows = [
            Row(self.names[label], color, share=None, score=float(score))
            for label, color, score in zip(sure.classes, colors, sure.scores, strict=True)
        ]
        return picture, rows


@dataclass(frozen=True)
class PanopticFound(Found):
    """Objects and labels, combined into a map in which each pixel is of one segment.

    Attributes:
        image: uint8 (H, W, 3) or (H, W, 1).
        objects: with masks and semantic labels.
        combiner: knows the categories.
    """

    image: np.ndarray
    objects: Detections
    combiner: Combiner

    def show(self, threshold: float) -> tuple[np.ndarray, list[Row]]:
        """See `Found.show`. Objects come first, then stuff."""
        combiner = replace(self.combiner, score_threshold=threshold)
        ids, segments = combiner(self.objects)
        picture = draw_panoptic(self.image, self.objects, ids, segments, combiner)
        things = [segment["instance"] for segment in segments if segment["isthing"]]
        of_things = iter(instance_colors(self.objects.boxes[things]))
        of_stuff = dict(zip(combiner.stuff, palette(1 + len(combiner.stuff))[1:], strict=True))
        rows = []
        for segment in segments:
            category, thing = segment["category_id"], segment["isthing"]
            rows.append(
                Row(
                    (combiner.things if thing else combiner.stuff)[category],
                    next(of_things) if thing else of_stuff[category],
                    share=segment["area"] / ids.size,
                    score=segment.get("score"),
                )
            )
        return picture, rows


@dataclass(frozen=True)
class DemoModel:
    """A model that can be looked at.

    Attributes:
        name: of the export or the run.
        facts: what it is, a phrase each.
        threshold: the score above which objects are shown at first; None of a semantic model.
        find: what it finds in an image uint8 (H, W, 3) or (H, W, 1).
    """

    name: str
    facts: tuple[str, ...]
    threshold: float | None
    find: Callable[[np.ndarray], Found]

    def look(self, data: bytes, name: str) -> tuple[np.ndarray, Found]:
        """Decodes an image file as `tfseg predict` does, and looks at it.

        Args:
            data: the file's content.
            name: of the file, for messages.

        Returns:
            The image, uint8 (H, W, 3) or (H, W, 1), and what was found.

        Raises:
            DataError: a damaged or huge file, or an image of a size for which the network fails.
        """
        image = decode_image(data, name, MAX_PIXELS)
        try:
            return image, self.find(image)
        except tf.errors.OpError as error:
            height, width = image.shape[:2]
            raise DataError(
                f"{name} was read, but the model fails on images of {width} x {height} pixels"
            ) from error


#: a model's threshold and what finds; see `DemoModel`
_Finder = tuple[float | None, Callable[[np.ndarray], Found]]


def open_model(path: Path) -> DemoModel:
    """The model of an export or a run folder.

    Args:
        path: a version of an export, the folder of its versions (the newest is taken), or a run
            folder (with its best weights, predicting as its config says).

    Raises:
        FileNotFoundError: if it is none of these.
        ValueError: what is wrong with a run's config.
    """
    if (path / "config.yaml").exists():
        return _of_run(path)
    return _of_export(version_folder(path))


def _of_export(path: Path) -> DemoModel:
    export = LoadedExport(path)
    info, names = export.info, export.names

    def answer(image: np.ndarray) -> dict[str, np.ndarray]:
        return {name: value[0] for name, value in export([image]).items()}

    if export.is_semantic:
        finder = _semantic(lambda image: answer(image)["probabilities"], names, export.colors)
    else:
        finder = _objects(
            lambda image: export_detections(answer(image), image.shape[:2], info["style"]),
            names,
            [(a, b) for a, b in info["skeleton"]],
            export.combiner,
            config.Detect().score_threshold,
        )
    return DemoModel(
        f"{info['name']}, version {path.resolve().name}",
        _facts(info["task"], info["network"], names, info["parameters"]),
        *finder,
    )


def _of_run(run: Path) -> DemoModel:
    experiment = config.load(run / "config.yaml")
    model = experiments.build_model(experiment, runs.weights(run))
    known = runs.labels(run)
    if is_detector(experiment):
        detector = make_test_predictor(experiment, model, run, [0])
        finder = _objects(
            lambda image: detector(image, 0),
            known.names,
            known.skeleton,
            export_combiner(
                known.category_ids, known.names, known.stuff, experiment.detect.combine
            ),
            experiment.detect.score_threshold,
        )
    else:
        predictor = experiments.run_predictor(run, experiment, model)
        finder = _semantic(predictor, known.names, known.colors)
    network = model.spec.name
    facts = _facts(registry.entry(network).task, network, known.names, model.count_params())
    return DemoModel(experiment.name, facts, *finder)


def _facts(
    task: str | None, network: str, names: Sequence[str], parameters: int
) -> tuple[str, ...]:
    classes = f"{len(names)} {'class' if len(names) == 1 else 'classes'}"
    return f"{task or ''} network {network}".lstrip(), classes, f"{parameters:,} parameters"


def _semantic(
    predict: Callable[[np.ndarray], np.ndarray], names: Sequence[str], colors: np.ndarray | None
) -> _Finder:
    """What gives `SemanticFound`."""
    shown = palette(len(names)) if colors is None else colors

    def find(image: np.ndarray) -> Found:
        probabilities = predict(image)
        labels = probabilities.argmax(axis=-1)
        return SemanticFound(image, labels, probabilities.max(axis=-1), names, shown)

    return None, find


def _objects(
    detect: Callable[[np.ndarray], Detections],
    names: Sequence[str],
    skeleton: Sequence[tuple[int, int]],
    combiner: Combiner | None,
    threshold: float,
) -> _Finder:
    """What gives `ObjectsFound` or, with a combiner, `PanopticFound`."""
    if combiner is None:
        return threshold, lambda image: ObjectsFound(image, detect(image), names, skeleton)
    return combiner.score_threshold, lambda image: PanopticFound(image, detect(image), combiner)
