"""Suppression of duplicates, by hand and beside loops; both of its ways."""

import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops.nms import _kernel, _suppressed, nms, rows, top_k


def _by_loops(boxes, scores, valid, threshold, count, groups=None):
    """Of one image: the next best box goes if one kept before overlaps it too much."""
    boxes = boxes.astype("float32")
    groups = np.zeros(len(boxes), int) if groups is None else groups
    area = np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)
    kept = []
    for i in sorted(np.flatnonzero(valid), key=lambda i: -scores[i]):
        low = np.maximum(boxes[i, :2], boxes[kept, :2])
        high = np.minimum(boxes[i, 2:], boxes[kept, 2:])
        shared = np.prod(np.maximum(high - low, 0), axis=1)
        union = area[i] + area[kept] - shared
        overlap = np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
        if not np.any((overlap > np.float32(threshold)) & (groups[kept] == groups[i])):
            kept.append(i)
    return kept[:count]


def _kept(found):
    """The indices that are there, an image at a time; the others are zeros at the end."""
    places, there = (np.array(x) for x in found)
    assert not (there[:, 1:] & ~there[:, :-1]).any()
    return [list(p[t]) for p, t in zip(places, there, strict=True)]


def _fixed_point(boxes, scores, valid, threshold, count):
    """The rule that other backends, and groups, go by."""
    return nms(boxes, scores, valid, threshold, count, np.zeros(scores.shape, "int32"))


WAYS = pytest.mark.parametrize("way", [nms, _fixed_point])
#: 1 and 2 overlap 0 by 3/5 and 1/3, and each other by 3/5
ROW = np.array([[[0, 0, 8, 1], [2, 0, 10, 1], [4, 0, 12, 1], [20, 0, 28, 1]]], "float32")
ALL = np.ones((1, 4), bool)


@WAYS
def test_by_hand(way):
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], "float32")
    assert _kept(way(ROW, scores, ALL, 0.5, 4)) == [[0, 2, 3]]
    # What is suppressed suppresses nothing: 2 stays although 1 overlaps it.
    assert _kept(way(ROW, scores, ALL, 0.3, 4)) == [[0, 3]]
    # An overlap of the threshold itself is none too much.
    assert _kept(way(ROW, scores, ALL, 3 / 5, 4)) == [[0, 1, 2, 3]]
    scores = np.array([[0.7, 0.8, 0.9, 0.95]], "float32")
    assert _kept(way(ROW, scores, ALL, 0.5, 2)) == [[3, 2]]
    assert _kept(way(ROW, scores, ALL, 0.5, 9)) == [[3, 2, 0]]


@WAYS
def test_of_equal_scores_the_first(way):
    scores = np.array([[0.5, 0.5, 0.9, 0.5]], "float32")
    assert _kept(way(ROW, scores, ALL, 0.5, 4)) == [[2, 0, 3]]
    boxes = np.repeat(ROW[:, :1], 4, axis=1)
    assert _kept(way(boxes, np.zeros((1, 4), "float32"), ALL, 0.5, 4)) == [[0]]


@WAYS
def test_what_is_not_valid_neither_stays_nor_suppresses(way):
    scores = np.array([[0.9, 0.8, 0.7, 0.6]] * 2, "float32")
    valid = np.array([[False, True, True, True], [False] * 4])
    assert _kept(way(np.repeat(ROW, 2, 0), scores, valid, 0.5, 4)) == [[1, 3], []]


@WAYS
def test_scores_of_all_signs_and_sizes(way):
    """Logits: also the least float32 and minus infinity are scores."""
    boxes = ROW * np.array([1, 1, 1, 2], "float32")
    boxes = boxes + np.arange(4, dtype="float32")[:, None] * 40
    scores = np.array([[-5.0, -np.inf, 3.0, np.finfo("float32").min]], "float32")
    assert _kept(way(boxes, scores, ALL, 0.5, 4)) == [[2, 0, 1, 3]]


@WAYS
def test_boxes_without_area_stay(way):
    """Empty boxes overlap nothing, not even themselves."""
    boxes = np.array([[[1, 1, 1, 3], [1, 1, 1, 3], [0, 0, 4, 4], [2, 2, 2, 2]]], "float32")
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], "float32")
    assert _kept(way(boxes, scores, ALL, 0.5, 4)) == [[0, 1, 2, 3]]


def test_groups_do_not_suppress_each_other():
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], "float32")
    groups = np.array([[0, 1, 1, 0]])
    assert _kept(nms(ROW, scores, ALL, 0.5, 4, groups)) == [[0, 1, 3]]
    assert _kept(nms(ROW, scores, ALL, 0.5, 2, groups)) == [[0, 1]]


def _drawn(seed, count=60):
    """Crowded boxes of two images; few different scores and whole numbers, so many ties."""
    random = np.random.default_rng(seed)
    corner, side = random.integers(0, 20, (2, count, 2)), random.integers(0, 12, (2, count, 2))
    boxes = np.concatenate([corner, corner + side], axis=-1).astype("float32")
    scores = (random.integers(-8, 9, (2, count)) / 4).astype("float32")
    return boxes, scores, random.uniform(size=(2, count)) < 0.8, random.integers(0, 3, (2, count))


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 0.7])
def test_both_ways_are_the_loops(seed, threshold):
    boxes, scores, valid, groups = _drawn(seed)
    expected = [_by_loops(*image, threshold, 25) for image in zip(boxes, scores, valid)]  # noqa: B905
    assert _kept(nms(boxes, scores, valid, threshold, 25)) == expected
    assert _kept(_fixed_point(boxes, scores, valid, threshold, 25)) == expected
    grouped = [
        _by_loops(b, s, v, threshold, 25, g)
        for b, s, v, g in zip(boxes, scores, valid, groups, strict=True)
    ]
    assert _kept(nms(boxes, scores, valid, threshold, 25, groups)) == grouped


def test_a_long_chain():
    """Each box suppresses the next one unless it is suppressed: every second stays.

    The fixed point is found from the first box on, one a round.
    """
    place = np.arange(50, dtype="float32")
    boxes = np.stack([place, 0 * place, place + 2, 0 * place + 1], axis=1)[None]
    valid = np.ones((1, 50), bool)
    kept = np.array(_suppressed(boxes, valid, None, 0.3))
    assert kept.tolist() == [[i % 2 == 0 for i in range(50)]]
    found = _kept(_kernel(boxes, valid, 0.3, 50))
    assert found == [list(range(0, 50, 2))]


@pytest.mark.parametrize("grouped", [False, True])
@pytest.mark.parametrize("jit", [False, True])
def test_in_a_graph(grouped, jit):
    """Compiled, and with sizes that only the run knows."""
    boxes, scores, valid, groups = (tf.constant(x) for x in _drawn(5))
    if not grouped:
        groups = None

    def found(boxes, scores, valid):
        return nms(boxes, scores, valid, 0.5, 25, groups)

    spec = [
        tf.TensorSpec((2, None, 4)),
        tf.TensorSpec((2, None)),
        tf.TensorSpec((2, None), tf.bool),
    ]
    function = tf.function(found, input_signature=spec, autograph=False, jit_compile=jit)
    expected = found(boxes, scores, valid)
    assert _kept(function(boxes, scores, valid)) == _kept(expected)


def test_top_k_by_hand():
    scores = np.array([[0.1, 0.9, 0.5, 0.9], [-1, -np.inf, 2, 3]], "float32")
    valid = np.array([[True, True, True, True], [True, True, False, False]])
    places, there = (np.array(x) for x in top_k(scores, valid, 3))
    assert places.tolist() == [[1, 3, 2], [0, 1, 0]]
    assert there.tolist() == [[True] * 3, [True, True, False]]
    assert places.dtype == np.int32
    # more than there are
    places, there = (np.array(x) for x in top_k(scores[:, :1], valid[:, :1], 2))
    assert (places.tolist(), there.tolist()) == ([[0, 0]] * 2, [[True, False]] * 2)


def test_rows_by_hand():
    values = np.arange(12).reshape(2, 3, 2)
    found = rows(values, np.array([[2, 0], [1, 1]]))
    assert np.array(found).tolist() == [[[4, 5], [0, 1]], [[8, 9], [8, 9]]]
    assert np.array(rows(values[..., 0], np.array([[1], [0]]))).tolist() == [[2], [6]]
