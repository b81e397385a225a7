"""Boxes around what an image shows of its objects."""

from typing import Any

import tensorflow as tf

from tfseg.data.transforms.base import ROWS, Sample

# How far inside the image its corners are looked at.
_INSIDE = 1e-3


def tighten_boxes(sample: Sample, size: tuple[Any, Any]) -> Sample:
    """Boxes tight around the visible part of their outlines; objects without one go.

    As detectron2 makes them anew where it crops (data/dataset_mapper.py, ``recompute_boxes``). A
    crowd keeps its box, and so does every object where the sample has no outlines.

    Args:
        sample: its points are in the image already; see `base.move_points`.
        size: (height, width) of the image.
    """
    if "edges" not in sample:
        return sample
    bounds = _bounds(sample["edges"], size)
    boxes = tf.where(sample["crowd"][:, None], sample["boxes"], bounds)
    kept = tf.reduce_all(boxes[:, 2:] - boxes[:, :2] > _INSIDE, axis=-1)
    out = dict(sample, boxes=tf.boolean_mask(boxes, kept))
    return out | {key: tf.boolean_mask(sample[key], kept) for key in ROWS if key in sample}


def _bounds(edges: tf.Tensor, size: tuple[Any, Any]) -> tf.Tensor:
    """The bounds (N, 4) of what outlines (N, E, 4) enclose in the image; low > high: nothing.

    They are reached by the visible parts of segments and by the image's corners inside.
    """
    far = tf.cast(tf.stack([size[1], size[0]]), tf.float32)
    start, step = edges[..., :2], edges[..., 2:] - edges[..., :2]
    # Along each axis a segment is between the image's borders from one place of it to another.
    level = step == 0
    safe = tf.where(level, 1.0, step)
    places = tf.stack([-start / safe, (far - start) / safe])
    between = (start >= 0) & (start <= far)
    enter = tf.where(level, tf.where(between, 0.0, 1.0), tf.reduce_min(places, 0))
    leave = tf.where(level, tf.where(between, 1.0, 0.0), tf.reduce_max(places, 0))
    enter = tf.maximum(tf.reduce_max(enter, -1), 0.0)[..., None]
    leave = tf.minimum(tf.reduce_min(leave, -1), 1.0)[..., None]
    # What lies on the border belongs to an object inside that has other segments there as well,
    # or to one outside.
    on_border = level & ((start <= 0) | (start >= far))
    shown = (leave > enter) & ~tf.reduce_any(on_border, -1, keepdims=True)
    shown &= tf.reduce_any(~level, -1, keepdims=True)
    points = tf.concat([start + enter * step, start + leave * step], axis=1)
    inside, corners = _corners(edges, far)
    shown = tf.concat([shown, shown, inside[..., None]], axis=1)
    points = tf.clip_by_value(tf.concat([points, corners], axis=1), 0.0, far)
    low = tf.reduce_min(tf.where(shown, points, far), axis=1)
    high = tf.reduce_max(tf.where(shown, points, 0.0), axis=1)
    return tf.concat([low, high], axis=-1)


def _corners(edges: tf.Tensor, far: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Whether the image's corners are inside outlines, bool (N, 4), and where they are."""
    chosen = tf.constant([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    corners = chosen * far
    x, y = tf.unstack(corners + (1 - 2 * chosen) * _INSIDE, axis=-1)
    x1, y1, x2, y2 = tf.unstack(edges[..., None], axis=2)
    passes = (y1 <= y) != (y2 <= y)
    where = x1 + (y - y1) * tf.math.divide_no_nan(x2 - x1, y2 - y1)
    crossings = tf.reduce_sum(tf.cast(passes & (where < x), tf.int32), axis=1)
    count = tf.shape(edges)[0]
    return crossings % 2 == 1, tf.tile(corners[None], [count, 1, 1])
