"""Which of many boxes go on: proposals after the first stage, objects after the second."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from keras import ops

from tfseg.models.rcnn.layout import Thresholds
from tfseg.ops.box_voting import vote
from tfseg.ops.boxes import area, clip, decode
from tfseg.ops.nms import nms, rows, top_k
from tfseg.ops.soft_nms import soft_nms

#: pairs of box and class that go into the last suppression, by falling score. Fewer detections
#: than from all pairs are found only where these suppress each other down to less than is wanted.
CANDIDATES = 2000


def best_proposals(
    logits: Sequence[Any],
    deltas: Sequence[Any],
    anchors: Sequence[Any],
    sizes: Any,
    *,
    before: int,
    after: int,
    overlap: float,
    least: float,
) -> tuple[Any, Any, Any]:
    """The best anchors of each level, decoded, cut to the image, freed of duplicates, and joined.

    Args:
        logits: of each level, (B, h, w, A).
        deltas: of each level, (B, h, w, 4 * A).
        anchors: of each level, (h * w * A, 4).
        sizes: float32 (B, 2), height and width.
        before: kept of a level before suppression.
        after: kept of an image after it.
        overlap: the largest of two boxes of one level.
        least: the shortest side; 0: any box that has an area.

    Returns:
        boxes float32 (B, after, 4) by falling logit, valid bool (B, after) and the logits.
    """
    levels = [
        _best_of_level(*level, sizes, before, least)
        for level in zip(logits, deltas, anchors, strict=True)
    ]
    batch, number = ops.shape(sizes)[0], len(levels)
    # Levels as images of one batch: suppression is a level's own affair.
    boxes, scores, valid = (ops.stack(v, axis=1) for v in zip(*levels, strict=True))
    boxes = ops.reshape(boxes, (-1, before, 4))
    scores, valid = (ops.reshape(v, (-1, before)) for v in (scores, valid))
    kept = min(before, after)
    places, there = nms(boxes, scores, valid, overlap, kept)
    boxes = ops.reshape(rows(boxes, places), (batch, number * kept, 4))
    scores = ops.reshape(rows(scores, places), (batch, number * kept))
    places, there = top_k(scores, ops.reshape(there, (batch, number * kept)), after)
    boxes = ops.where(there[..., None], rows(boxes, places), 0.0)
    return boxes, there, rows(scores, places)


def _best_of_level(
    logits: Any, deltas: Any, anchors: Any, sizes: Any, count: int, least: float
) -> tuple[Any, Any, Any]:
    batch = ops.shape(logits)[0]
    logits = ops.reshape(logits, (batch, -1))
    deltas = ops.reshape(deltas, (batch, -1, 4))
    places, there = top_k(logits, ops.isfinite(logits), count)
    boxes = decode(rows(deltas, places), ops.take(anchors, places, axis=0), (1.0,) * 4)
    there = ops.logical_and(there, ops.all(ops.isfinite(boxes), axis=-1))
    boxes = clip(ops.where(there[..., None], boxes, 0.0), sizes)
    return boxes, rows(logits, places), ops.logical_and(there, _wide(boxes, least))


def candidates(
    scores: Any,
    boxes: Any,
    valid: Any,
    sizes: Any,
    *,
    score: float,
    least: float,
    count: int = CANDIDATES,
) -> dict[str, Any]:
    """The best pairs of region and class, before any suppresses another.

    Args:
        scores: (B, R, K), probabilities of the classes.
        boxes: (B, R, C, 4): one for all classes, or one for each.
        valid: bool (B, R), the regions that there are.
        sizes: float32 (B, 2), height and width, which boxes are cut to.
        score: candidates score more.
        least: the shortest side; 0: any.
        count: of an image.

    Returns:
        "boxes" float32 (B, count, 4), "scores" float32 (B, count), falling, "classes" int32
        (B, count), and "valid" bool (B, count).
    """
    batch, classes, kinds = ops.shape(scores)[0], scores.shape[-1], boxes.shape[2]
    boxes = clip(ops.reshape(boxes, (batch, -1, 4)), sizes)
    found = ops.logical_and(valid[..., None], scores > score)
    scores = ops.reshape(scores, (batch, -1))
    found = ops.logical_and(ops.reshape(found, (batch, -1)), ops.isfinite(scores))
    places, found = top_k(scores, found, count)
    # One box serves all classes, or each has its own.
    boxes = rows(boxes, places if kinds > 1 else places // classes)
    found = ops.logical_and(found, ops.all(ops.isfinite(boxes), axis=-1))
    if least:
        found = ops.logical_and(found, _wide(boxes, least))
    labels = ops.cast(places % classes, "int32")
    return _filled({"boxes": boxes, "scores": rows(scores, places), "classes": labels}, found)


def detections(found: dict[str, Any], keep: Thresholds) -> dict[str, Any]:
    """The objects among candidates: of those of one class that overlap, the best.

    Args:
        found: as `candidates` gives them; of more than these, as several views of an image have,
            in any order.
        keep: how they are suppressed, and how many are kept.

    Returns:
        The same, (B, keep.detections), by falling score.
    """
    boxes, scores, labels = (found[name] for name in ("boxes", "scores", "classes"))
    count, number = keep.detections, labels.shape[1]
    if keep.soft_nms == "none" and number is not None and number <= CANDIDATES:
        places, valid = nms(boxes, scores, found["valid"], keep.nms, count, labels)
        final = rows(scores, places)
    else:  # Of many boxes all pairs would not fit into memory.
        places, final, valid = soft_nms(
            boxes,
            scores,
            found["valid"],
            labels,
            method=keep.soft_nms,
            threshold=keep.nms,
            count=count,
            sigma=keep.soft_sigma,
            floor=keep.soft_floor,
        )
    kept = {"boxes": rows(boxes, places), "scores": final, "classes": rows(labels, places)}
    if keep.vote is not None:
        kept["boxes"] = vote(
            kept["boxes"], kept["classes"], boxes, scores, found["valid"], labels, keep.vote
        )
    return _filled(kept, valid)


def _filled(found: dict[str, Any], valid: Any) -> dict[str, Any]:
    """Zeros where nothing is valid."""
    boxes = ops.where(valid[..., None], found["boxes"], 0.0)
    scores, classes = (ops.where(valid, found[name], 0) for name in ("scores", "classes"))
    return {"boxes": boxes, "scores": scores, "classes": classes, "valid": valid}


def _wide(boxes: Any, least: float) -> Any:
    """Whether both sides of boxes (..., 4) are ``least`` long at least; for 0, above 0."""
    if not least:
        return area(boxes) > 0
    sides = boxes[..., 2:] - boxes[..., :2]
    return ops.all(sides >= np.float32(least), axis=-1)
