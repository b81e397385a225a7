"""Smooth random deformation."""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfseg.data.transforms.base import MAPS, Sample, size_of


def cubic_matrix(size: Any, source: int) -> tf.Tensor:
    """The (size, source) matrix of cubic convolution (Keys, a = -0.5) between aligned corners."""
    last = tf.cast(tf.maximum(size - 1, 1), tf.float32)
    places = tf.range(size, dtype=tf.float32) * ((source - 1) / last)
    # Samples beyond the ends repeat the end: fold their weights onto it.
    grid = np.arange(-2, source + 2)
    distance = tf.abs(places[:, None] - tf.constant(grid, tf.float32)[None, :])
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    weights = tf.where(distance < 1, near, tf.where(distance < 2, far, 0.0))
    fold = np.zeros((len(grid), source), np.float32)
    fold[np.arange(len(grid)), np.clip(grid, 0, source - 1)] = 1
    return weights @ fold


@dataclass(frozen=True)
class Elastic:
    """U-Net's elastic deformation (section 3.1): image, mask and weights by one field.

    Displacements of a coarse grid over the image are gaussian; those of the pixels between them
    are interpolated bicubically. The image is mirrored beyond its border.

    Args:
        grid: points of the coarse grid on each side.
        sigma: standard deviation of their displacement in pixels.
        uniform: instead, they are uniform up to so many pixels either way (FusionNet: 8, on a
            grid of 8).
        interpolation: "cubic" between points of which the outermost are the image's corners, or
            "linear" between points in the middle of equal cells, as OpenCV resizes.
        fixed_border: the outermost points stay.
    """

    grid: int = 3
    sigma: float = 10.0
    uniform: float | None = None
    interpolation: Literal["cubic", "linear"] = "cubic"
    fixed_border: bool = False

    def __post_init__(self) -> None:
        if self.grid < 2 or self.sigma <= 0:
            raise ValueError(f"grid {self.grid} must be 2 or more, sigma {self.sigma} positive")
        if self.uniform is not None and self.uniform <= 0:
            raise ValueError(f"uniform must be positive, not {self.uniform}")

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        for key in ("boxes", "keypoints"):
            if key in sample:
                raise ValueError(f"elastic is for masks; the samples have {key}")
        height, width = size_of(sample)
        field = self.field((height, width), seed)
        y = tf.range(height, dtype=tf.float32)[:, None] + field[0]
        x = tf.range(width, dtype=tf.float32)[None, :] + field[1]
        out = dict(sample, image=_bilinear(tf.cast(sample["image"], tf.float32), y, x))
        for key in MAPS:
            if key not in sample:
                continue
            if key == "weights":
                out[key] = _bilinear(sample[key][..., None], y, x)[..., 0]
            else:
                out[key] = _pick(sample[key], tf.round(y), tf.round(x))
            out[key] = tf.ensure_shape(out[key], sample[key].shape)
        out["image"] = tf.ensure_shape(out["image"], sample["image"].shape)
        return out

    def field(self, size: tuple[Any, Any], seed: tf.Tensor) -> tf.Tensor:
        """The displacements (rows, columns) of an image's pixels, float32 (2, height, width)."""
        shape = (2, self.grid, self.grid)
        if self.uniform is None:
            coarse = self.sigma * tf.random.stateless_normal(shape, seed)
        else:
            coarse = tf.random.stateless_uniform(shape, seed, -self.uniform, self.uniform)
        if self.fixed_border:
            inner = tf.ones((self.grid - 2, self.grid - 2))
            coarse *= tf.pad(inner, ((1, 1), (1, 1)))
        if self.interpolation == "linear":
            return tf.image.resize(coarse[..., None], size, "bilinear")[..., 0]
        rows, columns = (cubic_matrix(side, self.grid) for side in size)
        return tf.einsum("hy,cyx,wx->chw", rows, coarse, columns)


def _pick(values: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The values (H, W, ...) at whole places, mirrored at the border, the edge not repeated."""
    index = []
    for place, axis in ((y, 0), (x, 1)):
        last = tf.maximum(tf.shape(values)[axis] - 1, 1)
        folded = tf.math.floormod(tf.cast(place, tf.int32), 2 * last)
        index.append(last - tf.abs(folded - last))
    return tf.gather_nd(values, tf.stack(index, -1))


def _bilinear(values: tf.Tensor, y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
    """The values (H, W, C) between their places."""
    y0, x0 = tf.floor(y), tf.floor(x)
    fy, fx = (y - y0)[..., None], (x - x0)[..., None]
    top = _pick(values, y0, x0) * (1 - fx) + _pick(values, y0, x0 + 1) * fx
    bottom = _pick(values, y0 + 1, x0) * (1 - fx) + _pick(values, y0 + 1, x0 + 1) * fx
    return top * (1 - fy) + bottom * fy
