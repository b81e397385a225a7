"""Number formats: the policy a model is built under, and float16's loss scale."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

import keras
import tensorflow as tf

_POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}


@contextmanager
def building_in(precision: Literal["float32", "bfloat16", "float16"]) -> Iterator[None]:
    """Layers made inside compute in ``precision``; their variables are float32 in any case."""
    previous = keras.config.dtype_policy()
    keras.config.set_dtype_policy(_POLICIES[precision])
    try:
        yield
    finally:
        keras.config.set_dtype_policy(previous)


class LossScale:
    """A dynamic loss scale (arXiv 1710.03740, section 3.2): halved after a non-finite step,
    doubled after `GROWTH_STEPS` finite ones in a row.

    Attributes:
        scale: float32 variable.
        finite_steps: int64 variable, finite steps since the scale last changed.
    """

    INITIAL = 2.0**15
    GROWTH_STEPS = 2000
    #: float16's smallest positive number; a loss that overflows even so is not the scale's fault.
    MINIMUM = 2.0**-24

    def __init__(self) -> None:
        self.scale = tf.Variable(self.INITIAL, trainable=False, name="loss_scale")
        self.finite_steps = tf.Variable(0, dtype=tf.int64, trainable=False, name="finite_steps")

    def update(self, finite: tf.Tensor) -> tf.Tensor:
        """Takes note of a step.

        Args:
            finite: bool scalar, whether loss and gradients were finite.

        Returns:
            bool scalar: whether the scale is exhausted, that is, could not be halved.
        """
        exhausted = tf.logical_and(~finite, self.scale <= self.MINIMUM)
        steps = tf.where(finite, self.finite_steps + 1, tf.zeros_like(self.finite_steps))
        grow = steps >= self.GROWTH_STEPS
        factor = tf.where(finite, tf.where(grow, 2.0, 1.0), tf.where(exhausted, 1.0, 0.5))
        self.scale.assign(self.scale * factor)
        self.finite_steps.assign(tf.where(grow, tf.zeros_like(steps), steps))
        return exhausted
