"""Areas, overlaps and codes of boxes, by hand."""

import math

import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops.boxes import MAX_GROWTH, area, clip, decode, encode, intersection, ioa, iou

A = np.array([[0, 0, 4, 2], [1, 1, 3, 5], [2, 2, 2, 6], [5, 5, 3, 3]], "float32")
B = np.array([[2, 0, 6, 2], [0, 0, 4, 2], [10, 10, 11, 11]], "float32")
ONES = (1.0, 1.0, 1.0, 1.0)


def test_areas_and_overlaps_by_hand():
    """A box without width, and one that ends before it begins, have no area."""
    assert np.array(area(A)).tolist() == [8, 8, 0, 0]
    shared = [[4, 8, 0], [1, 2, 0], [0, 0, 0], [0, 0, 0]]
    assert np.array(intersection(A, B)).tolist() == shared
    expected = [[4 / 12, 1, 0], [1 / 15, 2 / 14, 0], [0, 0, 0], [0, 0, 0]]
    np.testing.assert_allclose(iou(A, B), expected, rtol=1e-6)
    np.testing.assert_allclose(ioa(A, B), [[0.5, 1, 0], [1 / 8, 2 / 8, 0], [0] * 3, [0] * 3])


def test_two_empty_boxes_do_not_overlap():
    empty = np.zeros((1, 4), "float32")
    assert np.array(iou(empty, empty)).tolist() == [[0]]
    assert np.array(ioa(empty, B[:1])).tolist() == [[0]]


def test_overlaps_count_pixels():
    """Of boxes in whole pixels the overlaps are those of their pixels."""
    random = np.random.default_rng(0)
    corners = np.sort(random.integers(0, 12, (2, 3, 20, 2, 2)), axis=-2)
    first, second = corners.reshape(2, 3, 20, 4).astype("float32")
    pixel = np.arange(12) + 0.5

    def filled(boxes):
        x1, y1, x2, y2 = np.moveaxis(boxes[..., None, None], 2, 0)
        rows, columns = pixel[:, None], pixel
        return (x1 < columns) & (columns < x2) & (y1 < rows) & (rows < y2)

    a, b = filled(first)[:, :, None], filled(second)[:, None]
    shared, union = (a & b).sum((-1, -2)), (a | b).sum((-1, -2))
    np.testing.assert_array_equal(intersection(first, second), shared)
    np.testing.assert_allclose(iou(first, second), shared / np.maximum(union, 1), rtol=1e-6)
    own = np.broadcast_to(a.sum((-1, -2)), shared.shape)
    np.testing.assert_allclose(ioa(first, second), shared / np.maximum(own, 1), rtol=1e-6)


def test_codes_by_hand():
    """From the 10 x 20 box round 10, 20 to the 20 x 10 one round 12, 15."""
    anchor = np.array([[5, 10, 15, 30]], "float32")
    box = np.array([[2, 10, 22, 20]], "float32")
    code = [[0.2, -0.25, math.log(2), -math.log(2)]]
    np.testing.assert_allclose(encode(box, anchor, ONES), code, rtol=1e-6)
    weighted = np.array(code) * [10, 10, 5, 5]
    np.testing.assert_allclose(encode(box, anchor, (10, 10, 5, 5)), weighted, rtol=1e-6)
    np.testing.assert_allclose(
        decode(weighted.astype("float32"), anchor, (10, 10, 5, 5)), box, rtol=1e-6
    )


def test_codes_there_and_back():
    random = np.random.default_rng(1)
    corner, side = (
        random.uniform(-50, 900, (2, 7, 500, 2)),
        random.uniform(0.5, 400, (2, 7, 500, 2)),
    )
    boxes, anchors = np.concatenate([corner, corner + side], axis=-1).astype("float32")
    # no side of ours grows by more
    assert np.max(np.abs(np.log(side[0] / side[1]))) > MAX_GROWTH
    weights = (10.0, 10.0, 5.0, 5.0)
    found = np.array(decode(encode(boxes, anchors, weights), anchors, weights))
    near = (np.log(side[0] / side[1]) < MAX_GROWTH).all(-1)
    np.testing.assert_allclose(found[near], boxes[near], atol=2e-3)
    # one anchor for several codes
    several = encode(boxes, anchors[:, :1], ONES)
    found = decode(several, anchors[:, :1], ONES)
    assert found.shape == boxes.shape


def test_a_wild_code_is_no_infinite_box():
    anchor = np.array([[0, 0, 16, 16]], "float32")
    found = np.array(decode(np.array([[0, 0, 200, 5]], "float32"), anchor, ONES))
    np.testing.assert_allclose(found, [[-492, -492, 508, 508]], rtol=1e-6)
    # The limit is of the weighted code.
    found = decode(np.array([[0, 0, 5 * MAX_GROWTH, 0]], "float32"), anchor, (10, 10, 5, 5))
    np.testing.assert_allclose(found, [[-492, 0, 508, 16]], rtol=1e-6)


def test_boxes_are_cut_to_their_own_image():
    boxes = np.array([[[-3, 2, 50, 8], [1, -9, 20, 90]]] * 2, "float32")
    sizes = np.array([[10, 30], [60, 40]], "float32")
    expected = [[[0, 2, 30, 8], [1, 0, 20, 10]], [[0, 2, 40, 8], [1, 0, 20, 60]]]
    assert np.array(clip(boxes, sizes)).tolist() == expected


@pytest.mark.parametrize("jit", [False, True])
def test_unknown_sizes_in_a_graph(jit):
    spec = [tf.TensorSpec((None, None, 4))] * 2
    function = tf.function(iou, input_signature=spec, jit_compile=jit)
    np.testing.assert_allclose(function(A[None], B[None])[0], iou(A, B), rtol=1e-6)
