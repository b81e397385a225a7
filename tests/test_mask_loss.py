"""The loss of masks' edges, beside scipy's filter."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy import ndimage

from tfseg.losses.mask import edge_loss, edge_responses, mask_parts
from tfseg.targets import RoITargets

LAPLACIAN = -np.ones((3, 3))
LAPLACIAN[1, 1] = 8


def _responses(mask):
    """scipy's "nearest" repeats the border's cells."""
    return ndimage.convolve(np.float64(mask), LAPLACIAN, mode="nearest") / 8


def _masks():
    """A square inside, one that the region cuts off, a dot, and all of it."""
    masks = np.zeros((4, 6, 6), np.float32)
    masks[0, 1:4, 2:5] = 1
    masks[1, 2:, :4] = 1
    masks[2, 0, 3] = 1
    masks[3] = 1
    return masks


def test_responses_by_hand():
    found = edge_responses(_masks()).numpy()
    # of the square's corner five neighbours are outside; of an edge's middle three
    assert found[0, 1:4, 2:5].ravel().tolist() == pytest.approx(
        [5 / 8, 3 / 8, 5 / 8, 3 / 8, 0, 3 / 8, 5 / 8, 3 / 8, 5 / 8]
    )
    # outside, beside the corner and beside the middle
    assert found[0, 0, 1:4].tolist() == pytest.approx([-1 / 8, -2 / 8, -3 / 8])
    # where the region ends the mask does not
    assert found[1, 4, 0] == pytest.approx(0)
    assert found[1, 5, 3] == pytest.approx(3 / 8)
    # a dot at the border is there twice
    assert found[2, 0, 3] == pytest.approx(7 / 8)
    assert np.abs(found[3]).max() < 1e-6


@pytest.mark.parametrize("kind", ["binary", "soft"])
def test_responses_are_scipys(kind):
    masks = _masks()
    if kind == "soft":
        masks = np.random.default_rng(0).uniform(size=(3, 7, 7)).astype("float32")
    expected = [_responses(mask) for mask in masks]
    np.testing.assert_allclose(edge_responses(masks), expected, atol=1e-6)


def test_the_loss_is_least_at_the_truth():
    inside, random = _masks(), np.random.default_rng(1)
    least = keras.ops.sum(edge_loss(inside, inside), axis=(1, 2)).numpy()
    for _ in range(20):
        other = random.uniform(size=inside.shape).astype("float32")
        values = [
            keras.ops.sum(edge_loss(inside + t * (other - inside), inside), axis=(1, 2)).numpy()
            for t in (0.05, 0.3, 1.0)
        ]
        assert (np.diff([least, *values], axis=0) > 0).all()


def _targets(positive):
    """Two regions of an image, both on its one object, of class 1 of 3."""
    boxes = np.array([[(0, 0, 8, 8), (4, 0, 12, 8)]], np.float32)
    positive = np.array([positive])
    zeros = np.zeros((1, 2), np.int32)
    return RoITargets(boxes, positive, np.ones((1, 2), bool), zeros + positive, zeros, boxes)


#: from 2 to 6, 4 to 8
EDGES = np.array([[[(2, 4, 2, 8), (6, 8, 6, 4)]]], np.float32)


def _logits(channels):
    random = np.random.default_rng(0)
    return random.normal(size=(1, 2, 4, 4, channels)).astype("float32")


def _cross_entropy(found, wanted):
    found, wanted = (0.5 + 0.5 * responses for responses in (found, wanted))
    found = np.clip(found, 1e-6, 1 - 1e-6)
    return -(wanted * np.log(found) + (1 - wanted) * np.log(1 - found))


@pytest.mark.parametrize("softmax", [False, True])
@pytest.mark.parametrize(("first", "channel"), [(False, 1), (True, 2)])
def test_the_edges_of_regions_with_objects(softmax, first, channel):
    """The first region holds the object in its lower middle, the second in a corner."""
    options = {"classes": 3, "background_first": first, "softmax": softmax}
    logits = _logits(4)
    parts = mask_parts(logits, _targets([True, False]), EDGES, edge_weight=0.5, **options)
    truth = np.zeros((4, 4))
    truth[2:, 1:3] = 1
    own = np.float64(logits[0, 0])
    if softmax:
        probabilities = (np.exp(own) / np.exp(own).sum(-1, keepdims=True))[..., channel]
    else:
        probabilities = 1 / (1 + np.exp(-own[..., channel]))
    expected = _cross_entropy(_responses(probabilities), _responses(truth)).sum()
    total, normaliser, weight = parts["mask_edge"]
    np.testing.assert_allclose(total, expected, rtol=1e-5)
    assert (float(normaliser), weight) == (16, 0.5)

    without = mask_parts(logits, _targets([True, False]), EDGES, **options)
    assert set(without) == {"mask"}
    np.testing.assert_array_equal(without["mask"], parts["mask"])


def test_without_objects_nothing_is_learnt():
    logits = tf.constant(_logits(3))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        parts = mask_parts(
            logits,
            _targets([False, False]),
            EDGES,
            classes=3,
            background_first=False,
            edge_weight=1.0,
        )
        value = parts["mask_edge"][0]
    assert (float(value), float(parts["mask_edge"][1])) == (0, 0)
    assert not np.asarray(tape.gradient(value, logits)).any()


@pytest.mark.parametrize("size", [0.0, 100.0])
def test_gradients_are_finite(size):
    """Of masks without any edge, and of masks that are certain."""
    logits = tf.constant(size * np.sign(_logits(3)))
    with tf.GradientTape() as tape:
        tape.watch(logits)
        parts = mask_parts(
            logits,
            _targets([True, True]),
            EDGES,
            classes=3,
            background_first=False,
            edge_weight=1.0,
        )
        value = parts["mask_edge"][0]
    assert np.isfinite(value)
    assert np.isfinite(tape.gradient(value, logits)).all()
