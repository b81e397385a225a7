"""Greedy non-maximum suppression with fixed sizes."""

from typing import Any

import keras
import numpy as np
from keras import ops

from tfseg.ops.boxes import iou

_LOWEST = float(np.finfo(np.float32).min)


def top_k(scores: Any, valid: Any, count: int) -> tuple[Any, Any]:
    """The places of the highest valid scores, by falling score.

    Args:
        scores: float32 (..., N).
        valid: bool (..., N).
        count: places wanted.

    Returns:
        Indices int32 (..., count) and whether there is such a place, bool (..., count).
    """
    # As many rows whatever N, also where it is known only in the run.
    pad = [(0, 0)] * (len(scores.shape) - 1) + [(0, count)]
    keys = ops.where(valid, ops.maximum(scores, _LOWEST / 2), _LOWEST)
    keys = ops.pad(keys, pad, constant_values=_LOWEST)
    found, places = ops.top_k(keys, count)
    there = found > _LOWEST
    return ops.cast(ops.where(there, places, 0), "int32"), there


def rows(values: Any, indices: Any) -> Any:
    """The rows ``indices`` of each batch element.

    Args:
        values: (B, N, ...).
        indices: integers (B, K).

    Returns:
        (B, K, ...).
    """
    extra = len(values.shape) - 2
    places = ops.reshape(indices, (*ops.shape(indices), *[1] * extra))
    return ops.take_along_axis(values, places, axis=1)


def _suppressed(boxes: Any, valid: Any, groups: Any, threshold: float) -> Any:
    """Which of boxes in falling order of score stay, bool (B, N).

    A box stays if none that stays before it overlaps it too much. Starting from all, what this
    rule gives is put into it again until nothing changes: after k rounds the first k boxes are
    right, and mostly all are after a few.
    """
    rivals = iou(boxes, boxes) > threshold
    if groups is not None:
        rivals = ops.logical_and(rivals, groups[:, :, None] == groups[:, None, :])
    place = ops.arange(ops.shape(boxes)[1])
    rivals = ops.logical_and(rivals, place[:, None] < place[None, :])

    def again(kept: Any, _: Any) -> tuple[Any, Any]:
        beaten = ops.any(ops.logical_and(rivals, kept[:, :, None]), axis=1)
        new = ops.logical_and(valid, ops.logical_not(beaten))
        return new, ops.any(new != kept)

    kept, _ = ops.while_loop(
        lambda _, changed: changed, again, (valid, ops.convert_to_tensor(True))
    )
    return kept


def _kernel(boxes: Any, valid: Any, threshold: float, count: int) -> tuple[Any, Any]:
    """TensorFlow's own kernel, which XLA knows too: faster than all pairs on a CPU.

    Returns the places of those of boxes in falling order that stay, and which there are.
    """
    import tensorflow as tf

    def one(inputs: tuple[Any, Any]) -> tuple[Any, Any]:
        kept = tf.raw_ops.NonMaxSuppressionV4(
            boxes=inputs[0],
            scores=inputs[1],
            max_output_size=count,
            iou_threshold=threshold,
            score_threshold=_LOWEST,
            pad_to_max_output_size=True,
        )
        # In a graph the kernel gives a named tuple, which map_fn tells from a tuple.
        return kept[0], kept[1]

    # Not the scores: of equal ones XLA takes any.
    falling = -tf.range(tf.shape(boxes)[1])
    keys = tf.where(valid, tf.cast(falling, tf.float32), _LOWEST)
    signature = (tf.TensorSpec((count,), tf.int32), tf.TensorSpec((), tf.int32))
    places, counts = tf.map_fn(one, (boxes, keys), fn_output_signature=signature)
    return places, tf.range(count) < counts[:, None]


def nms(
    boxes: Any, scores: Any, valid: Any, threshold: float, count: int, groups: Any = None
) -> tuple[Any, Any]:
    """Keeps boxes, from the highest score down, that overlap none kept before too much.

    Args:
        boxes: float32 (B, N, 4).
        scores: float32 (B, N).
        valid: bool (B, N): the others are left out.
        threshold: the largest intersection over union that two kept boxes may have.
        count: boxes wanted.
        groups: integers (B, N): only boxes of one group (a class, a level) suppress each other;
            None: all do.

    Returns:
        Indices int32 (B, count), by falling score, and whether there is such a box, bool
        (B, count).
    """
    scores = ops.maximum(scores, _LOWEST / 2)
    order = ops.cast(ops.argsort(ops.where(valid, -scores, np.inf), axis=-1), "int32")
    boxes, valid = rows(boxes, order), rows(valid, order)
    if groups is None and keras.backend.backend() == "tensorflow":
        places, there = _kernel(boxes, valid, threshold, count)
    else:
        ordered = None if groups is None else rows(groups, order)
        kept = _suppressed(boxes, valid, ordered, threshold)
        places, there = top_k(rows(scores, order), kept, count)
    return rows(order, places), there
