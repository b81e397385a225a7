"""From a detector's experiment file to its data, loss, predictor and scores."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfseg import config, models, registry
from tfseg.data.detection import detection_dataset
from tfseg.data.pipeline import WHOLE, Share
from tfseg.data.readers.coco_panoptic import PanopticMasks
from tfseg.data.sample import ObjectReader
from tfseg.data.transforms import make_transforms
from tfseg.evaluate_detector import InstancePictures, evaluate_detector
from tfseg.evaluate_panoptic import PanopticScores
from tfseg.kit import Kit
from tfseg.losses import RCNNLoss
from tfseg.metrics.coco import COCO_SIGMAS, CocoScores, Kind
from tfseg.predict.detector import DetectionPredictor
from tfseg.predict.panoptic import Combiner
from tfseg.predict.panoptic_files import PanopticFiles
from tfseg.train.step import Loss

#: what the best weights are chosen by, by task
BEST_METRIC = {
    "detection": "box_ap",
    "instance": "mask_ap",
    "keypoint": "keypoint_ap",
    "panoptic": "pq",
}


def is_detector(experiment: config.Experiment) -> bool:
    """Whether the experiment's network finds objects.

    Raises:
        ValueError: an unknown network.
    """
    models.register_all()
    return registry.entry(experiment.model.name).task in BEST_METRIC


def check_classes(experiment: config.Experiment, reader: Any, split: str) -> ObjectReader:
    """Checks that the split's objects are what the model finds.

    Returns:
        The reader.

    Raises:
        ConfigError: a reader that has no objects, another number of classes, or samples without
            what a head learns from.
    """
    if not hasattr(reader, "truth"):
        raise config.ConfigError(
            f"data.{split} has no objects, which {experiment.model.name!r} finds; readers of "
            "objects are 'coco', 'instance_ids' and 'voc_instances'"
        )
    objects: ObjectReader = reader
    wanted = experiment.model.num_classes
    if len(objects.classes) != wanted:
        shown = ", ".join(objects.classes[:5]) + (", ..." if len(objects.classes) > 5 else "")
        raise config.ConfigError(
            f"model.num_classes is {wanted}, but data.{split} has {len(objects.classes)} classes "
            f"of objects: {shown}"
        )
    entry = registry.entry(experiment.model.name)
    if entry.task == "panoptic":
        options = entry.options() | experiment.model.options
        _check_panoptic(options["stuff_classes"], objects, split)
    return objects


def _check_panoptic(stuff_classes: int, reader: ObjectReader, split: str) -> None:
    masks = panoptic_masks(reader)
    if masks is None:
        raise config.ConfigError(
            f"data.{split} has no panoptic masks: give reader 'coco' panoptic_masks and "
            "panoptic_annotations"
        )
    if len(masks.classes) != stuff_classes:
        raise config.ConfigError(
            f"model.options.stuff_classes is {stuff_classes}, but data.{split} has "
            f"{len(masks.classes)} semantic classes: all things as one and {len(masks.stuff)} of "
            "stuff"
        )
    others = set(reader.category_ids) ^ set(masks.things)
    if others:
        raise config.ConfigError(
            f"data.{split}: the categories of objects must be the things of the panoptic file; "
            f"in one of them alone are {sorted(others)[:5]}"
        )


def panoptic_masks(reader: Any) -> PanopticMasks | None:
    """The panoptic files of a reader, where it has any."""
    return getattr(reader, "semantic", None)


def make_detection_dataset(
    experiment: config.Experiment,
    reader: ObjectReader,
    model: keras.Model,
    run_dir: Path,
    start_step: int = 0,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """The experiment's training batches from a step on; see `detection_dataset`."""
    data = experiment.data
    return detection_dataset(
        reader,
        make_transforms(data.transforms),
        preprocessing=model.spec.preprocessing,
        batch_size=experiment.train.batch_size,
        seed=experiment.seed,
        start_step=start_step,
        cache=data.cache,
        cache_dir=run_dir / "cache",
        buckets=data.buckets,
        divisor=data.divisor,
        share=share,
        proposals="proposals" in reader.keys(),  # noqa: SIM118 (not a mapping)
        **_learnt(model),
    )


def _learnt(model: Any) -> dict[str, bool]:
    """What of objects a model's heads learn."""
    return {
        "masks": model.mask_head is not None,
        "keypoints": model.keypoint_head is not None,
        "semantic": model.semantic_head is not None,
    }


def make_rcnn_loss(experiment: config.Experiment, model: Any) -> RCNNLoss:
    """The loss that the config's train.rcnn section describes, without its proposer."""
    section = experiment.train.rcnn
    return RCNNLoss(
        **section.model_dump(exclude={"proposer"}),
        mask_loss=model.mask_activation,
        # XLA would compile anew for every number of positives.
        only_positives=not experiment.train.jit_compile,
        ignore_label=experiment.data.ignore_label,
    )


def make_detection_predictor(
    model: keras.Model, section: config.Detect, score_threshold: float | None = None
) -> DetectionPredictor:
    """The predictor of one view that the config's detect section describes.

    Args:
        model: the network.
        section: the config's.
        score_threshold: only what scores more is found; None: all, as scores need it.
    """
    plain = {"short_side", "long_side", "batch_size", "freeze"}
    return DetectionPredictor(
        model,
        model.spec.preprocessing,
        **section.model_dump(include=plain),
        score_threshold=score_threshold,
    )


def make_scores(
    experiment: config.Experiment, reader: ObjectReader, model: Any
) -> Callable[[], CocoScores]:
    """Makes empty scores of all that the model finds; the truth is read once.

    Raises:
        ValueError: a truth that cannot be scored.
    """
    learnt = _learnt(model)
    kinds: list[Kind] = ["bbox"]
    if learnt["masks"]:
        kinds.append("segm")
    if learnt["keypoints"]:
        kinds.append("keypoints")
    truth, sigmas = reader.truth(), experiment.metrics.keypoint_sigmas

    def empty() -> CocoScores:
        return CocoScores(
            truth,
            reader.category_ids,
            reader.classes,
            kinds,
            oks_sigmas=COCO_SIGMAS if sigmas is None else sigmas,
            evaluator=experiment.metrics.evaluator,
        )

    return empty


def make_combiner(
    section: config.Combine, things: Mapping[int, str], stuff: Mapping[int, str]
) -> Combiner:
    """What combines objects and labels as the config's detect.combine section describes.

    Args:
        section: the config's.
        things: category id and name, by class.
        stuff: category id and name, by semantic label from 1 on.
    """
    return Combiner(things, stuff, **section.model_dump())


def make_panoptic_scores(
    experiment: config.Experiment, reader: ObjectReader, model: Any, folder: Path | None = None
) -> PanopticScores | None:
    """Makes empty scores of a panoptic network; of another None.

    Args:
        experiment: whose network it is.
        reader: the split.
        model: the network.
        folder: where the combined maps go; None: nowhere.
    """
    masks = panoptic_masks(reader)
    if not model.panoptic or masks is None:
        return None
    things = dict(zip(reader.category_ids, reader.classes, strict=True))
    combiner = make_combiner(experiment.detect.combine, things, masks.stuff)
    files = None if folder is None else PanopticFiles(folder, combiner)
    return PanopticScores(reader, masks, combiner, files)


class ValidationLoss:
    """The loss of a model in training on images that it does not learn from.

    Regions are sampled as in training, but alike each time. The model's state stays as it is.

    Args:
        loss: the loss.
        dataset: its batches, each image once an epoch.
        batches: of an epoch.
    """

    def __init__(self, loss: Loss, dataset: tf.data.Dataset, batches: int):
        self._loss, self._dataset, self._batches = loss, dataset, batches

    def __call__(self, model: keras.Model) -> dict[str, float]:
        """Its parts, each its sum over all batches by its normaliser, and their weighted sum.

        Returns:
            "loss", and of each part "loss_<name>".
        """
        weights: dict[str, float] = {}

        def measure(batch: Mapping[str, tf.Tensor]) -> dict[str, tuple[tf.Tensor, tf.Tensor]]:
            parts = self._loss.parts(model, batch, training=False)
            weights.update({name: weight for name, (_, _, weight) in parts.items()})
            ones = tf.ones(())
            return {name: (s, ones if n is None else n) for name, (s, n, _) in parts.items()}

        signature = self._dataset.element_spec
        names = [key for key, spec in signature.items() if spec.dtype != tf.string]
        step = tf.function(measure, input_signature=[{key: signature[key] for key in names}])
        totals: dict[str, np.ndarray] = {}
        seed = model.sampler_seed.state
        drawn = seed.numpy()
        seed.assign(np.zeros_like(drawn))
        for batch in self._dataset.take(self._batches):
            for name, pair in step({key: batch[key] for key in names}).items():
                totals[name] = totals.get(name, np.zeros(2)) + np.array([float(v) for v in pair])
        seed.assign(drawn)
        means = {name: total / max(count, 1e-12) for name, (total, count) in totals.items()}
        loss = sum(weights[name] * mean for name, mean in means.items())
        return {"loss": loss, **{f"loss_{name}": mean for name, mean in means.items()}}


def detector_kit(
    experiment: config.Experiment,
    reader: ObjectReader,
    validation: ObjectReader | None,
    model: keras.Model,
    run_dir: Path,
) -> Kit:
    """What the experiment's training needs; ``model`` tells which heads there are.

    Raises:
        ValueError: what is wrong with data, transforms or the truth of validation.
    """
    loss = make_rcnn_loss(experiment, model)

    def dataset(start_step: int, share: Share = WHOLE) -> tf.data.Dataset:
        return make_detection_dataset(experiment, reader, model, run_dir, start_step, share)

    dataset(0)
    if validation is None:
        return Kit(reader, loss, dataset)
    return Kit(reader, loss, dataset, *_validation(experiment, validation, model, loss, run_dir))


def _validation(
    experiment: config.Experiment,
    reader: ObjectReader,
    model: keras.Model,
    loss: RCNNLoss,
    run_dir: Path,
) -> tuple[Callable[[keras.Model], dict[str, float]], Callable[[keras.Model], dict[str, Any]]]:
    detect = experiment.detect.model_copy(update={"freeze": False})
    empty = make_scores(experiment, reader, model)
    resize = {"sizes": [detect.short_side], "max_size": detect.long_side}
    fixed = experiment.data.model_copy(
        update={"transforms": [{"resize_short_side": resize}], "buckets": None, "cache": "none"}
    )
    train = experiment.train.model_copy(update={"batch_size": 1})
    own = experiment.model_copy(update={"data": fixed, "train": train})
    measure = ValidationLoss(loss, make_detection_dataset(own, reader, model, run_dir), len(reader))

    def validate(model: keras.Model) -> dict[str, float]:
        scores, panoptic = empty(), make_panoptic_scores(experiment, reader, model)
        predictor = make_detection_predictor(model, detect)
        evaluate_detector(predictor, reader, scores, on_prediction=panoptic)
        found = {name: v for name, v in scores.result().items() if "_ap" in name}
        if panoptic is not None:
            found |= panoptic.result()
        return found | measure(model)

    def draw(model: keras.Model) -> dict[str, np.ndarray]:
        pictures = InstancePictures(reader, 2, detect.score_threshold)
        predictor = make_detection_predictor(model, detect)
        for index in sorted(pictures.wanted):
            sample = reader[index]
            pictures.add(sample, predictor(sample["image"]))
        return {"validation": pictures.sheet()}

    return validate, draw
