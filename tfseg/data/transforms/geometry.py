"""Transforms that move pixels: image, maps, boxes, outlines and keypoints together."""

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfseg.data.transforms.base import (
    MAPS,
    Sample,
    chance,
    check_range,
    check_size,
    map_pixels,
    move_points,
    seeds,
    size_of,
    static_size,
    uniform,
    warp,
)
from tfseg.data.transforms.bounds import tighten_boxes

#: what PSPNet's and most ImageNet trunks' mean is, rounded; RGB
MEAN_COLOR = (124.0, 117.0, 104.0)


def _check_margin(margin: int) -> None:
    if margin < 1:
        raise ValueError(f"margin must be positive, not {margin}")


@dataclass(frozen=True)
class Flip:
    """Mirrors the image with this probability, left to right or top to bottom.

    Args:
        probability: of each direction.
        vertical: also top to bottom, drawn apart from left to right.
        pairs: keypoints that change places in a left-right mirror, as [[left, right], ...].
    """

    probability: float = 0.5
    vertical: bool = False
    pairs: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise ValueError(f"probability must lie in 0..1, not {self.probability}")

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        first, second = seeds(seed, 2)
        sample = self._mirror(sample, chance(first, self.probability), axis=1)
        if self.vertical:
            sample = self._mirror(sample, chance(second, self.probability), axis=0)
        return sample

    def _mirror(self, sample: Sample, wanted: tf.Tensor, axis: int) -> Sample:
        size = size_of(sample)
        far = tf.cast(size[axis], tf.float32)
        one, zero = tf.constant(1.0), tf.constant(0.0)
        if axis == 1:
            rows = [[-one, zero, far], [zero, one, zero]]
        else:
            rows = [[one, zero, zero], [zero, -one, far]]
        moved = map_pixels(sample, lambda x: tf.reverse(x, [axis]))
        moved = move_points(moved, tf.stack([tf.stack(row) for row in rows]), size)
        if axis == 1 and "keypoints" in sample and self.pairs:
            order = list(range(sample["keypoints"].shape[1]))
            for a, b in self.pairs:
                order[a], order[b] = b, a
            moved["keypoints"] = tf.gather(moved["keypoints"], order, axis=1)
        return {k: tf.cond(wanted, lambda k=k: moved[k], lambda k=k: sample[k]) for k in sample}


@dataclass(frozen=True)
class Rotate90:
    """Turns the image by 0, 90, 180 or 270 degrees, each as likely."""

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        turns = tf.random.stateless_uniform((), seed, 0, 4, tf.int32)
        height, width = (tf.cast(side, tf.float32) for side in size_of(sample))
        moved = map_pixels(sample, lambda x: tf.image.rot90(x, turns))
        # counter-clockwise: (x, y) goes to (y, width - x)
        one, zero = tf.constant(1.0), tf.constant(0.0)
        matrices = tf.stack(
            [
                tf.stack([tf.stack(row) for row in rows])
                for rows in (
                    [[one, zero, zero], [zero, one, zero]],
                    [[zero, one, zero], [-one, zero, width]],
                    [[-one, zero, width], [zero, -one, height]],
                    [[zero, -one, height], [one, zero, zero]],
                )
            ]
        )
        return move_points(moved, matrices[turns], size_of(moved))


@dataclass(frozen=True)
class Rotate:
    """Turns the image about its centre by up to ``degrees`` either way, its size kept.

    Args:
        degrees: the largest angle.
        fill: colour of what the old image does not cover, RGB or one value.
        ignore_label: its label.
    """

    degrees: float = 10.0
    fill: tuple[float, ...] = MEAN_COLOR
    ignore_label: int = 255

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        angle = uniform(seed, -self.degrees, self.degrees) * (math.pi / 180)
        size = size_of(sample)
        y, x = (tf.cast(side, tf.float32) / 2 for side in size)
        c, s = tf.cos(angle), tf.sin(angle)
        matrix = tf.stack(
            [
                tf.stack([c, s, x - c * x - s * y]),
                tf.stack([-s, c, y + s * x - c * y]),
            ]
        )
        fill = _fill(self.fill, sample)
        return warp(sample, matrix, size, fill=fill, ignore_label=self.ignore_label)


def _fill(fill: tuple[float, ...], sample: Sample) -> tuple[float, ...]:
    """The colour in the image's channels: its mean for a gray image."""
    channels = sample["image"].shape[-1]
    return (sum(fill) / len(fill),) * channels if len(fill) != channels else tuple(fill)


@dataclass(frozen=True)
class Crop:
    """A random window of fixed size; what the image does not fill is padding, below and right.

    Args:
        size: [height, width].
        fill: colour of the padding, RGB or one value.
        ignore_label: its label. Its weight is 0.
    """

    size: tuple[int, int]
    fill: tuple[float, ...] = MEAN_COLOR
    ignore_label: int = 255

    def __post_init__(self) -> None:
        check_size("size", self.size)

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        return _random_window(self._pad(sample), self.size, seed)

    def _pad(self, sample: Sample) -> Sample:
        height, width = size_of(sample)
        below = tf.maximum(self.size[0] - height, 0)
        right = tf.maximum(self.size[1] - width, 0)
        image = tf.cast(sample["image"], tf.float32)
        color = tf.constant(_fill(self.fill, sample), tf.float32)
        paddings = [[0, below], [0, right], [0, 0]]
        out = dict(sample, image=tf.pad(image - color, paddings) + color)
        for key in MAPS:
            if key in sample:
                void = self.ignore_label if key == "mask" else 0
                out[key] = tf.pad(sample[key], paddings[:2], constant_values=void)
        return out


@dataclass(frozen=True)
class CropFraction:
    """A random window whose sides are a random fraction of the image's.

    With [0.9, 1] and at most 800 x 800 pixels the crop of COCO-Stuff's winner of 2017 (Kirillov
    et al., slides); one fraction for both sides is ours. Windows differ in size: for batches a
    `Crop` behind it pads them to ``max_size``.

    Args:
        range: [low, high] fractions of both sides, uniform; at most 1.
        max_size: [height, width] that the window does not exceed.
    """

    range: tuple[float, float]
    max_size: tuple[int, int]

    def __post_init__(self) -> None:
        check_range("range", self.range, 0)
        if self.range[1] > 1:
            raise ValueError(f"range must not exceed 1, is {self.range}")
        check_size("max_size", self.max_size)

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        first, second = seeds(seed, 2)
        old = tf.cast(tf.shape(sample["image"])[:2], tf.float32)
        size = tf.cast(tf.round(old * uniform(first, *self.range)), tf.int32)
        size = tf.clip_by_value(size, 1, tf.constant(self.max_size))
        return _random_window(sample, tuple(tf.unstack(size)), second)


def _random_window(sample: Sample, size: tuple[Any, Any], seed: tf.Tensor) -> Sample:
    """A window (height, width) of the image at a random place, each as likely."""
    free = tf.shape(sample["image"])[:2] - tf.stack(size)
    drawn = tf.random.stateless_uniform((2,), seed)
    corner = tf.cast(tf.floor(drawn * tf.cast(free + 1, tf.float32)), tf.int32)
    top, left = corner[0], corner[1]
    height, width = size

    def cut(x: tf.Tensor) -> tf.Tensor:
        window = x[top : top + height, left : left + width]
        return tf.ensure_shape(window, (*static_size(size), x.shape[-1]))

    return tighten_boxes(_shifted(map_pixels(sample, cut), -left, -top, size), size)


def _shifted(sample: Sample, x: Any, y: Any, size: tuple[Any, Any]) -> Sample:
    one, zero = tf.constant(1.0), tf.constant(0.0)
    x, y = tf.cast(x, tf.float32), tf.cast(y, tf.float32)
    matrix = tf.stack([tf.stack([one, zero, x]), tf.stack([zero, one, y])])
    return move_points(sample, matrix, size)


@dataclass(frozen=True)
class MirrorPad:
    """Continues the image beyond its border by its mirror image, the edge not repeated.

    Args:
        margin: pixels on each side, more than the image has if need be.
        size: None, or [height, width] that is reached at least, below and to the right, by
            mirroring what has its margins once more. Labels outside the image are then
            ``ignore_label``, and weights 0, as the dilation networks' data layer has them.
        ignore_label: see ``size``.
    """

    margin: int
    size: tuple[int, int] | None = None
    ignore_label: int = 255

    def __post_init__(self) -> None:
        _check_margin(self.margin)
        if self.size is not None:
            check_size("size", self.size)

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        rows, columns = (self._places(side, axis) for axis, side in enumerate(size_of(sample)))
        out = map_pixels(sample, lambda x: tf.gather(tf.gather(x, rows), columns, axis=1))
        if self.size is not None:
            for key, void in (("mask", self.ignore_label), ("weights", 0)):
                if key in out:
                    out[key] = self._only_inside(sample[key], out[key], void)
        return _shifted(out, self.margin, self.margin, size_of(out))

    def _places(self, side: Any, axis: int) -> tf.Tensor:
        """The pixels of a side that the new side is made of."""
        padded = side + 2 * self.margin
        wanted = padded if self.size is None else tf.maximum(padded, self.size[axis])
        return _mirrored(_mirrored(tf.range(wanted), padded) - self.margin, side)

    def _only_inside(self, old: tf.Tensor, new: tf.Tensor, void: int) -> tf.Tensor:
        far = tf.shape(new) - tf.shape(old) - self.margin
        paddings = tf.stack([tf.fill([2], self.margin), far], axis=1)
        return tf.pad(old, paddings, constant_values=tf.cast(void, old.dtype))


def _mirrored(index: tf.Tensor, size: Any) -> tf.Tensor:
    """Where places in front of and behind 0 .. size - 1 fall when it is mirrored, any distance."""
    period = tf.maximum(2 * (size - 1), 1)
    folded = tf.abs(index) % period
    return tf.where(folded < size, folded, period - folded)


@dataclass(frozen=True)
class CropLabels:
    """Cuts a margin off the mask and its weights, not off the image.

    For networks of valid convolutions, whose output is smaller than their input: U-Net's by 92
    pixels on each side.

    Args:
        margin: pixels on each side.
    """

    margin: int

    def __post_init__(self) -> None:
        _check_margin(self.margin)

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        _refuse_points("crop_labels", sample)
        inner = slice(self.margin, -self.margin)
        return {k: v[inner, inner] if k in MAPS else v for k, v in sample.items()}


@dataclass(frozen=True)
class SubsampleLabels:
    """Keeps every so many rows and columns of the mask and its weights, from the first on.

    For networks whose output is that much coarser than the labels, as the front end of the
    dilation networks.

    Args:
        stride: rows and columns from one that is kept to the next.
    """

    stride: int

    def __post_init__(self) -> None:
        if self.stride < 2:
            raise ValueError(f"stride must be at least 2, not {self.stride}")

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        _refuse_points("subsample_labels", sample)
        every = slice(None, None, self.stride)
        return {k: v[every, every] if k in MAPS else v for k, v in sample.items()}


def _refuse_points(name: str, sample: Sample) -> None:
    for key in ("boxes", "keypoints"):
        if key in sample:
            raise ValueError(f"{name} is for masks; the samples have {key}")
