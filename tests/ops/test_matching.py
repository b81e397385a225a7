"""Matching boxes with ground truths, by hand and beside loops over detectron2's rule."""

import numpy as np
import pytest

from tfseg.ops.matching import match


def _matched(overlaps, valid=None, thresholds=(0.3, 0.7), **options):
    overlaps = np.asarray(overlaps, np.float32)
    valid = np.ones(overlaps.shape[:-1], bool) if valid is None else np.asarray(valid)
    return [np.asarray(x) for x in match(overlaps, valid, thresholds, **options)]


def _by_loops(overlaps, valid, low, high):
    """A box at a time, and a ground truth at a time."""
    count = overlaps.shape[1]
    index, labels = [0] * count, [0] * count
    for n in range(count):
        for g in np.flatnonzero(valid):
            if overlaps[g, n] > overlaps[index[n], n] or not valid[index[n]]:
                index[n] = g
        best = overlaps[index[n], n] if valid[index[n]] else -1
        labels[n] = 1 if best >= high else (0 if best < low else -1)
    for g in np.flatnonzero(valid):
        for n in range(count):
            if overlaps[g, n] == overlaps[g].max() > 0:
                labels[n] = 1
    return index, labels


def test_by_hand():
    overlaps = [[0.9, 0.7, 0.69, 0.3, 0.29, 0.0], [0.8, 0.1, 0.0, 0.2, 0.0, 0.0]]
    index, labels = _matched(overlaps)
    assert index.tolist() == [0, 0, 0, 0, 0, 0]
    assert labels.tolist() == [1, 1, -1, -1, 0, 0]


def test_a_ground_truths_best_boxes_are_positive_ties_included():
    overlaps = [[0.9, 0.2, 0.5, 0.0], [0.1, 0.25, 0.25, 0.0], [0.0, 0.0, 0.0, 0.0]]
    index, labels = _matched(overlaps, allow_low_quality=True)
    # The third box is one of the second ground truth's best, but prefers the first.
    assert index.tolist() == [0, 1, 0, 0]
    # The third ground truth meets no box and makes none positive.
    assert labels.tolist() == [1, 1, 1, 0]
    assert _matched(overlaps)[1].tolist() == [1, 0, -1, 0]


def test_invalid_ground_truths_match_nothing():
    overlaps = [[0.9, 0.6], [0.8, 0.1]]
    index, labels = _matched(overlaps, [False, True], (0.5, 0.5), allow_low_quality=True)
    assert (index.tolist(), labels.tolist()) == ([1, 1], [1, 0])
    index, labels = _matched(overlaps, [False, False], (0.5, 0.5), allow_low_quality=True)
    assert (index.tolist(), labels.tolist()) == ([0, 0], [0, 0])


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_rule(seed):
    random = np.random.default_rng(seed)
    # few different values: many ties
    overlaps = (random.integers(0, 11, (2, 6, 40)) / 10).astype("float32")
    overlaps[:, 2] = 0
    valid = random.uniform(size=(2, 6)) < 0.7
    index, labels = _matched(overlaps, valid, (0.3, 0.7), allow_low_quality=True)
    for image in range(2):
        expected = _by_loops(overlaps[image], valid[image], np.float32(0.3), np.float32(0.7))
        assert index[image].tolist() == expected[0]
        assert labels[image].tolist() == expected[1]
