"""Transforms that change colours and leave every pixel in its place."""

from dataclasses import dataclass

import tensorflow as tf

from tfseg.data.transforms.base import Sample, chance, seeds, uniform


def _changed(sample: Sample, image: tf.Tensor) -> Sample:
    return dict(sample, image=tf.clip_by_value(image, 0.0, 255.0))


@dataclass(frozen=True)
class ColorDistortion:
    """SSD's photometric distortion (Liu et al., SSD; weiliu89/caffe, util/im_transforms.cpp).

    Brightness, contrast, saturation and hue, each with probability 0.5, contrast as often after
    the last two as before them, then a permutation of the channels. As in the release, which
    works on 8 bits, every step rounds and saturates; a hue that is turned below 0, red, stays
    there, while one above 360 degrees goes on.

    Args:
        brightness: the largest shift, of 255.
        contrast: [low, high] factors.
        saturation: [low, high] factors.
        hue: the largest shift in degrees; the release's ``hue_delta: 18`` counts OpenCV's 8-bit
            hues, of 2 degrees each.
        swap: probability of permuted channels; the released prototxts' is 0.
    """

    brightness: float = 32.0
    contrast: tuple[float, float] = (0.5, 1.5)
    saturation: tuple[float, float] = (0.5, 1.5)
    hue: float = 36.0
    swap: float = 0.0

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        s = seeds(seed, 12)
        image = tf.cast(sample["image"], tf.float32)
        if image.shape[-1] != 3:
            raise ValueError("color_distortion needs colour images; use gray_value for gray ones")
        shift = tf.where(chance(s[0], 0.5), uniform(s[1], -self.brightness, self.brightness), 0.0)
        image = _eight_bits(image + shift)
        early = chance(s[2], 0.5)
        factor = tf.where(chance(s[3], 0.5), uniform(s[4], *self.contrast), 1.0)
        image = _eight_bits(image * tf.where(early, factor, 1.0))
        image = self._hue_and_saturation(image, s[5:9])
        image = _eight_bits(image * tf.where(early, 1.0, factor))
        if self.swap:
            order = tf.random.experimental.stateless_shuffle(tf.range(3), s[9])
            swapped = tf.gather(image, order, axis=-1)
            image = tf.where(chance(s[10], self.swap), swapped, image)
        return dict(sample, image=image)

    def _hue_and_saturation(self, image: tf.Tensor, s: list[tf.Tensor]) -> tf.Tensor:
        factor = tf.where(chance(s[0], 0.5), uniform(s[1], *self.saturation), 1.0)
        turn = tf.where(chance(s[2], 0.5), uniform(s[3], -self.hue / 360, self.hue / 360), 0.0)
        hue, saturation, value = tf.unstack(tf.image.rgb_to_hsv(image / 255), axis=-1)
        # 8 bits hold hues up to 255 * 2 degrees.
        hue = tf.math.floormod(tf.clip_by_value(hue + turn, 0.0, 255 / 180), 1.0)
        saturation = tf.clip_by_value(saturation * factor, 0.0, 1.0)
        return _eight_bits(tf.image.hsv_to_rgb(tf.stack([hue, saturation, value], -1)) * 255)


def _eight_bits(image: tf.Tensor) -> tf.Tensor:
    """What OpenCV's convertTo makes of values for an 8-bit image."""
    return tf.clip_by_value(tf.round(image), 0.0, 255.0)


@dataclass(frozen=True)
class Blur:
    """A gaussian blur, with this probability, of a random width.

    Args:
        probability: of blurring.
        sigma: [low, high] of the gaussian's standard deviation in pixels.
    """

    probability: float = 0.5
    sigma: tuple[float, float] = (0.1, 1.5)

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        first, second = seeds(seed, 2)
        sigma = uniform(second, *self.sigma)
        radius = int(3 * self.sigma[1] + 0.5)
        x = tf.range(-radius, radius + 1, dtype=tf.float32)
        kernel = tf.exp(-(x**2) / (2 * sigma**2))
        kernel /= tf.reduce_sum(kernel)
        image = tf.cast(sample["image"], tf.float32)
        channels = image.shape[-1]
        side = [radius, radius]
        blurred = tf.pad(image, [side, side, [0, 0]], "SYMMETRIC")[None]
        for shape in ((-1, 1, 1, 1), (1, -1, 1, 1)):
            taps = tf.tile(tf.reshape(kernel, shape), (1, 1, channels, 1))
            blurred = tf.nn.depthwise_conv2d(blurred, taps, [1, 1, 1, 1], "VALID")
        chosen = tf.where(chance(first, self.probability), blurred[0], image)
        return _changed(sample, tf.ensure_shape(chosen, image.shape))


@dataclass(frozen=True)
class Noise:
    """Gaussian noise of a random strength, independent in every pixel and channel.

    Args:
        sigma: [low, high] of the standard deviation, of 255.
        clip: keep the image in 0..255.
    """

    sigma: tuple[float, float] = (0.0, 10.0)
    clip: bool = True

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        first, second = seeds(seed, 2)
        image = tf.cast(sample["image"], tf.float32)
        noise = tf.random.stateless_normal(tf.shape(image), second)
        noisy = image + uniform(first, *self.sigma) * noise
        return _changed(sample, noisy) if self.clip else dict(sample, image=noisy)


@dataclass(frozen=True)
class GrayValue:
    """A random contrast, about the image's mean, and a random shift of all grey values.

    The U-Net paper asks for "gray value variations" and names none; the ranges are ours.

    Args:
        contrast: [low, high] factors.
        brightness: the largest shift, of 255.
    """

    contrast: tuple[float, float] = (0.8, 1.2)
    brightness: float = 20.0

    def __call__(self, sample: Sample, seed: tf.Tensor) -> Sample:
        first, second = seeds(seed, 2)
        image = tf.cast(sample["image"], tf.float32)
        mean = tf.reduce_mean(image)
        shift = uniform(second, -self.brightness, self.brightness)
        return _changed(sample, mean + (image - mean) * uniform(first, *self.contrast) + shift)
