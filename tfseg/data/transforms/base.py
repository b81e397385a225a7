"""What transforms share: the interface, and one geometry for all that a sample holds."""

from collections.abc import Callable
from typing import Any, Protocol

import tensorflow as tf

Sample = dict[str, Any]

#: Maps of one value a pixel that belong to the image, and how they are interpolated.
MAPS = {"mask": "NEAREST", "instances": "NEAREST", "weights": "BILINEAR"}

#: What has a row for each box.
ROWS = ("labels", "crowd", "keypoints", "edges", "area", "ids")


class Transform(Protocol):
    """``transform(sample, seed)`` gives the changed sample.

    The sample is a mapping of tensors with the keys of `tfseg.data.sample.Sample`; the seed, an
    integer tensor (2,), decides all that is random.
    """

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample: ...


def check_range(what: str, values: tuple[float, float], low: float) -> None:
    """Raises a ValueError unless values are low and high of a range above ``low``."""
    if len(values) != 2 or not low < values[0] <= values[1]:
        raise ValueError(f"{what} must be [low, high] with {low:g} < low <= high, not {values}")


def check_size(what: str, size: tuple[int, int]) -> None:
    """Raises a ValueError unless this is a height and a width."""
    if len(size) != 2 or any(not isinstance(side, int) or side < 1 for side in size):
        raise ValueError(f"{what} must be [height, width] in pixels, not {size}")


def seeds(seed: tf.Tensor, count: int) -> list[tf.Tensor]:
    """``count`` independent seeds from one."""
    return tf.unstack(tf.random.experimental.stateless_split(seed, count))


def uniform(seed: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """A float32 scalar between low and high."""
    return tf.random.stateless_uniform((), seed, low, high)


def chance(seed: tf.Tensor, probability: float) -> tf.Tensor:
    """True with this probability."""
    return tf.random.stateless_uniform((), seed) < probability


def size_of(sample: Sample) -> tuple[Any, Any]:
    """(height, width) of the image: integers where they are known, else tensors."""
    static, dynamic = sample["image"].shape, tf.shape(sample["image"])
    return tuple(dynamic[i] if static[i] is None else static[i] for i in (0, 1))  # type: ignore


def map_pixels(sample: Sample, change: Callable[[tf.Tensor], tf.Tensor]) -> Sample:
    """``change`` applied to the image and its maps, each as (H, W, C)."""
    out = dict(sample, image=change(sample["image"]))
    for key in MAPS:
        if key in sample:
            out[key] = change(sample[key][..., None])[..., 0]
    return out


def move_points(sample: Sample, matrix: tf.Tensor, size: tuple[Any, Any]) -> Sample:
    """Boxes, outlines, keypoints and proposals under an affine map.

    A box becomes the bounds of its moved corners, clipped to the new image; boxes that leave it
    go, with all that belongs to them. So does a proposal, to which nothing belongs. A keypoint
    that leaves it gets visibility 0. Outlines and areas are not clipped.

    Args:
        matrix: float32 (2, 3), from old to new continuous coordinates (x, y).
        size: (height, width) of the new image.
    """
    out = dict(sample)
    height, width = (tf.cast(side, tf.float32) for side in size)
    if "boxes" in sample:
        boxes, kept = _moved_boxes(sample["boxes"], matrix, height, width)
        out["boxes"] = tf.boolean_mask(boxes, kept)
        for key in ROWS:
            if key in sample:
                out[key] = tf.boolean_mask(sample[key], kept)
    if "proposals" in sample:
        boxes, kept = _moved_boxes(sample["proposals"], matrix, height, width)
        out["proposals"] = tf.boolean_mask(boxes, kept)
    if "edges" in out:
        x1, y1, x2, y2 = tf.unstack(out["edges"], axis=-1)
        ends = (*_affine(matrix, x1, y1), *_affine(matrix, x2, y2))
        out["edges"] = tf.stack(ends, -1)
    if "area" in out:
        (a, b, _), (d, e, _) = (tf.unstack(row) for row in tf.unstack(matrix))
        out["area"] *= tf.abs(a * e - b * d)
    if "keypoints" in sample:
        x, y, visibility = tf.unstack(out["keypoints"], axis=-1)
        x, y = _affine(matrix, x, y)
        inside = (x >= 0) & (y >= 0) & (x < width) & (y < height)
        visibility = tf.where(inside, visibility, 0.0)
        out["keypoints"] = tf.stack([x, y, visibility], -1)
    return out


def _moved_boxes(
    boxes: tf.Tensor, matrix: tf.Tensor, height: tf.Tensor, width: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The bounds of moved boxes in the image, and which of them have an area there."""
    x1, y1, x2, y2 = tf.unstack(boxes, axis=-1)
    xs, ys = tf.stack([x1, x2, x1, x2], -1), tf.stack([y1, y1, y2, y2], -1)
    xs, ys = _affine(matrix, xs, ys)
    xs, ys = tf.clip_by_value(xs, 0, width), tf.clip_by_value(ys, 0, height)
    low = tf.stack([tf.reduce_min(xs, -1), tf.reduce_min(ys, -1)], -1)
    high = tf.stack([tf.reduce_max(xs, -1), tf.reduce_max(ys, -1)], -1)
    return tf.concat([low, high], -1), tf.reduce_all(high - low > 1e-3, -1)


def _affine(matrix: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    (a, b, c), (d, e, f) = (tf.unstack(row) for row in tf.unstack(matrix))
    return a * x + b * y + c, d * x + e * y + f


def inverse(matrix: tf.Tensor) -> tf.Tensor:
    """The inverse of an affine map (2, 3)."""
    square = tf.concat([matrix, [[0.0, 0.0, 1.0]]], 0)
    return tf.linalg.inv(square)[:2]


def warp(
    sample: Sample,
    matrix: tf.Tensor,
    size: tuple[Any, Any],
    *,
    fill: tuple[float, ...],
    ignore_label: int,
) -> Sample:
    """The sample under an affine map: image bilinear, labels nearest, all at the same places.

    Pixel i covers [i, i + 1). Outside the old image there is ``fill``, the ignore label, and
    weight 0.

    Args:
        matrix: float32 (2, 3), from old to new continuous coordinates (x, y).
        size: (height, width) of the new image.
        fill: colour, one value or three.
    """
    back = inverse(matrix)
    # The operation counts pixels from their centres.
    half = tf.constant([0.5, 0.5])
    shift = tf.linalg.matvec(back[:, :2], half) + back[:, 2] - half
    vector = tf.concat(
        [tf.reshape(tf.concat([back[:, :2], shift[:, None]], 1), [-1]), [0.0, 0.0]], 0
    )

    def resample(values: tf.Tensor, interpolation: str) -> tf.Tensor:
        return tf.raw_ops.ImageProjectiveTransformV3(
            images=values[None],
            transforms=vector[None],
            output_shape=tf.stack(size),
            fill_value=0.0,
            interpolation=interpolation,
            fill_mode="CONSTANT",
        )[0]

    image = tf.cast(sample["image"], tf.float32)
    color = tf.constant(fill, tf.float32)
    # Interpolating the difference to the fill keeps the border's half-covered pixels right.
    moved = resample(image - color, "BILINEAR") + color
    moved = tf.ensure_shape(moved, (*static_size(size), image.shape[-1]))
    out = dict(move_points(sample, matrix, size), image=moved)
    for key, interpolation in MAPS.items():
        if key in sample:
            void = ignore_label if key == "mask" else 0
            values = tf.cast(sample[key], tf.float32)[..., None] - float(void)
            moved = resample(values, interpolation)[..., 0] + float(void)
            if key != "weights":
                moved = tf.cast(tf.round(moved), sample[key].dtype)
            out[key] = tf.ensure_shape(moved, static_size(size))
    return out


def static_size(size: tuple[Any, Any]) -> tuple[int | None, ...]:
    """The size as static shapes have it: None for a side that is known only in the run."""
    return tuple(side if isinstance(side, int) else None for side in size)
