"""Learning-rate schedules against values worked out by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tfseg.config import Schedule
from tfseg.train.schedules import make_schedule

CASES = {
    "constant": (Schedule(), {0: 1.0, 50: 1.0, 99: 1.0}),
    "linear": (Schedule(name="poly", power=1.0), {0: 1.0, 25: 0.75, 99: 0.01, 100: 0.0}),
    # (1 - 19 / 100) ** 0.5 = 0.9, (1 - 0.75) ** 0.5 = 0.5
    "poly": (Schedule(name="poly", power=0.5), {0: 1.0, 19: 0.9, 75: 0.5}),
    "step": (
        Schedule(name="step", milestones=[30, 60], gamma=0.1),
        {0: 1.0, 29: 1.0, 30: 0.1, 59: 0.1, 60: 0.01, 99: 0.01},
    ),
    "step without milestones": (Schedule(name="step"), {0: 1.0, 99: 1.0}),
    # From 0.2 to 1 in 4 steps.
    "warm-up": (
        Schedule(warmup_steps=4, warmup_factor=0.2),
        {0: 0.2, 1: 0.4, 2: 0.6, 3: 0.8, 4: 1.0, 5: 1.0},
    ),
    "warm-up of poly": (
        Schedule(name="poly", power=1.0, warmup_steps=50, warmup_factor=0.0),
        {0: 0.0, 25: 0.5 * 0.75, 50: 0.5, 75: 0.25},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_table(name):
    schedule, table = CASES[name]
    factor = make_schedule(schedule, 100)
    found = [float(factor(step)) for step in table]
    np.testing.assert_allclose(found, list(table.values()), rtol=1e-5, atol=1e-7)


def test_one_trace_serves_every_step():
    factor = make_schedule(Schedule(name="poly", power=1.0, warmup_steps=2), 10)
    traced = tf.function(lambda step: factor(step))
    step = tf.Variable(0, dtype=tf.int64)
    found = []
    for _ in range(4):
        found.append(float(traced(step)))
        step.assign_add(1)
    np.testing.assert_allclose(found, [1 / 3, 2 / 3 * 0.9, 0.8, 0.7], rtol=1e-5)
    assert traced.experimental_get_tracing_count() == 1
