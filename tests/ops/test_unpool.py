"""Max unpooling beside loops over its definition."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseg.layers.conv import MaxPool2D
from tfseg.layers.unpool import MaxUnpool2D
from tfseg.ops.unpool import argmax_places, max_unpool


def _numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def _caffe(values, pooled):
    """Caffe's pooling mask and unpooling: (values at their places, maxima)."""
    height, width = pooled.shape[1:3]
    out, maxima = np.zeros_like(pooled), np.zeros_like(values)
    for b, i, j, c in np.ndindex(values.shape):
        best, place = -np.inf, None
        for y in range(2 * i, min(2 * i + 2, height)):
            for x in range(2 * j, min(2 * j + 2, width)):
                if pooled[b, y, x, c] > best:
                    best, place = pooled[b, y, x, c], (b, y, x, c)
        maxima[b, i, j, c] = best
        out[place] = values[b, i, j, c]
    return out, maxima


def test_by_hand():
    pooled = np.array([[1, 5, 2, 2], [3, 4, 2, 2], [0, 0, 9, 1], [0, 7, 8, 9]], "float32")
    pooled = pooled[None, ..., None]
    # a tie goes to the first in scan order: upper left
    places = argmax_places(pooled)
    assert _numpy(places)[0, ..., 0].tolist() == [[1, 0], [3, 0]]
    values = np.array([[10, 20], [30, 40]], "float32")[None, ..., None]
    out = _numpy(max_unpool(values, places, (4, 4)))[0, ..., 0]
    assert out.tolist() == [[0, 10, 20, 0], [0, 0, 0, 0], [0, 0, 40, 0], [0, 30, 0, 0]]


@pytest.mark.parametrize("size", [(6, 8), (5, 8), (6, 7), (7, 5), (1, 1)])
def test_equals_caffe(size):
    random = np.random.default_rng(0)
    # few different values: many ties, also of zeros as behind a ReLU
    pooled = random.integers(0, 3, (2, *size, 3)).astype("float32")
    values = random.normal(size=(2, -(-size[0] // 2), -(-size[1] // 2), 3)).astype("float32")
    expected, maxima = _caffe(values, pooled)
    np.testing.assert_array_equal(_numpy(MaxUnpool2D()([values, pooled])), expected)
    np.testing.assert_array_equal(_numpy(MaxPool2D(2, 2, ceil_mode=True)(pooled)), maxima)


def test_negative_maps_and_their_border():
    """The padding of odd sizes never wins."""
    pooled = np.full((1, 3, 3, 1), -5, "float32")
    assert not _numpy(argmax_places(pooled)).any()


def test_gradient():
    random = np.random.default_rng(1)
    pooled = tf.constant(random.normal(size=(2, 5, 6, 2)))
    values = tf.constant(random.normal(size=(2, 3, 3, 2)))
    weights = tf.constant(random.normal(size=(2, 5, 6, 2)))
    layer = MaxUnpool2D(dtype="float64")

    def loss(values):
        return tf.reduce_sum(layer([values, pooled]) ** 2 * weights)

    with tf.GradientTape() as tape:
        tape.watch([values, pooled])
        gradients = tape.gradient(loss(values), [values, pooled])
    for index in np.ndindex(*values.shape):
        step = np.zeros(values.shape)
        step[index] = 1e-6
        slope = (loss(values + step) - loss(values - step)) / 2e-6
        np.testing.assert_allclose(gradients[0].numpy()[index], slope, rtol=1e-6, atol=1e-9)
    assert gradients[1] is None or not gradients[1].numpy().any()


def test_in_xla_with_dynamic_sizes():
    layer = MaxUnpool2D()
    pooled = np.random.default_rng(2).normal(size=(1, 5, 6, 2)).astype("float32")
    values = np.ones((1, 3, 3, 2), "float32")
    compiled = tf.function(lambda x, y: layer([x, y]), jit_compile=True)
    np.testing.assert_array_equal(compiled(values, pooled), _caffe(values, pooled)[0])
    inputs = [keras.Input((None, None, 2)), keras.Input((None, None, 2))]
    model = keras.Model(inputs, layer(inputs))
    assert model.output_shape == (None, None, None, 2)
    traced = tf.function(
        lambda x, y: model([x, y]), input_signature=[tf.TensorSpec((None,) * 3 + (2,))] * 2
    )
    np.testing.assert_array_equal(traced(values, pooled), _caffe(values, pooled)[0])
