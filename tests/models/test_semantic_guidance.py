"""Semantic-guided pyramids: what they add to a detector, and what to nothing."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfseg
from tfseg.models.rcnn.semantic_guidance import guided_pyramid

LEVELS = ("p2", "p3", "p4", "p5")


def _images(height=65, width=97):
    return np.random.default_rng(0).normal(size=(1, height, width, 3)).astype("float32")


def _detector(kind, **options):
    options = {"score_threshold": 0.0, "max_detections": 10} | options
    return tfseg.build(f"mask_rcnn_mobilenet_v2_{kind}", 2, **options)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return _detector("sfpn")


def test_the_branch_is_added_to_every_level():
    keras.utils.set_random_seed(0)
    random, maps = np.random.default_rng(1), {}
    for level, side in zip(LEVELS, (16, 8, 4, 2), strict=True):
        maps[level] = random.normal(size=(2, side, 2 * side, 4)).astype("float32")
    inputs = {level: keras.Input((None, None, 4), name=level) for level in LEVELS}
    network = keras.Model(inputs, guided_pyramid(inputs))
    found = {level: np.asarray(map_) for level, map_ in network(maps).items()}
    assert found["semantic"].shape == (2, 16, 32, 128)
    for level, map_ in maps.items():
        fuse = network.get_layer(f"sfpn.{level}.fuse")
        fuse.bias.assign(random.normal(size=4))
        height, width = map_.shape[1:3]
        cells = found["semantic"].reshape(2, height, 16 // height, width, 32 // width, 128)
        added = cells.mean((2, 4)) @ np.asarray(fuse.kernel)[0, 0] + np.asarray(fuse.bias)
        np.testing.assert_allclose(network(maps)[level], map_ + added, atol=1e-4)


def test_without_what_is_fused_it_is_the_plain_pyramid(model):
    plain, guided = _detector("fpn"), _detector("sfpn")
    for layer in guided.layers:
        if layer.name.endswith(".fuse"):
            layer.set_weights([np.zeros(v.shape) for v in layer.weights])
        elif layer.weights and not layer.name.startswith("sem_seg_head."):
            plain.get_layer(layer.name).set_weights(layer.get_weights())
    images = _images()
    expected, found = plain(images), guided(images)
    assert found.keys() == expected.keys()
    assert np.asarray(expected["valid"]).all()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=key)
    features = plain.features(images)
    for level, map_ in guided.features(images).items():
        if level != "semantic":
            np.testing.assert_allclose(map_, features[level], atol=1e-5, err_msg=level)
    # and with it another
    assert np.abs(model.features(images)["p5"] - features["p5"]).max() > 0.1


@pytest.mark.parametrize("size", [(65, 97), (64, 64), (33, 130)])
def test_semantic_logits_have_the_inputs_size(model, size):
    images = _images(*size)
    logits = model.semantic_outputs(model.features(images), images)
    assert logits.shape == (1, *size, 3)
    assert model.semantic_classes == 3


def test_labels_of_its_own():
    with keras.StatelessScope(initialize_variables=False):
        assert _detector("sfpn", semantic_classes=11).semantic_classes == 11


def test_calling_it_gives_no_semantic_logits(model):
    assert set(model(_images())) == {"boxes", "scores", "classes", "valid", "masks"}
    assert not model.panoptic


def test_what_the_semantic_loss_teaches(model):
    """The trunk, the plain pyramid and the branch; not what is fused, nor the heads."""
    images = _images(64, 64)
    with tf.GradientTape() as tape:
        logits = model.semantic_outputs(model.features(images, training=True), images)
        value = tf.reduce_sum(logits * tf.random.stateless_normal(logits.shape, (1, 2)))
    gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
    learns = {
        v.path.split("/")[0]: np.abs(g).max() > 0
        for v, g in zip(model.trainable_variables, gradients, strict=True)
        if g is not None
    }
    assert all(learns.values())
    trained = {layer.name for layer in model.layers if layer.trainable_variables}
    own = {name for name in trained if name.startswith(("backbone.", "fpn_", "sem_seg_head."))}
    assert set(learns) == own
    assert "backbone.features.17.conv.2" in own
    assert {f"sfpn.{level}.fuse" for level in LEVELS} <= trained
