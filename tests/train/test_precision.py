"""Policies and the loss scale."""

import keras
import pytest
import tensorflow as tf
from tiny import network

from tfseg.train.precision import LossScale, building_in


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_computes_in_the_precision_and_keeps_float32_variables(precision):
    before = keras.config.dtype_policy()
    with building_in(precision):
        model = network("batch")
    assert keras.config.dtype_policy() == before
    assert model(tf.zeros((1, 8, 8, 3))).dtype == precision
    assert {v.dtype for v in model.trainable_variables} == {"float32"}


def test_the_policy_is_restored_after_an_error():
    before = keras.config.dtype_policy()
    with pytest.raises(ZeroDivisionError), building_in("bfloat16"):
        raise ZeroDivisionError
    assert keras.config.dtype_policy() == before


def test_halves_at_once_and_doubles_after_a_finite_while(monkeypatch):
    monkeypatch.setattr(LossScale, "GROWTH_STEPS", 3)
    scale = LossScale()
    seen = []
    for finite in (True, True, False, True, True, True, True):
        assert not scale.update(tf.constant(finite))
        seen.append(float(scale.scale) / LossScale.INITIAL)
    assert seen == [1, 1, 0.5, 0.5, 0.5, 1, 1]


def test_is_exhausted_at_the_smallest_number():
    scale = LossScale()
    scale.scale.assign(LossScale.MINIMUM)
    assert not scale.update(tf.constant(True))
    assert scale.update(tf.constant(False))
    assert float(scale.scale) == LossScale.MINIMUM
