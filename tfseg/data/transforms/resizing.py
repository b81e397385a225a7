"""Transforms that change the image's size and keep all of it."""

import math
from dataclasses import dataclass
from typing import Any

import tensorflow as tf

from tfseg.data.transforms.base import (
    MAPS,
    Sample,
    check_range,
    check_size,
    move_points,
    seeds,
    size_of,
    uniform,
)


@dataclass(frozen=True)
class Scale:
    """Resizes by a random factor, log-uniform in ``range``.

    Args:
        range: [low, high] factors of both sides.
        aspect: [low, high] of the width's further factor over the height's; None: kept.
    """

    range: tuple[float, float] = (0.5, 2.0)
    aspect: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        check_range("range", self.range, 0)
        if self.aspect is not None:
            check_range("aspect", self.aspect, 0)

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        first, second = seeds(seed, 2)
        factor = tf.exp(uniform(first, math.log(self.range[0]), math.log(self.range[1])))
        stretch = tf.constant(1.0)
        if self.aspect is not None:
            low, high = self.aspect
            stretch = tf.exp(uniform(second, math.log(low) / 2, math.log(high) / 2))
        height, width = (tf.cast(side, tf.float32) for side in size_of(sample))

        def side(value: tf.Tensor) -> tf.Tensor:
            return tf.maximum(tf.cast(tf.round(value), tf.int32), 1)

        return resize(sample, (side(height * factor / stretch), side(width * factor * stretch)))


@dataclass(frozen=True)
class Resize:
    """Resizes to a fixed size.

    Args:
        size: [height, width].
    """

    size: tuple[int, int]

    def __post_init__(self) -> None:
        check_size("size", self.size)

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        return resize(sample, self.size)


@dataclass(frozen=True)
class ResizeShortSide:
    """Resizes the shorter side to a length, the longer one by the same factor.

    Detectron2's ResizeShortestEdge (data/transforms/augmentation_impl.py), its ResizeTransform's
    interpolation by Pillow included, which averages where it makes images smaller. Mask R-CNN:
    800 and 1333 (section 3.1), or with jitter one of 640, 672, ..., 800.

    Args:
        sizes: lengths in pixels, one of which is drawn for each image.
        max_size: the longer side does not exceed it; the factor is less where it would.
    """

    sizes: tuple[int, ...] = (800,)
    max_size: int = 1333

    def __post_init__(self) -> None:
        if not self.sizes or min(*self.sizes, self.max_size) < 1:
            raise ValueError(
                f"sizes {list(self.sizes)} and max_size {self.max_size} must be lengths in pixels"
            )

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        place = tf.random.stateless_uniform((), seed, 0, len(self.sizes), tf.int32)
        old = tf.cast(tf.stack(size_of(sample)), tf.float64)
        scale = tf.constant(self.sizes, tf.float64)[place] / tf.reduce_min(old)
        scale = tf.minimum(scale, self.max_size / tf.reduce_max(old))
        height, width = tf.unstack(tf.cast(tf.floor(old * scale + 0.5), tf.int32))
        return resize(sample, (tf.maximum(height, 1), tf.maximum(width, 1)), antialias=True)


def resize(sample: Sample, size: tuple[Any, Any], antialias: bool = False) -> Sample:
    """Image and weights bilinear, labels nearest, on half-pixel centres."""
    old = [tf.cast(side, tf.float32) for side in size_of(sample)]
    new = [tf.cast(side, tf.float32) for side in size]
    zero = tf.constant(0.0)
    matrix = tf.stack(
        [tf.stack([new[1] / old[1], zero, zero]), tf.stack([zero, new[0] / old[0], zero])]
    )
    out = dict(move_points(sample, matrix, size))
    image = tf.cast(sample["image"], tf.float32)
    out["image"] = tf.image.resize(image, size, "bilinear", antialias=antialias)
    for key, interpolation in MAPS.items():
        if key in sample:
            out[key] = tf.image.resize(sample[key][..., None], size, interpolation.lower())[..., 0]
    return out
