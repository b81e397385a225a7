"""From an experiment file to readers, model, training and scores."""

import fnmatch
from collections.abc import Callable, Iterator, Sequence
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
from tfseg.metrics import ConfusionMatrix, EMScores, SegScore
from tfseg.predict import Predictor
from tfseg.predict.instances import instance_labels
from tfseg.registry import Preprocessing, suggest
from tfseg.train import Outcome, Trainer
from tfseg.train.precision import building_in
from tfseg.visualize import contact_sheet, overlay, palette
from tfseg.weights import load_weights


def open_split(experiment: config.Experiment, split: str) -> Reader:
    """The reader of the experiment's "train" or "validation" split.

    Raises:
        ConfigError: if the experiment has none, its classes are not the model's, or the
            validation split lacks what a score needs.
        DataError: what the reader finds wrong on opening.
    """
    section: config.Split | None = getattr(experiment.data, split)
    if section is None:
        raise config.ConfigError(f"the experiment has no data.{split}")
    reader = open_reader(section.reader, experiment.data.ignore_label, **section.options)
    outputs = experiment.model.num_classes
    # One output is the logit of the second of two classes.
    if len(reader.classes) != max(outputs, 2):
        raise config.ConfigError(
            f"model.num_classes is {outputs}, but data.{split} has "
            f"{len(reader.classes)} classes: {', '.join(reader.classes)}"
        )
    if split == "validation":
        _check_metrics(experiment.metrics, reader)
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
    freeze_layers(model, experiment.train.frozen)
    if section.backbone_weights is not None:
        origin, partial = section.backbone_origin, section.backbone_partial
        path = section.backbone_weights
        load_weights(model, path, origin, part="backbone", partial=partial)
    if section.weights is not None:
        origin, skip, partial = section.weights_origin, section.skip_heads, section.weights_partial
        load_weights(model, section.weights, origin, skip_heads=skip, partial=partial)
    return model


def freeze_layers(model: keras.Model, patterns: Sequence[str]) -> None:
    """Stops layers whose names fit one of these shell patterns from training.

    Raises:
        ValueError: for a pattern that no layer with weights fits.
    """
    layers = [layer for layer in model.layers if layer.weights]
    for pattern in patterns:
        fitting = [layer for layer in layers if fnmatch.fnmatchcase(layer.name, pattern)]
        if not fitting:
            names = suggest(pattern, [layer.name for layer in layers])
            raise ValueError(f"train.frozen: no layer of {model.name!r} fits {pattern!r}; {names}")
        for layer in fitting:
            layer.trainable = False


def make_predictor(model: keras.Model, section: config.Predict) -> Predictor:
    """The predictor that the config's predict section describes."""
    return Predictor(model, model.spec.preprocessing, **section.model_dump())


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

    Raises:
        ConfigError: if the reader lacks what a score needs.
    """
    _check_metrics(metrics, reader)
    confusion = ConfusionMatrix(len(reader.classes), reader.ignore_label)
    em = EMScores(metrics.boundary_class, reader.ignore_label) if metrics.em else None
    seg = SegScore() if metrics.seg else None
    for sample in tqdm(
        _prefetched(reader), total=len(reader), unit="image", disable=not progress, leave=False
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
    return Scores(confusion, others if seg is None else others | seg.result())


def _check_metrics(metrics: config.Metrics, reader: Reader) -> None:
    if metrics.seg and "instances" not in reader.keys():  # noqa: SIM118 (not a mapping)
        raise config.ConfigError(
            "metrics.seg needs instances, but the reader's samples have only "
            f"{', '.join(reader.keys())}"
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
        name=section.name,
        ignore_label=experiment.data.ignore_label,
        reduction=section.reduction,
        class_weights=section.class_weights,
        use_pixel_weights=section.pixel_weights,
        label_stride=section.label_stride,
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


def train_stages(
    stages: Sequence[config.Experiment], run_dir: Path, *, resume: bool = False
) -> Outcome | None:
    """Trains one stage after the other, each from the last weights of the one before.

    Layers are matched by name: those that a stage adds keep their initialisation, as Caffe's
    ``copy_from`` leaves them. A stage's run folder is run_dir/STAGE. Resuming leaves finished
    stages alone. A stage with weights of its own in its config starts from them instead.

    Args:
        stages: as `config.load_stages` gives them; more than one.
        run_dir: the folder of the stages' folders.
        resume: go on where a run of the same stages was stopped.

    Returns:
        The outcome of the last stage that ran, or None where all were finished.
    """
    for stage in stages:
        _check_stage(stage)
    previous: Path | None = None
    outcome = None
    for stage in stages:
        folder = run_dir / stage.name.rpartition("/")[2]
        if previous is not None and stage.model.weights is None:
            start = {"weights": previous, "weights_origin": "tfseg", "weights_partial": True}
            start |= {"backbone_weights": None, "backbone_origin": None}
            model = stage.model.model_copy(update=start)
            stage = stage.model_copy(update={"model": model})
        previous = folder / "last.weights.h5"
        checkpoints = folder / "checkpoints"
        if resume and (checkpoints / f"ckpt-{stage.train.steps}.index").exists():
            print(f"stage {stage.name} is finished: {folder}", flush=True)
            continue
        print(f"stage {stage.name}: {folder}", flush=True)
        outcome = train(stage, folder, resume=resume and checkpoints.exists())
        if outcome.interrupted is not None:
            break
    return outcome


def _check_stage(stage: config.Experiment) -> None:
    """Finds what is wrong with a stage before the stages in front of it are trained."""
    reader = open_split(stage, "train")
    if stage.data.validation:
        open_split(stage, "validation")
    without = {"weights": None, "backbone_weights": None}
    bare = stage.model_copy(update={"model": stage.model.model_copy(update=without)})
    model = build_model(bare)
    make_dataset(stage, reader, model.spec.preprocessing, Path())
    make_predictor(model, stage.predict.model_copy(update={"freeze": False}))


def scores_as_json(scores: Scores, reader: Reader, facts: dict[str, Any]) -> dict[str, Any]:
    """The scores, per class too, with the facts they were computed under."""
    return {**facts, **scores.confusion.to_dict(reader.classes), **scores.others}
