"""Detectors in training: every variable learns, and images without objects teach background."""

import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from rcnn_training import CASCADE, KEYPOINT, MASK, OBJECTS, PANOPTIC, batch, detector, loss, total

PARTS = {"rpn_class", "rpn_box", "class", "box", "mask"}
OWN_PARTS = {
    MASK: set(),
    KEYPOINT: {"keypoint"},
    PANOPTIC: {"semantic"},
    CASCADE: {"class_1", "box_1", "class_2", "box_2", "semantic"},
}


@pytest.fixture(scope="module", params=OWN_PARTS)
def model(request):
    keras.utils.set_random_seed(2)
    # few regions: the keypoint head's convolutions are many
    return detector(request.param, proposals=16)


def _gradients(model, made):
    """The loss' parts, and the gradients of all trainable variables."""
    few = loss(roi_samples=24)
    with tf.GradientTape() as tape:
        parts = few.parts(model, made)
        value, means = total(parts)
    gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
    return parts, means, gradients


def test_every_variable_learns(model):
    parts, means, gradients = _gradients(model, batch(OBJECTS[:1]))
    assert set(parts) == PARTS | OWN_PARTS[model.spec.name]
    assert all(np.isfinite(mean) and mean > 0 for mean in means.values())
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert gradient is not None, variable.path
        assert np.isfinite(gradient).all(), variable.path
        assert np.abs(gradient).max() > 0, variable.path


def test_a_batch_without_objects(model):
    """All there is to learn is background: no offsets, masks and keypoints."""
    parts, means, gradients = _gradients(model, batch(((),)))
    for name in ("rpn_box", "box", "box_1", "box_2", "mask", "keypoint"):
        assert float(means.get(name, 0.0)) == 0
    assert float(parts["mask"][1]) == 0
    assert means["rpn_class"] > 0
    assert means["class"] > 0
    for variable, gradient in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(0.0 if gradient is None else gradient).all(), variable.path


@pytest.mark.slow
def test_two_replicas():
    """`rcnn_two_replicas.py`, in a process that has two devices."""
    cases = Path(__file__).with_name("rcnn_two_replicas.py")
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", str(cases)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
