"""Segment ids as colours."""

import numpy as np
import pytest

from tfseg.ops.panoptic import ids_from_rgb, rgb_from_ids


def test_by_hand():
    colors = np.array([[[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [255, 255, 255]]], np.uint8)
    ids = np.array([[0, 1, 256, 65536, 256**3 - 1]])
    np.testing.assert_array_equal(ids_from_rgb(colors), ids)
    np.testing.assert_array_equal(rgb_from_ids(ids), colors)
    assert (ids_from_rgb(colors).dtype, rgb_from_ids(ids).dtype) == (np.int32, np.uint8)


def test_there_and_back():
    ids = np.random.default_rng(0).integers(0, 256**3, (50, 40), np.int32)
    np.testing.assert_array_equal(ids_from_rgb(rgb_from_ids(ids)), ids)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"uint8 \(H, W, 3\), not int64 \(2, 2, 3\)"):
        ids_from_rgb(np.zeros((2, 2, 3), np.int64))
    with pytest.raises(ValueError, match=r"not uint8 \(2, 2, 4\)"):
        ids_from_rgb(np.zeros((2, 2, 4), np.uint8))
    for wrong in (-1, 256**3):
        with pytest.raises(ValueError, match=r"segment ids must be 0\.\.16777215"):
            rgb_from_ids(np.array([[0, wrong]]))
