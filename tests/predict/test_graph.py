"""The graph that prediction and export share."""

import keras
import numpy as np

import tfseg
from tfseg.predict import WholeImage
from tfseg.registry import Preprocessing


def test_frozen_weights_give_the_same_and_stay():
    keras.utils.set_random_seed(0)
    model = tfseg.build("psp_mobilenet_v2", 3, head_filters=8)
    network = WholeImage(model, model.spec.preprocessing)
    images = np.random.default_rng(0).integers(0, 256, (2, 33, 49, 3)).astype(np.uint8)
    live = network.probabilities(images).numpy()
    network.freeze()
    np.testing.assert_allclose(network.probabilities(images), live, atol=1e-5)
    np.testing.assert_allclose(network.probabilities(images[:1, :25]).numpy().sum(-1), 1, atol=1e-5)
    for weight in model.trainable_weights:
        weight.assign(weight * 0.5)
    np.testing.assert_allclose(network.probabilities(images), live, atol=1e-5)


def test_one_channel_is_the_logit_of_the_second_of_two_classes():
    x = keras.Input((None, None, 1))
    model = keras.Model(x, keras.layers.Conv2D(1, 1, kernel_initializer="ones")(x))
    network = WholeImage(model, Preprocessing("gray", (100.0,), (10.0,)))
    assert network.num_classes == 2
    images = np.array([[[[100.0], [120.0], [0.0]]]], np.float32)
    foreground = 1 / (1 + np.exp([0.0, -2.0, 10.0]))
    found = network.probabilities(images).numpy()
    np.testing.assert_allclose(found[0, 0, :, 1], foreground, rtol=1e-5)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-6)
