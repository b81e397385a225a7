"""The average of the weights."""

import numpy as np
import pytest
import tensorflow as tf
from tiny import network

from tfseg.train.ema import WeightAverage


@pytest.fixture
def made():
    model = network("batch", dropout=0.5)
    return model, WeightAverage(model, 0.75), tf.distribute.get_strategy()


def kernel(model):
    return model.get_layer("head").kernel


def test_by_hand(made):
    model, average, strategy = made
    kernel(model).assign(tf.fill(kernel(model).shape, 8.0))
    average = WeightAverage(model, 0.75)
    for value in (4.0, 0.0):
        kernel(model).assign(tf.fill(kernel(model).shape, value))
        average.update(strategy)
    with average.swapped_in(strategy):
        # 0.75 * (0.75 * 8 + 0.25 * 4) + 0.25 * 0
        np.testing.assert_array_equal(kernel(model).numpy(), 5.25)
    np.testing.assert_array_equal(kernel(model).numpy(), 0.0)


def test_averages_moving_statistics_and_no_random_state(made):
    model, average, strategy = made
    statistics = model.get_layer("backbone.bn").moving_variance
    seed = next(v for v in model.variables if v.name == "seed_generator_state")
    statistics.assign(tf.fill((4,), 5.0))
    seed.assign([1, 2])
    average.update(strategy)
    with average.swapped_in(strategy):
        np.testing.assert_array_equal(statistics.numpy(), 2.0)  # 0.75 * 1 + 0.25 * 5
        np.testing.assert_array_equal(seed.numpy(), [1, 2])


def test_swaps_back_after_an_error_and_keeps_the_average(made):
    model, average, strategy = made
    kernel(model).assign(tf.zeros(kernel(model).shape))
    before = [a.numpy() for a in average.averages]
    with pytest.raises(ZeroDivisionError), average.swapped_in(strategy):
        raise ZeroDivisionError
    assert not kernel(model).numpy().any()
    for a, b in zip(average.averages, before, strict=True):
        np.testing.assert_array_equal(a.numpy(), b)
