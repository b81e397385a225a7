"""From an experiment file to readers, model, training and scores."""

import fnmatch
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

import tfseg
from tfseg import config, models, registry, runs
from tfseg.data import open_reader
from tfseg.data.pipeline import WHOLE, Share, training_dataset
from tfseg.data.sample import Reader
from tfseg.data.transforms import make_transforms
from tfseg.detection import BEST_METRIC, check_classes, detector_kit, is_detector
from tfseg.detector_data import extended
from tfseg.evaluation import Pictures, check_metrics, evaluate
from tfseg.kit import Kit
from tfseg.losses import SemanticLoss
from tfseg.predict import DenseCRF, ImagePredictor, Predictor, RefinedPredictor
from tfseg.predict.boost import BoostedPredictor
from tfseg.predict.mirror import MirroredPredictor
from tfseg.predict.proposals import ProposalPredictor, edge_boxes
from tfseg.registry import Preprocessing, suggest
from tfseg.train import Outcome, Trainer, make_strategy
from tfseg.train.batch_statistics import estimate_batch_statistics
from tfseg.train.checkpoints import write_whole
from tfseg.train.locks import RunLock
from tfseg.train.precision import building_in
from tfseg.train.workers import is_chief, own_folder
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
    if is_detector(experiment):
        return extended(experiment, check_classes(experiment, reader, split), split)
    if experiment.data.semantic_labels is not None or section.proposals is not None:
        raise config.ConfigError(
            f"data.semantic_labels and data.{split}.proposals are for detectors, which "
            f"{experiment.model.name!r} is not"
        )
    outputs = experiment.model.num_classes
    # One output is the logit of the second of two classes.
    if len(reader.classes) != max(outputs, 2):
        raise config.ConfigError(
            f"model.num_classes is {outputs}, but data.{split} has "
            f"{len(reader.classes)} classes: {', '.join(reader.classes)}"
        )
    if split == "validation":
        check_metrics(experiment.metrics, reader)
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


def make_predictor(
    model: keras.Model, section: config.Predict, label_pixels: np.ndarray | None = None
) -> ImagePredictor:
    """The predictor that the config's predict section describes.

    Args:
        model: the network.
        section: the config's.
        label_pixels: pixels of each class in the training labels, for the boost of rare labels;
            see `runs.label_pixels`.

    Raises:
        ValueError: options that do not fit the model, or a boost without pixel counts.
    """
    predictor = _plain_predictor(model, section)
    if section.label_boost > 0:
        if label_pixels is None:
            raise ValueError("predict.label_boost needs the pixel counts of the training labels")
        predictor = BoostedPredictor(predictor, label_pixels, section.label_boost)
    if section.crf is None:
        return predictor
    values = section.crf.model_dump(exclude={"preset"}, exclude_none=True)
    preset = section.crf.preset
    crf = DenseCRF(**values) if preset is None else DenseCRF.preset(preset, **values)
    return RefinedPredictor(predictor, crf)


def run_predictor(
    run_dir: Path, experiment: config.Experiment, model: keras.Model, *, progress: bool = True
) -> ImagePredictor:
    """`make_predictor` with the pixel counts that it may need, of a run's `runs.label_pixels`."""
    boosts = experiment.predict.label_boost > 0
    pixels = runs.label_pixels(run_dir, experiment, progress=progress) if boosts else None
    return make_predictor(model, experiment.predict, pixels)


def _plain_predictor(model: keras.Model, section: config.Predict) -> ImagePredictor:
    preprocessing, found = model.spec.preprocessing, section.proposals
    if found is None:
        options = section.model_dump(exclude={"proposals", "label_boost", "crf", "mirror_margin"})
        predictor = Predictor(model, preprocessing, **options)
        margin = section.mirror_margin
        return MirroredPredictor(predictor, margin) if margin else predictor
    return ProposalPredictor(
        model,
        preprocessing,
        edge_boxes(found.edge_boxes),
        **found.model_dump(exclude={"edge_boxes"}),
        batch_size=section.batch_size,
        freeze=section.freeze,
    )


def make_dataset(
    experiment: config.Experiment,
    reader: Reader,
    preprocessing: Preprocessing,
    run_dir: Path,
    start_step: int = 0,
    share: Share = WHOLE,
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
        share=share,
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

    What can be wrong is checked first: data, transforms, model, weights. Of several workers only
    the chief writes to the run folder.
    """
    strategy = make_strategy(experiment.train.strategy)
    with own_folder(strategy, run_dir) as folder:
        return _train(experiment, folder, strategy, resume)


def _train(
    experiment: config.Experiment, run_dir: Path, strategy: tf.distribute.Strategy, resume: bool
) -> Outcome:
    keras.utils.set_random_seed(experiment.seed)
    experiment = with_best_metric(experiment)
    kit = _checked(experiment, run_dir)
    trainer = Trainer(
        _builder(experiment, kit.loss),
        kit.loss,
        experiment.train,
        run_dir,
        dataset=kit.dataset,
        validate=kit.validate,
        log_images=kit.draw,
        seed=experiment.seed,
        resume=resume,
        strategy=strategy,
    )
    runs.save(run_dir, experiment, kit.reader)
    outcome = trainer.run()
    measured = experiment.train.batch_statistics is not None and outcome.interrupted is None
    if measured and is_chief(strategy):
        del trainer
        measure_batch_statistics(experiment, run_dir, kit.dataset(outcome.step))
    return outcome


def with_best_metric(experiment: config.Experiment) -> config.Experiment:
    """The experiment with the score of its task, where it names none to choose weights by."""
    if experiment.train.best_metric is not None:
        return experiment
    models.register_all()
    metric = BEST_METRIC.get(registry.entry(experiment.model.name).task, "mean_iou")
    train = experiment.train.model_copy(update={"best_metric": metric})
    return experiment.model_copy(update={"train": train})


def _builder(experiment: config.Experiment, loss: Any) -> Callable[[], keras.Model]:
    """Builds the model, and with it, in the same scope, the one that the loss may need."""

    def build() -> keras.Model:
        if is_detector(experiment) and experiment.train.rcnn.proposer is not None:
            loss.proposer = build_model(experiment, experiment.train.rcnn.proposer)
        return build_model(experiment)

    return build


def _semantic_kit(
    experiment: config.Experiment,
    reader: Reader,
    validation: Reader | None,
    probe: keras.Model,
    run_dir: Path,
) -> Kit:
    preprocessing: Preprocessing = probe.spec.preprocessing
    make_predictor(probe, _live(experiment.predict))
    live = _live(experiment.predict).model_copy(update={"crf": None})

    def dataset(start_step: int, share: Share = WHOLE) -> tf.data.Dataset:
        return make_dataset(experiment, reader, preprocessing, run_dir, start_step, share)

    dataset(0)
    loss = make_loss(experiment)
    if validation is None:
        return Kit(reader, loss, dataset)

    def validate(model: keras.Model) -> dict[str, float]:
        return evaluate(make_predictor(model, live), validation, experiment.metrics).summary()

    def draw(model: keras.Model) -> dict[str, np.ndarray]:
        pictures, predictor = Pictures(validation, 2), make_predictor(model, live)
        for index in sorted(pictures.wanted):
            sample = validation[index]
            pictures.add(sample, predictor(sample["image"]).argmax(-1).astype(np.int32))
        return {"validation": pictures.sheet()}

    return Kit(reader, loss, dataset, validate, draw)


def _live(section: config.Predict) -> config.Predict:
    """How a model in training is predicted with: its weights change, and labels are not counted."""
    return section.model_copy(update={"freeze": False, "label_boost": 0.0})


def _checked(experiment: config.Experiment, run_dir: Path) -> Kit:
    """What the experiment's training consists of.

    Raises:
        ValueError: what is wrong with data, transforms, model, weights or prediction.
    """
    reader = open_split(experiment, "train")
    validation = open_split(experiment, "validation") if experiment.data.validation else None
    probe = build_model(experiment)
    make_kit: Any = detector_kit if is_detector(experiment) else _semantic_kit
    kit: Kit = make_kit(experiment, reader, validation, probe, run_dir)
    return kit


def measure_batch_statistics(
    experiment: config.Experiment, run_dir: Path, dataset: tf.data.Dataset
) -> None:
    """Puts batch statistics of the data set into a run's last weights, as the config says."""
    steps, path = experiment.train.batch_statistics, run_dir / "last.weights.h5"
    assert steps is not None
    lock = RunLock(run_dir)
    try:
        model = build_model(experiment, path)
        freeze_layers(model, experiment.train.frozen)
        estimate_batch_statistics(model, (batch["image"] for batch in dataset), steps)
        write_whole(path, model.save_weights)
    finally:
        lock.release()


def train_stages(
    stages: Sequence[config.Experiment], run_dir: Path, *, resume: bool = False
) -> Outcome | None:
    """Trains one stage after the other, each from the last weights of the one before.

    Layers are matched by name: those that a stage adds keep their initialisation, as Caffe's
    ``copy_from`` leaves them. A stage's run folder is run_dir/STAGE. Resuming leaves finished
    stages alone, but for batch statistics, which are measured again. A stage with weights of its
    own in its config starts from them instead, and a ``fresh`` one as if it were the first.

    Args:
        stages: as `config.load_stages` gives them; more than one.
        run_dir: the folder of the stages' folders.
        resume: go on where a run of the same stages was stopped.

    Returns:
        The outcome of the last stage that ran, or None where all were finished.
    """
    make_strategy(stages[0].train.strategy)  # before TensorFlow computes anything
    for stage in stages:
        _check_stage(stage)
    previous: Path | None = None
    outcome = None
    for stage in stages:
        folder = run_dir / stage.name.rpartition("/")[2]
        stage = _with_proposer(stage, run_dir, {s.name.rpartition("/")[2] for s in stages})
        if previous is not None and stage.model.weights is None and not stage.model.fresh:
            start = {"weights": previous, "weights_origin": "tfseg", "weights_partial": True}
            start |= {"backbone_weights": None, "backbone_origin": None}
            model = stage.model.model_copy(update=start)
            stage = stage.model_copy(update={"model": model})
        previous = folder / "last.weights.h5"
        trained = runs.trained_steps(folder) == stage.train.steps
        # Nothing tells whether a stopped run had measured its batch statistics.
        if resume and trained and stage.train.batch_statistics is None:
            print(f"stage {stage.name} is finished: {folder}", flush=True)
            continue
        print(f"stage {stage.name}: {folder}", flush=True)
        outcome = train(stage, folder, resume=resume and folder.is_dir())
        if outcome.interrupted is not None:
            break
    return outcome


def _with_proposer(stage: config.Experiment, run_dir: Path, names: set[str]) -> config.Experiment:
    """The stage with the weights file of its proposer, where that is another stage's name."""
    proposer = stage.train.rcnn.proposer
    if proposer is None or str(proposer) not in names:
        return stage
    found = {"proposer": run_dir / proposer / "last.weights.h5"}
    rcnn = stage.train.rcnn.model_copy(update=found)
    return stage.model_copy(update={"train": stage.train.model_copy(update={"rcnn": rcnn})})


def _check_stage(stage: config.Experiment) -> None:
    """Finds what is wrong with a stage before the stages in front of it are trained."""
    without = {"weights": None, "backbone_weights": None}
    bare = stage.model_copy(update={"model": stage.model.model_copy(update=without)})
    _checked(bare, Path())
