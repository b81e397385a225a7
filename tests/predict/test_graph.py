"""The graph that prediction and export share."""

import keras
import numpy as np

import tfseg
from tfseg.predict import WholeImage


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
