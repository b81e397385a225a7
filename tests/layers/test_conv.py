import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseg.layers.conv import MaxPool2D, WideConv2D, batch_norm, conv2d
from tfseg.layers.resize import CenterCropLike, PadLike


def _ramp(height, width):
    return np.arange(height * width, dtype="float32").reshape(1, height, width, 1)


@pytest.mark.parametrize(
    ("side", "size", "stride", "padding", "ceil_mode", "expected"),
    [
        (5, 2, 2, 0, False, 2),
        (5, 2, 2, 0, True, 3),
        (6, 2, 2, 0, True, 3),
        (237, 3, 2, 1, True, 119),  # PSPNet's stem at 473
        (6, 3, 2, 1, False, 3),
        (6, 3, 2, 1, True, 4),
        (41, 3, 1, 1, False, 41),  # DeepLab's pool4
    ],
)
def test_pool_sizes(side, size, stride, padding, ceil_mode, expected):
    layer = MaxPool2D(size, stride, padding=padding, ceil_mode=ceil_mode)
    out = layer(_ramp(side, side))
    assert out.shape == (1, expected, expected, 1)
    assert layer.compute_output_shape((1, side, side, 1)) == out.shape


def test_pool_padding_never_wins():
    out = MaxPool2D(3, 2, padding=1, ceil_mode=True)(-1 - _ramp(4, 4))
    expected = -1 - np.array([[0, 1, 3], [4, 5, 7], [12, 13, 15]], "float32")
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(out)[0, :, :, 0], expected)


def test_strided_convolution_pads_both_sides():
    # A kernel that picks its centre: with symmetric padding the even pixels.
    image = keras.Input((None, None, 1))
    model = keras.Model(image, conv2d(image, 1, 3, stride=2, name="c"))
    kernel = np.zeros((3, 3, 1, 1))
    kernel[1, 1] = 1
    model.set_weights([kernel])
    out = keras.ops.convert_to_numpy(model(_ramp(4, 4)))
    np.testing.assert_array_equal(out[0, :, :, 0], [[0, 2], [8, 10]])


def test_unknown_norm_is_refused():
    with pytest.raises(ValueError, match="'group'"):
        batch_norm("group")


def test_crop_and_pad_fit_the_second_input():
    x, like = _ramp(5, 6), np.zeros((1, 3, 2, 4), "float32")
    out = keras.ops.convert_to_numpy(CenterCropLike()([x, like]))
    np.testing.assert_array_equal(out, x[:, 1:4, 2:4])
    back = keras.ops.convert_to_numpy(PadLike()([out, x]))
    assert back.shape == x.shape
    np.testing.assert_array_equal(back[:, :3, :2], out)
    assert back[:, 3:].sum() == back[:, :, 2:].sum() == 0


def test_layers_of_one_shape_start_differently_and_reproducibly():
    def kernels():
        keras.utils.set_random_seed(3)
        x = keras.Input((None, None, 4))
        model = keras.Model(x, conv2d(conv2d(x, 4, 3, name="a"), 4, 3, name="b"))
        return model.get_weights()

    first, second = kernels()
    assert np.abs(first - second).max() > 0.1
    np.testing.assert_array_equal(first, kernels()[0])


@pytest.mark.parametrize("options", [{}, {"stride": 2}, {"dilation": 2}])
def test_grouped_convolutions_are_those_of_keras(options):
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 12))
    model = keras.Model(inputs, conv2d(inputs, 8, 3, groups=4, use_bias=True, name="a", **options))
    layer = model.get_layer("a")
    x = np.random.default_rng(0).normal(size=(2, 9, 11, 12)).astype("float32")
    found = model(x)
    if "stride" in options:
        x = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    expected = layer.bias + keras.ops.conv(
        x, layer.kernel, layer.strides, layer.padding, dilation_rate=layer.dilation_rate
    )
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("size", [(40, 29), (13, 12), (5, 30), (1, 1)])
def test_wide_convolutions_are_those_of_keras(size):
    """Also where taps fall outside the map altogether, and with sizes known only when it runs."""
    keras.utils.set_random_seed(0)
    inputs = keras.Input((None, None, 5))
    model = keras.Model(inputs, conv2d(inputs, 4, 3, dilation=12, use_bias=True, name="a"))
    layer = model.get_layer("a")
    assert isinstance(layer, WideConv2D)
    x = np.random.default_rng(0).normal(size=(2, *size, 5)).astype("float32")
    expected = layer.bias + keras.ops.conv(x, layer.kernel, 1, "same", dilation_rate=12)
    np.testing.assert_allclose(model(x), expected, atol=1e-5)
    dynamic = tf.function(model, input_signature=[tf.TensorSpec((None, None, None, 5))])
    np.testing.assert_allclose(dynamic(x), expected, atol=1e-5)
    x = tf.Variable(x)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(model(x) ** 2)
    found = tape.gradient(loss, [layer.kernel.value, x])
    with tf.GradientTape() as tape:
        other = keras.ops.conv(x, layer.kernel, 1, "same", dilation_rate=12) + layer.bias
        loss = tf.reduce_sum(other**2)
    for one, wanted in zip(found, tape.gradient(loss, [layer.kernel.value, x]), strict=True):
        np.testing.assert_allclose(one, wanted, rtol=1e-4, atol=1e-3)
