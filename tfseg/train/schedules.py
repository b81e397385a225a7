"""Learning-rate schedules: pure functions of the step."""

from collections.abc import Callable

import tensorflow as tf

from tfseg import config


def make_schedule(schedule: config.Schedule, steps: int) -> Callable[[int | tf.Tensor], tf.Tensor]:
    """The learning rate's course, as a factor of the optimizer's rate.

    "poly" is Caffe's ``(1 - step / steps) ** power``; "step" multiplies by ``gamma`` from each
    milestone on. During warm-up the factor is multiplied by a line from ``warmup_factor`` to 1.

    Args:
        schedule: the course's name and options.
        steps: length of the run.

    Returns:
        A function of the step (an integer, counted from 0) that gives a float32 scalar. It
        builds graph operations, so one traced function serves every step.
    """

    def factor(step: int | tf.Tensor) -> tf.Tensor:
        step = tf.cast(step, tf.float32)
        if schedule.name == "poly":
            value = tf.maximum(1.0 - step / steps, 0.0) ** schedule.power
        elif schedule.name == "step":
            milestones = tf.constant(schedule.milestones, tf.float32)
            passed = tf.reduce_sum(tf.cast(step >= milestones, tf.float32))
            value = schedule.gamma**passed
        else:
            value = tf.ones(())
        if schedule.warmup_steps:
            done = tf.minimum(step / schedule.warmup_steps, 1.0)
            value *= schedule.warmup_factor * (1.0 - done) + done
        return value

    return factor
