import keras
import numpy as np
import pytest

import tfseg


@pytest.mark.parametrize(
    ("options", "convolutions", "norms"),
    [
        ({}, 62_792_769, 11_776),
        # By hand: a 3x3 convolution and a norm more at each of 64 .. 1024 .. 64, whose squares
        # sum to 1 744 896 and which sum to 2944.
        ({"residual_convs": 3}, 62_792_769 + 9 * 1_744_896 + 2944, 11_776 + 2 * 2944),
    ],
)
def test_parameters(options, convolutions, norms):
    model = tfseg.build("fusionnet", **options)
    found = [layer for layer in model.layers if ".norm" in layer.name]
    assert sum(layer.count_params() for layer in found) == norms
    assert model.count_params() == convolutions + norms


def test_multiply_accumulates():
    from tfseg.complexity import count_macs

    # A sixteenth of the channels: 1/256 of the products, but for the first and the last layer's.
    ends = 512**2 * (9 * 64 + 64)
    model = tfseg.build("fusionnet", base_filters=4)
    inner = (309_405_417_472 - ends) / 256
    assert count_macs(model, 512, 512) == inner + ends / 16


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (17, 31)])
def test_any_size(size):
    model = tfseg.build("fusionnet", base_filters=2)
    assert model(np.ones((1, *size, 1), "float32")).shape == (1, *size, 1)


def _by_hand(model, x, convs):
    """Model.py's sequence of operations, with the model's weights and plain Keras operations."""
    ops = keras.ops

    def conv(x, name):
        kernel, bias = model.get_layer(name).get_weights()
        return ops.relu(ops.conv(x, kernel, padding="same") + bias)

    def residual(x, name):
        y = x
        for i in range(1, convs + 1):
            gamma, beta = model.get_layer(f"{name}.norm{i}").get_weights()
            mean, variance = ops.mean(y, (1, 2)), ops.var(y, (1, 2))
            y = (y - mean) / ops.sqrt(variance + 1e-3) * gamma + beta
            y = conv(y, f"{name}.conv{i}")
        return x + y

    def level(x, name):
        return conv(residual(conv(x, f"{name}.in"), f"{name}.residual"), f"{name}.out")

    skips = []
    for i in range(1, 5):
        skips.append(level(x, f"conv{i}a"))
        x = ops.max_pool(skips[-1], 2, 2)
    x = level(x, "conv5a")
    for i in range(6, 10):
        kernel, bias = model.get_layer(f"up{i}a.deconv").get_weights()
        up = ops.conv_transpose(conv(x, f"up{i}a.conv"), kernel, 2, padding="same")
        x = ops.relu(up + bias) + skips.pop()
        x = conv(residual(x, f"conv{i}a.residual"), f"conv{i}a.out")
    kernel, bias = model.get_layer("conv10").get_weights()
    return ops.conv(x, kernel) + bias


@pytest.mark.parametrize("convs", [2, 3])
def test_equals_the_released_sequence(convs):
    keras.utils.set_random_seed(0)
    model = tfseg.build("fusionnet", base_filters=3, residual_convs=convs)
    for weight in model.weights:
        weight.assign(weight + keras.random.normal(weight.shape, stddev=0.05))
    x = np.random.default_rng(0).uniform(0, 255, (1, 32, 48, 1)).astype("float32")
    expected = keras.ops.convert_to_numpy(_by_hand(model, x, convs))
    scale = np.abs(expected).max()
    np.testing.assert_allclose(model(x) / scale, expected / scale, atol=1e-5)


def test_images_of_a_batch_do_not_see_each_other():
    keras.utils.set_random_seed(0)
    model = tfseg.build("fusionnet", base_filters=2)
    x = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 1)).astype("float32")
    x[1] /= 9
    together = model(x).numpy()
    scale = np.abs(together).max()
    np.testing.assert_allclose(together[1:] / scale, model(x[1:]) / scale, atol=1e-5)


def test_dropout_reaches_the_skips_and_stands_before_the_last_convolution_of_the_lowest_level():
    model = tfseg.build("fusionnet", base_filters=2)
    names = [layer.name for layer in model.layers if "dropout" in layer.name]
    assert names == [f"conv{i}a.dropout" for i in range(1, 10)]
    assert model.get_layer("conv6a.sum").input[1] is model.get_layer("conv4a.dropout").output
    assert model.get_layer("conv5a.out").input is model.get_layer("conv5a.dropout").output


def test_bad_option():
    with pytest.raises(ValueError, match="residual_convs must be 2 or 3, not 4"):
        tfseg.build("fusionnet", residual_convs=4)
