"""What a detector is taught about an image: which anchors, regions, masks and keypoints.

Everything has a fixed size and says itself what of it is valid. Ground truths that are not valid
teach nothing; crowd regions match nothing, and what lies in one is neither positive nor negative.
"""

from typing import Any, NamedTuple

from keras import ops

from tfseg.ops.boxes import area, ioa, iou
from tfseg.ops.matching import match
from tfseg.ops.nms import rows
from tfseg.ops.sampling import balanced_sample


class GroundTruth(NamedTuple):
    """The objects of a batch's images.

    Attributes:
        boxes: float32 (B, G, 4), x1, y1, x2, y2 in pixels of the network's input.
        labels: int32 (B, G), 0..K-1.
        valid: bool (B, G).
        crowd: bool (B, G), regions of many objects that are not told apart.
    """

    boxes: Any
    labels: Any
    valid: Any
    crowd: Any

    def in_crowd(self, boxes: Any, threshold: float) -> Any:
        """Whether more than a share ``threshold`` of a box (B, N) lies in one crowd region."""
        shares = ioa(boxes, self.boxes)
        crowd = ops.logical_and(self.valid, self.crowd)
        return ops.any(ops.logical_and(shares > threshold, crowd[..., None, :]), axis=-1)

    @property
    def objects(self) -> Any:
        """Those that may be matched, bool (B, G)."""
        return ops.logical_and(self.valid, ops.logical_not(self.crowd))


class RPNTargets(NamedTuple):
    """What S sampled anchors of each image are taught.

    Attributes:
        index: int32 (B, S), the anchors.
        boxes: float32 (B, S, 4), the anchors' boxes.
        positive: bool (B, S): an object; the positives come first.
        valid: bool (B, S), false in unused slots.
        targets: float32 (B, S, 4), the objects' boxes; of other anchors any.
    """

    index: Any
    boxes: Any
    positive: Any
    valid: Any
    targets: Any


class RoITargets(NamedTuple):
    """What R sampled regions of each image are taught.

    Attributes:
        boxes: float32 (B, R, 4), the regions; 0 in unused slots.
        positive: bool (B, R): an object; the positives come first.
        valid: bool (B, R), false in unused slots.
        labels: int32 (B, R), the objects' classes, 0..K-1; 0 of other regions.
        objects: int32 (B, R), the ground truths; 0 of other regions.
        targets: float32 (B, R, 4), the ground truths' boxes; of other regions any.
    """

    boxes: Any
    positive: Any
    valid: Any
    labels: Any
    objects: Any
    targets: Any

    def first(self, count: int) -> "RoITargets":
        """Those of each image's first regions, as many as are wanted."""
        return RoITargets(*(field[:, :count] for field in self))


def rpn_targets(
    anchors: Any,
    truth: GroundTruth,
    sizes: Any,
    seed: Any,
    *,
    samples: int = 256,
    positive_fraction: float = 0.5,
    thresholds: tuple[float, float] = (0.3, 0.7),
    crowd_threshold: float = 0.7,
    straddle: float = -1.0,
) -> RPNTargets:
    """Samples anchors of each image and says what the region proposal network learns of them.

    The defaults are those of Detectron and detectron2 (Faster R-CNN, section 3.1.2): positive is
    an anchor whose intersection over union with an object is 0.7 or more, or the highest that
    any anchor has with it; negative one whose overlap is below 0.3 with all objects; of these
    256, half of them positive if there are so many.

    Args:
        anchors: float32 (N, 4).
        truth: the objects.
        sizes: float32 (B, 2), height and width of the images inside their padding.
        seed: of the choice; see `balanced_sample`.
        samples: anchors an image, S.
        positive_fraction: the share that positives may have.
        thresholds: of negatives and positives.
        crowd_threshold: an anchor of which a larger share lies in a crowd region is not used.
        straddle: pixels by which an anchor may cross the image's border and still be used, or
            -1 for any number (detectron2's BOUNDARY_THRESH). Detectron's RPN_STRADDLE_THRESH is
            0, and Faster R-CNN trains so: section 3.3.

    Returns:
        The anchors and their targets.
    """
    usable = ops.logical_not(truth.in_crowd(anchors[None], crowd_threshold))
    if straddle >= 0:
        height, width = sizes[:, :1], sizes[:, 1:]
        inside = ops.logical_and(
            ops.all(anchors[:, :2] >= -straddle, axis=-1)[None],
            ops.logical_and(
                anchors[None, :, 2] <= width + straddle, anchors[None, :, 3] <= height + straddle
            ),
        )
        usable = ops.logical_and(usable, inside)
    # What is not used cannot be an object's best either, as where Detectron drops it.
    overlaps = ops.where(usable[:, None], iou(truth.boxes, anchors[None]), 0.0)
    objects, labels = match(overlaps, truth.objects, thresholds, allow_low_quality=True)
    labels = ops.where(usable, labels, -1)
    index, positive, valid = balanced_sample(labels, samples, positive_fraction, seed)
    return RPNTargets(
        index=index,
        boxes=ops.take(anchors, index, axis=0),
        positive=positive,
        valid=valid,
        targets=rows(truth.boxes, rows(objects, index)),
    )


def roi_targets(
    proposals: Any,
    proposed: Any,
    truth: GroundTruth,
    seed: Any,
    *,
    samples: int = 512,
    positive_fraction: float = 0.25,
    threshold: float = 0.5,
    crowd_threshold: float = 0.7,
) -> RoITargets:
    """Samples regions of each image and says what the heads learn of them.

    The objects' own boxes join the proposals. Positive is a region whose intersection over union
    with an object is 0.5 or more (Mask R-CNN, section 3.1); of 512 regions a quarter may be.

    Args:
        proposals: float32 (B, P, 4).
        proposed: bool (B, P), which of them are valid.
        truth: the objects.
        seed: of the choice; see `balanced_sample`.
        samples: regions an image, R; the paper has 64 for C4 and 512 for FPN, detectron2 512.
        positive_fraction: the share that positives may have; the paper's 1:3.
        threshold: of positives.
        crowd_threshold: a proposal of which a larger share lies in a crowd region is not used
            (Detectron's TRAIN.CROWD_FILTER_THRESH).

    Returns:
        The regions and their targets, the positives within the first
        ``int(samples * positive_fraction)``.
    """
    proposed = ops.logical_and(
        proposed, ops.logical_not(truth.in_crowd(proposals, crowd_threshold))
    )
    candidates = ops.concatenate([proposals, truth.boxes], axis=1)
    usable = ops.concatenate([proposed, truth.objects], axis=1)
    objects, labels = match(iou(truth.boxes, candidates), truth.objects, (threshold, threshold))
    labels = ops.where(usable, labels, -1)
    index, positive, valid = balanced_sample(labels, samples, positive_fraction, seed)
    objects = ops.where(positive, rows(objects, index), 0)
    return RoITargets(
        boxes=ops.where(valid[..., None], rows(candidates, index), 0.0),
        positive=positive,
        valid=valid,
        labels=ops.where(positive, rows(truth.labels, objects), 0),
        objects=objects,
        targets=rows(truth.boxes, objects),
    )


def matched_targets(boxes: Any, valid: Any, truth: GroundTruth, threshold: float) -> RoITargets:
    """What all of some regions are taught: a cascade's later stages sample nothing.

    Args:
        boxes: float32 (B, R, 4).
        valid: bool (B, R).
        truth: the objects.
        threshold: of positives.

    Returns:
        The regions and their targets; the positives may stand anywhere. A region without area
        is not valid.
    """
    valid = ops.logical_and(valid, area(boxes) > 0)
    objects, labels = match(iou(truth.boxes, boxes), truth.objects, (threshold, threshold))
    positive = ops.logical_and(valid, labels == 1)
    objects = ops.where(positive, objects, 0)
    return RoITargets(
        boxes=boxes,
        positive=positive,
        valid=valid,
        labels=ops.where(positive, rows(truth.labels, objects), 0),
        objects=objects,
        targets=rows(truth.boxes, objects),
    )
