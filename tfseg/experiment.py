"""From an experiment file to readers, model, training and scores."""

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

import tfseg
from tfseg import config, runs
from tfseg.data import open_reader
from tfseg.data.pipeline import training_dataset
from tfseg.data.sample import Reader, Sample
from tfseg.data.transforms import make_transforms
from tfseg.losses import SemanticLoss
from tfseg.metrics import ConfusionMatrix, EMScores
from tfseg.predict import Predictor
from tfseg.registry import Preprocessing
from tfseg.train import Outcome, Trainer
from tfseg.train.precision import building_in
from tfseg.visualize import contact_sheet, overlay, palette
from tfseg.weights import load_weights


def open_split(experiment: config.Experiment, split: str) -> Reader:
    """The reader of the experiment's "train" or "validation" split.

    Raises:
        ConfigError: if the experiment has none, or its classes are not the model's.
        DataError: what the reader finds wrong on opening.
    """
    section: config.Split | None = getattr(experiment.data, split)
    if section is None:
        raise config.ConfigError(f"the experiment has no data.{split}")
    reader = open_reader(section.reader, experiment.data.ignore_label, **section.options)
    if len(reader.classes) != experiment.model.num_classes:
        raise config.ConfigError(
            f"model.num_classes is {experiment.model.num_classes}, but data.{split} has "
            f"{len(reader.classes)} classes: {', '.join(reader.classes)}"
        )
    return reader


def build_model(experiment: config.Experiment, weights: str | Path | None = None) -> keras.Model:
    """The experiment's network under its precision.

    Args:
        weights: a file of the same network to load; None: what the experiment starts from.

    Raises:
        ValueError: unknown name or options, or weights that do not fit.
    """
    section = experiment.model
    with building_in(experiment.train.precision):
        model = tfseg.build(section.name, section.num_classes, **section.options)
    if weights is not None:
        load_weights(model, weights, "tfseg")
        return model
    if section.backbone_weights is not None:
        origin = section.backbone_origin
        load_weights(model, section.backbone_weights, origin, part="backbone")
    if section.weights is not None:
        origin, skip = section.weights_origin, section.skip_heads
        load_weights(model, section.weights, origin, skip_heads=skip)
    return model


def make_predictor(model: keras.Model, section: config.Predict) -> Predictor:
    """The predictor that the config's predict section describes."""
    return Predictor(model, model.spec.preprocessing, **section.model_dump())


@dataclass(frozen=True)
class Scores:
    """What `evaluate` found.

    Attributes:
        confusion: counts of the whole split.
        em: the electron-microscopy scores, where they were asked for.
    """

    confusion: ConfusionMatrix
    em: dict[str, float]

    def summary(self) -> dict[str, float]:
        """The scores that are one number each."""
        result = self.confusion.result()
        return {k: v for k, v in result.items() if k != "per_class"} | self.em


def _prefetched(reader: Reader) -> Iterator[Sample]:
    """The samples in order, each read while the one before it is in use."""
    with ThreadPoolExecutor(1) as pool:
        ahead = pool.submit(reader.__getitem__, 0)
        for index in range(len(reader)):
            sample = ahead.result()
            if index + 1 < len(reader):
                ahead = pool.submit(reader.__getitem__, index + 1)
            yield sample


def evaluate(
    predictor: Predictor,
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
    """
    confusion = ConfusionMatrix(len(reader.classes), reader.ignore_label)
    em = EMScores(metrics.boundary_class, reader.ignore_label) if metrics.em else None
    for sample in tqdm(
        _prefetched(reader), total=len(reader), unit="image", disable=not progress, leave=False
    ):
        probabilities = predictor(sample["image"])
        labels = probabilities.argmax(-1).astype(np.int32)
        confusion.update(sample["mask"], labels)
        if em is not None:
            inside = 1 - probabilities[..., metrics.boundary_class]
            em.update(sample["mask"], np.clip(inside, 0, 1))
        if on_prediction is not None:
            on_prediction(sample, labels)
    return Scores(confusion, em.result() if em is not None else {})


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


def make_dataset(
    experiment: config.Experiment,
    reader: Reader,
    preprocessing: Preprocessing,
    run_dir: Path,
    start_step: int = 0,
) -> tf.data.Dataset:
    """The experiment's training batches from a step on; see `training_dataset`."""
    return training_dataset(
        reader,
        make_transforms(experiment.data.transforms),
        preprocessing=preprocessing,
        batch_size=experiment.train.batch_size,
        seed=experiment.seed,
        start_step=start_step,
        cache=experiment.data.cache,
        cache_dir=run_dir / "cache",
    )


def make_loss(experiment: config.Experiment) -> SemanticLoss:
    """The loss that the config's train.loss section describes."""
    section = experiment.train.loss
    return SemanticLoss(
        ignore_label=experiment.data.ignore_label,
        reduction=section.reduction,
        class_weights=section.class_weights,
        use_pixel_weights=section.pixel_weights,
        aux_weight=section.aux_weight,
    )


def train(
    experiment: config.Experiment,
    run_dir: Path,
    *,
    resume: bool = False,
) -> Outcome:
    """Trains as the experiment says; everything it leaves is in the run folder.

    What can be wrong is checked first: data, transforms, model, weights.
    """
    keras.utils.set_random_seed(experiment.seed)
    reader = open_split(experiment, "train")
    validation = open_split(experiment, "validation") if experiment.data.validation else None
    probe = build_model(experiment)
    preprocessing = probe.spec.preprocessing
    make_dataset(experiment, reader, preprocessing, run_dir)
    # In training a predictor must follow the weights.
    live = experiment.predict.model_copy(update={"freeze": False})
    make_predictor(probe, live)
    del probe

    def dataset(start_step: int) -> tf.data.Dataset:
        return make_dataset(experiment, reader, preprocessing, run_dir, start_step)

    def validate(model: keras.Model) -> dict[str, float]:
        assert validation is not None
        predictor = make_predictor(model, live)
        return evaluate(predictor, validation, experiment.metrics).summary()

    def draw(model: keras.Model) -> dict[str, np.ndarray]:
        assert validation is not None
        pictures, predictor = Pictures(validation, 2), make_predictor(model, live)
        for index in sorted(pictures.wanted):
            sample = validation[index]
            pictures.add(sample, predictor(sample["image"]).argmax(-1).astype(np.int32))
        return {"validation": pictures.sheet()}

    trainer = Trainer(
        lambda: build_model(experiment),
        make_loss(experiment),
        experiment.train,
        run_dir,
        dataset=dataset,
        validate=validate if validation is not None else None,
        log_images=draw if validation is not None else None,
        seed=experiment.seed,
        resume=resume,
    )
    runs.save(run_dir, experiment, reader)
    return trainer.run()


def scores_as_json(scores: Scores, reader: Reader, facts: dict[str, Any]) -> dict[str, Any]:
    """The scores, per class too, with the facts they were computed under."""
    return {**facts, **scores.confusion.to_dict(reader.classes), **scores.em}
