"""The update rule against NumPy and against Keras' own."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import network, optimizer

from tfseg.train.optimizers import UpdateRule

RATES = [0.1, 0.1, 0.05, 0.02]


def run(settings, build=lambda: network("batch")):
    """(variables before, gradients of each step, variables after) of a few steps."""
    keras.utils.set_random_seed(3)
    model = build()
    rule = UpdateRule(settings, model)
    rng = np.random.default_rng(5)
    before = [v.numpy() for v in rule.variables]
    gradients = [[rng.normal(0, 1, v.shape).astype(np.float32) for v in before] for _ in RATES]
    strategy = tf.distribute.get_strategy()
    for rate, step in zip(RATES, gradients, strict=True):
        tensors = [tf.constant(g) for g in step]
        # In cross-replica context, as the training step calls it.
        rule.apply(strategy, tensors, tf.linalg.global_norm(tensors), tf.constant(rate))
    return rule.variables, before, gradients, [v.numpy() for v in rule.variables]


def sgd(value, gradients, *, multiplier, decay, momentum, nesterov=False):
    velocity = np.zeros_like(value)
    for rate, gradient in zip(RATES, gradients, strict=True):
        step = multiplier * rate * (gradient + decay * value)
        velocity = momentum * velocity - step
        value = value + (momentum * velocity - step if nesterov else velocity)
    return value


def expected_factors(variable):
    """(multiplier, decay) by the variable's path, spelled out."""
    return {
        "backbone.conv/kernel": (1, 0.1),
        "backbone.conv/bias": (1, 0),
        "backbone.bn/gamma": (1, 0),
        "backbone.bn/beta": (1, 0),
        "head/kernel": (10, 0.1),
        "head/bias": (20, 0),
    }[variable.path]


@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_sgd_by_hand(momentum, nesterov):
    settings = optimizer(
        momentum=momentum,
        nesterov=nesterov,
        weight_decay=0.1,
        head_multiplier=10,
        head_bias_multiplier=20,
    )
    variables, before, gradients, after = run(settings)
    assert len(variables) == 6
    for i, variable in enumerate(variables):
        multiplier, decay = expected_factors(variable)
        expected = sgd(
            before[i],
            [g[i] for g in gradients],
            multiplier=multiplier,
            decay=decay,
            momentum=momentum,
            nesterov=nesterov and momentum > 0,
        )
        np.testing.assert_allclose(after[i], expected, rtol=2e-5, atol=1e-5, err_msg=variable.path)


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_norms_and_biases_decay_where_asked(bias, norm):
    settings = optimizer(momentum=0.0, weight_decay=0.1, decay_norm=norm, decay_bias=bias)
    variables, before, gradients, after = run(settings)
    asked = {"kernel": True, "bias": bias, "gamma": norm, "beta": norm}
    assert {variable.name for variable in variables} == set(asked)
    for i, variable in enumerate(variables):
        decay = 0.1 * asked[variable.name]
        step = [g[i] for g in gradients]
        expected = sgd(before[i], step, multiplier=1, decay=decay, momentum=0.0)
        np.testing.assert_allclose(after[i], expected, rtol=1e-5, atol=1e-6, err_msg=variable.path)


def test_clips_to_the_global_norm_before_decay():
    settings = optimizer(momentum=0.0, weight_decay=0.1, clip_norm=0.5)
    variables, before, gradients, after = run(settings)
    clipped = []
    for step in gradients:
        norm = np.sqrt(sum((g.astype(np.float64) ** 2).sum() for g in step))
        assert norm > 0.5
        clipped.append([g * 0.5 / norm for g in step])
    for i, variable in enumerate(variables):
        decay = expected_factors(variable)[1]
        expected = sgd(before[i], [g[i] for g in clipped], multiplier=1, decay=decay, momentum=0.0)
        np.testing.assert_allclose(after[i], expected, rtol=1e-5, atol=1e-6, err_msg=variable.path)


def test_a_small_gradient_is_not_clipped():
    assert all(
        np.array_equal(a, b)
        for a, b in zip(run(optimizer(clip_norm=1e6))[3], run(optimizer())[3], strict=True)
    )


@pytest.mark.parametrize("name", ["adam", "nadam", "adamw"])
def test_each_group_moves_as_kerass_optimizer_at_its_rate(name):
    """A rate ten times as high is not a gradient ten times as large: Adam undoes the latter."""
    settings = optimizer(name=name, beta_1=0.8, beta_2=0.95, head_multiplier=10, weight_decay=0.1)
    variables, before, gradients, after = run(settings)
    kinds = {"adam": "Adam", "nadam": "Nadam", "adamw": "AdamW"}
    for i, variable in enumerate(variables):
        multiplier, decay = expected_factors(variable)
        multiplier = 10 if multiplier == 20 else multiplier
        options = {"weight_decay": decay} if name == "adamw" else {}
        keras_rule = getattr(keras.optimizers, kinds[name])(0.1, beta_1=0.8, beta_2=0.95, **options)
        copy = keras.Variable(before[i])
        for rate, step in zip(RATES, gradients, strict=True):
            keras_rule.learning_rate = rate * multiplier
            coupled = 0.0 if name == "adamw" else decay
            keras_rule.apply([tf.constant(step[i]) + coupled * copy.value], [copy])
        np.testing.assert_allclose(
            after[i], copy.numpy(), rtol=1e-4, atol=1e-5, err_msg=variable.path
        )


def test_the_head_bias_follows_the_head_unless_told_otherwise():
    rule = UpdateRule(optimizer(head_multiplier=10), network())
    assert rule.multipliers == [1, 1, 10, 10]
    rule = UpdateRule(optimizer(head_bias_multiplier=2), network())
    assert rule.multipliers == [1, 1, 1, 2]


def test_a_multiplier_without_a_backbone_is_an_error():
    plain = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 1)], name="plain")
    with pytest.raises(ValueError, match=r"'plain' has a name that starts with 'backbone\.'"):
        UpdateRule(optimizer(head_multiplier=10), plain)
    UpdateRule(optimizer(), plain)


def test_biases_have_a_rate_of_their_own():
    settings = optimizer(momentum=0.0, bias_multiplier=2, head_multiplier=10)
    variables, before, gradients, after = run(settings)
    factors = {
        "backbone.conv/bias": 2,
        "backbone.conv/kernel": 1,
        "head/kernel": 10,
        "head/bias": 20,
    }
    for i, variable in enumerate(variables):
        expected = sgd(
            before[i],
            [step[i] for step in gradients],
            multiplier=factors.get(variable.path, 1),
            decay=0,
            momentum=0,
        )
        np.testing.assert_allclose(after[i], expected, rtol=1e-5, atol=1e-6)
