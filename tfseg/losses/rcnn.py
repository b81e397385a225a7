"""What Faster, Mask and Keypoint R-CNN learn to minimise."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

from keras import ops

from tfseg.losses.mask import count, mask_parts, own_channels, sum_where
from tfseg.losses.semantic import Parts, softmax_cross_entropy
from tfseg.ops.boxes import encode
from tfseg.ops.keypoints import encode_keypoints
from tfseg.ops.nms import rows
from tfseg.targets import (
    GroundTruth,
    RoITargets,
    RPNTargets,
    matched_targets,
    roi_targets,
    rpn_targets,
)

LEARN = ("rpn", "heads")


def smooth_l1(errors: Any, beta: float) -> Any:
    """|x| - beta / 2, and x^2 / (2 beta) where |x| < beta: of beta 0 the absolute error.

    Fast R-CNN, equation 3, has beta 1; Detectron and torchvision 1/9 for anchors.
    """
    size = ops.absolute(errors)
    if beta == 0:
        return size
    return ops.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def _joined(levels: Sequence[Any], last: int) -> Any:
    """Maps (B, h, w, A * last) of all levels as (B, N, last)."""
    flat = [ops.reshape(level, (ops.shape(level)[0], -1, last)) for level in levels]
    return ops.concatenate(flat, axis=1)


def _offsets(targets: RPNTargets | RoITargets, weights: tuple[float, float, float, float]) -> Any:
    """What the objects' boxes are coded as; 0 of background, whose boxes may be empty."""
    offsets = encode(targets.targets, targets.boxes, weights)
    return ops.where(targets.positive[..., None], offsets, 0.0)


def _box_parts(
    conventions: Any,
    weights: tuple[float, float, float, float],
    logits: Any,
    deltas: Any,
    targets: RoITargets,
) -> Parts:
    """Of class logits (B, R, K + 1), and offsets (B, P, C, 4) of the first P regions."""
    number, first = logits.shape[-1] - 1, conventions.background_first
    labels = own_channels(targets.labels, number + 1, number, first)
    labels = ops.where(targets.positive, labels, 0 if first else number)
    classes = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
    class_loss, normaliser = sum_where(classes, targets.valid), count(targets.valid)
    targets = targets.first(deltas.shape[1])
    channel = own_channels(targets.labels, deltas.shape[2], number, first)[..., None, None]
    deltas = ops.take_along_axis(deltas, channel, axis=2)[:, :, 0]
    boxes = smooth_l1(deltas - _offsets(targets, weights), conventions.box_beta)
    return {
        "class": (class_loss, normaliser, 1.0),
        "box": (sum_where(boxes, targets.positive[..., None]), normaliser, 1.0),
    }


class RCNNLoss:
    """The losses of a detector's region proposals and heads.

    Defaults are detectron2's, which are Detectron's (Mask R-CNN, section 3.1, and Faster R-CNN,
    section 3.1.2). The smooth L1 losses' beta are the model's ``conventions``.

    Args:
        rpn_samples: anchors an image that the region proposal network learns from.
        rpn_positive_fraction: the share of them that objects may have.
        rpn_thresholds: overlaps below which an anchor is background, and from which an object.
        straddle: see `tfseg.targets.rpn_targets`.
        roi_samples: regions an image that the heads learn from.
        roi_positive_fraction: the share of them that objects may have. Mask and keypoint heads
            see these alone.
        roi_threshold: overlap from which a region is an object.
        cascade_thresholds: the same of a cascade's stages after the first (Cascade R-CNN, 4.1).
        crowd_threshold: a box of which a larger share lies in a crowd region is not used.
        mask_loss: "sigmoid": each class' mask by itself, only the object's class learns;
            "softmax": the classes and the background compete for each cell (Mask R-CNN, table
            2b), for which the mask head has one channel more than there are classes.
        mask_edge_weight: of the loss of masks' edges; see `tfseg.losses.mask.edge_loss`.
        normalise_by_visible: the keypoint loss is the mean over the keypoints that are visible
            in their regions; otherwise over as many as all regions with objects could have.
        keypoint_minimum: a (micro-)batch with fewer visible keypoints teaches the keypoint head
            nothing (Detectron's MIN_KEYPOINT_COUNT_FOR_VALID_MINIBATCH is 20).
        semantic_weight: of the semantic head's cross-entropy (Panoptic FPN).
        ignore_label: label of pixels that do not count for the semantic head.
        only_positives: mask and keypoint heads see as many regions of each image as the one with
            the most positives has, not as many as it may have. The losses are the same and cost
            less, but sizes change from step to step, which XLA cannot compile.
        learn: which of "rpn" and "heads". The other learns nothing: Faster R-CNN's training in
            four steps.
        proposer: a model whose proposals the heads learn from, or None for their own model's.

    Raises:
        ValueError: for another mask loss, or other names in ``learn``.
    """

    def __init__(
        self,
        *,
        rpn_samples: int = 256,
        rpn_positive_fraction: float = 0.5,
        rpn_thresholds: tuple[float, float] = (0.3, 0.7),
        straddle: float = -1.0,
        roi_samples: int = 512,
        roi_positive_fraction: float = 0.25,
        roi_threshold: float = 0.5,
        cascade_thresholds: Sequence[float] = (0.6, 0.7),
        crowd_threshold: float = 0.7,
        mask_loss: Literal["sigmoid", "softmax"] = "sigmoid",
        mask_edge_weight: float = 0.0,
        normalise_by_visible: bool = True,
        keypoint_minimum: int = 0,
        semantic_weight: float = 0.5,
        ignore_label: int = 255,
        only_positives: bool = False,
        learn: Sequence[str] = LEARN,
        proposer: Any = None,
    ):
        if mask_loss not in ("sigmoid", "softmax"):
            raise ValueError(f"mask_loss must be 'sigmoid' or 'softmax', not {mask_loss!r}")
        if not learn or not set(learn) <= set(LEARN):
            raise ValueError(f"learn must be some of {LEARN}, not {tuple(learn)}")
        self.rpn_samples, self.rpn_positive_fraction = rpn_samples, rpn_positive_fraction
        self.rpn_thresholds, self.straddle = rpn_thresholds, straddle
        self.roi_samples, self.roi_positive_fraction = roi_samples, roi_positive_fraction
        self.roi_threshold, self.crowd_threshold = roi_threshold, crowd_threshold
        self.cascade_thresholds = tuple(cascade_thresholds)
        self.mask_loss, self.mask_edge_weight = mask_loss, mask_edge_weight
        self.normalise_by_visible = normalise_by_visible
        self.keypoint_minimum, self.semantic_weight = keypoint_minimum, semantic_weight
        self.ignore_label, self.only_positives = ignore_label, only_positives
        self.learn, self.proposer = tuple(learn), proposer

    def parts(self, model: Any, batch: Mapping[str, Any], training: bool = True) -> Parts:
        """The loss' parts of a batch.

        An image without objects teaches that everything in it is background; a batch without
        objects has parts of sum 0 and normaliser 0.

        Args:
            model: a detector, `tfseg.models.rcnn.RCNN`; its ``sampler_seed`` draws the samples.
            batch: "image" (B, H, W, C), "size" (B, 2), "boxes" (B, G, 4), "labels", "valid" and
                "crowd" (B, G); "edges" (B, G, E, 4) for a mask head, "keypoints" (B, G, K, 3)
                for a keypoint head, "mask" (B, H, W) for a semantic head. Where it has
                "proposals" (B, P, 4) and "proposed" bool (B, P), the heads learn from those.
            training: of the model's layers. Samples are drawn, and as many regions proposed, as
                in training anyway.

        Returns:
            name -> (sum, normaliser, weight): "rpn_class" and "rpn_box", normalised by all
            anchors that could be sampled; "class" and "box", by the regions sampled, and
            "class_1" and so on of a cascade's later stages; "mask" and "mask_edge", by the cells
            of regions with objects; "keypoint"; "semantic", by the labelled pixels.

        Raises:
            ValueError: where the batch lacks something, or the heads have other channels than
                there are classes.
        """
        self._check(model, batch)
        truth = GroundTruth(*(batch[name] for name in GroundTruth._fields))
        images, sizes = batch["image"], batch["size"]
        features = model.features(images, training=training)
        anchors = model.anchors(features)
        parts: Parts = {}
        outputs: Any = None
        if "rpn" in self.learn or (self.proposer is None and "proposals" not in batch):
            outputs = model.rpn_outputs(features)
        if "rpn" in self.learn:
            parts |= self._rpn(model, outputs, anchors, truth, sizes)
        if "heads" in self.learn:
            proposals = self._proposals(model, outputs, anchors, batch)
            parts |= self._heads(model, features, proposals, truth, batch, training)
        return parts

    def _proposals(
        self, model: Any, outputs: Any, anchors: Any, batch: Mapping[str, Any]
    ) -> tuple[Any, Any]:
        """The boxes (B, P, 4) that the heads learn from, and which of them there are."""
        if "proposals" in batch:
            return batch["proposals"], batch["proposed"]
        if self.proposer is not None:
            seen = self.proposer.features(batch["image"], training=False)
            anchors, outputs = self.proposer.anchors(seen), self.proposer.rpn_outputs(seen)
        # Proposals are taken as given: Faster R-CNN's approximate joint training.
        fixed = ([ops.stop_gradient(level) for level in levels] for levels in outputs)
        found: tuple[Any, Any] = (self.proposer or model).propose(
            *fixed, anchors, batch["size"], training=True
        )
        return found

    def _check(self, model: Any, batch: Mapping[str, Any]) -> None:
        later = len(model.box_weights) - 1
        if later and len(self.cascade_thresholds) != later:
            raise ValueError(
                f"a cascade of {later + 1} stages needs {later} cascade_thresholds, not "
                f"{self.cascade_thresholds}"
            )
        wanted = ["image", "size", *GroundTruth._fields]
        if "heads" in self.learn:
            heads = {
                "edges": model.mask_head,
                "keypoints": model.keypoint_head,
                "mask": model.semantic_head,
            }
            wanted += [name for name, head in heads.items() if head is not None]
        lacking = sorted(set(wanted) - set(batch))
        if lacking:
            raise ValueError(
                f"the model learns from {lacking}, but a batch has only {sorted(batch)}"
            )

    def _rpn(self, model: Any, outputs: Any, anchors: Any, truth: GroundTruth, sizes: Any) -> Parts:
        targets = rpn_targets(
            ops.concatenate(anchors, axis=0),
            truth,
            sizes,
            model.sampler_seed,
            samples=self.rpn_samples,
            positive_fraction=self.rpn_positive_fraction,
            thresholds=self.rpn_thresholds,
            crowd_threshold=self.crowd_threshold,
            straddle=self.straddle,
        )
        logits, deltas = (
            rows(_joined(levels, last), targets.index)
            for levels, last in zip(outputs, (1, 4), strict=True)
        )
        wanted = ops.cast(targets.positive, "float32")
        classes = ops.binary_crossentropy(wanted, logits[..., 0], from_logits=True)
        errors = deltas - _offsets(targets, (1.0, 1.0, 1.0, 1.0))
        boxes = smooth_l1(errors, model.conventions.rpn_beta)
        normaliser = ops.cast(ops.shape(logits)[0] * self.rpn_samples, "float32")
        return {
            "rpn_class": (sum_where(classes, targets.valid), normaliser, 1.0),
            "rpn_box": (sum_where(boxes, targets.positive[..., None]), normaliser, 1.0),
        }

    def _heads(
        self,
        model: Any,
        features: Any,
        proposals: tuple[Any, Any],
        truth: GroundTruth,
        batch: Mapping[str, Any],
        training: bool,
    ) -> Parts:
        targets = roi_targets(
            *proposals,
            truth,
            model.sampler_seed,
            samples=self.roi_samples,
            positive_fraction=self.roi_positive_fraction,
            threshold=self.roi_threshold,
            crowd_threshold=self.crowd_threshold,
        )
        # The positives come first, and all but the classification see them alone.
        most = int(self.roi_samples * self.roi_positive_fraction)
        logits, deltas, shared = model.box_outputs(features, targets.boxes, training=training)
        weights = model.box_weights[0]
        parts = _box_parts(model.conventions, weights, logits, deltas[:, :most], targets)
        if len(model.box_weights) > 1:
            parts |= self._later_stages(
                model, features, deltas, targets, truth, batch["size"], training
            )
        if self.only_positives:
            most = ops.max(ops.sum(ops.cast(targets.positive, "int32"), axis=1))
            # One at least: layers need not know what to do with none.
            most = ops.maximum(most, 1)
        targets = targets.first(most)
        if model.mask_head is not None:
            shared = None if shared is None else shared[:, :most]
            masks = model.mask_outputs(features, targets.boxes, shared, training=training)
            parts |= mask_parts(
                masks,
                targets,
                batch["edges"],
                classes=logits.shape[-1] - 1,
                background_first=model.conventions.background_first,
                softmax=self.mask_loss == "softmax",
                edge_weight=self.mask_edge_weight,
            )
        if model.keypoint_head is not None:
            heatmaps = model.keypoint_outputs(features, targets.boxes, training=training)
            parts["keypoint"] = self._keypoint(heatmaps, targets, batch["keypoints"])
        if model.semantic_head is not None:
            parts["semantic"] = (
                *softmax_cross_entropy(
                    batch["mask"],
                    model.semantic_outputs(features, batch["image"], training=training),
                    ignore_label=self.ignore_label,
                ),
                self.semantic_weight,
            )
        return parts

    def _later_stages(
        self,
        model: Any,
        features: Any,
        deltas: Any,
        targets: RoITargets,
        truth: GroundTruth,
        sizes: Any,
        training: bool,
    ) -> Parts:
        """Of a cascade's stages after the first, whose ``deltas`` and ``targets`` are given.

        They are "class_1", "box_1" and so on.
        """
        parts: Parts = {}
        for stage, threshold in enumerate(self.cascade_thresholds, 1):
            boxes = model.moved(deltas, targets.boxes, sizes, stage - 1)
            targets = matched_targets(boxes, targets.valid, truth, threshold)
            logits, deltas, _ = model.box_outputs(features, boxes, training=training, stage=stage)
            own = _box_parts(model.conventions, model.box_weights[stage], logits, deltas, targets)
            parts |= {f"{name}_{stage}": part for name, part in own.items()}
        return parts

    def _keypoint(
        self, heatmaps: Any, targets: RoITargets, keypoints: Any
    ) -> tuple[Any, Any, float]:
        """Of heat maps (B, P, S, S, K) and keypoints (B, G, K, 3)."""
        size, number = heatmaps.shape[-2:]
        index, visible = encode_keypoints(rows(keypoints, targets.objects), targets.boxes, size)
        visible = ops.logical_and(visible, targets.positive[..., None])
        shape = ops.shape(index)
        logits = ops.reshape(heatmaps, (*shape[:2], size * size, number))
        logits = ops.swapaxes(logits, -1, -2)
        losses = ops.sparse_categorical_crossentropy(index, logits, from_logits=True)
        seen = count(visible)
        enough = ops.cast(seen >= self.keypoint_minimum, "float32")
        normaliser = seen * enough
        if not self.normalise_by_visible:
            most = int(self.roi_samples * self.roi_positive_fraction)
            normaliser = ops.cast(shape[0] * most * number, "float32")
        return sum_where(losses, visible) * enough, normaliser, 1.0
