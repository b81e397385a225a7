import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseg.layers.shuffle import ChannelShuffle


def _channels(count):
    """One pixel whose channels hold their own numbers."""
    return np.arange(count, dtype="float32").reshape(1, 1, 1, count)


@pytest.mark.parametrize(
    ("groups", "expected"),
    [
        (1, [0, 1, 2, 3, 4, 5]),
        (2, [0, 3, 1, 4, 2, 5]),  # ShuffleNet, figure 1: turns between the groups
        (3, [0, 2, 4, 1, 3, 5]),  # half of the channels: the even ones, then the odd ones
        (6, [0, 1, 2, 3, 4, 5]),
    ],
)
def test_order_of_channels(groups, expected):
    out = keras.ops.convert_to_numpy(ChannelShuffle(groups)(_channels(6)))
    np.testing.assert_array_equal(out[0, 0, 0], expected)


def test_pixels_stay_in_place():
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    out = keras.ops.convert_to_numpy(ChannelShuffle(2)(x))
    np.testing.assert_array_equal(out, x[..., [0, 2, 1, 3]])


def test_the_complement_undoes_it():
    x = _channels(12)
    out = ChannelShuffle(6)(ChannelShuffle(2)(x))
    np.testing.assert_array_equal(keras.ops.convert_to_numpy(out), x)


def test_unknown_sizes():
    layer = ChannelShuffle(2)
    graph = tf.function(layer, input_signature=[tf.TensorSpec((None, None, None, 4))])
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype("float32")
    np.testing.assert_array_equal(graph(x), layer(x))
    assert layer(keras.Input((None, None, 4))).shape == (None, None, None, 4)


def test_channels_that_cannot_be_dealt_are_refused():
    with pytest.raises(ValueError, match="7 channels cannot be dealt from 2 groups"):
        ChannelShuffle(2)(keras.Input((None, None, 7)))
