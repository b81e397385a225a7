"""Soft suppression, by hand and beside the released code, and box voting."""

import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops.box_voting import vote
from tfseg.ops.nms import nms
from tfseg.ops.soft_nms import METHODS, soft_nms

#: 1 and 2 overlap 0 by 3/5 and 1/3, and each other by 3/5
ROW = np.array([[[0, 0, 8, 1], [2, 0, 10, 1], [4, 0, 12, 1], [20, 0, 28, 1]]], "float32")
ALL, ONE_CLASS = np.ones((1, 4), bool), np.zeros((1, 4), "int32")


def _released(dets, sigma, threshold, floor, method):
    """Detectron's cython_nms.soft_nms on (N, 5) boxes that end with their last pixel, float32.

    Returns what is kept, by falling score, and the places that it had.
    """
    boxes, places, n, i = dets.copy(), np.arange(len(dets)), len(dets), 0
    while i < n:
        best = i + int(np.argmax(boxes[i:n, 4]))
        boxes[[i, best]], places[[i, best]] = boxes[[best, i]], places[[best, i]]
        tx1, ty1, tx2, ty2 = boxes[i, :4]
        pos = i + 1
        while pos < n:
            x1, y1, x2, y2 = boxes[pos, :4]
            area = (x2 - x1 + 1) * (y2 - y1 + 1)
            iw = min(tx2, x2) - max(tx1, x1) + 1
            ih = min(ty2, y2) - max(ty1, y1) + 1
            if iw > 0 and ih > 0:
                ov = iw * ih / ((tx2 - tx1 + 1) * (ty2 - ty1 + 1) + area - iw * ih)
                if method == "linear":
                    weight = 1 - ov if ov > threshold else np.float32(1)
                elif method == "gaussian":
                    weight = np.exp(-(ov * ov) / np.float32(sigma))
                else:
                    weight = np.float32(ov <= threshold)
                boxes[pos, 4] = weight * boxes[pos, 4]
                if boxes[pos, 4] < floor:
                    boxes[pos], places[pos] = boxes[n - 1], places[n - 1]
                    n, pos = n - 1, pos - 1
            pos += 1
        i += 1
    return boxes[:n, 4], places[:n]


def _drawn(seed, count=80):
    """Crowded boxes of whole pixels in two images, of three classes; no two scores are equal."""
    random = np.random.default_rng(seed)
    corner, side = random.integers(0, 20, (2, count, 2)), random.integers(1, 14, (2, count, 2))
    boxes = np.concatenate([corner, corner + side], axis=-1).astype("float32")
    scores = random.permutation(2 * count).reshape(2, count).astype("float32") + 1
    valid = random.uniform(size=(2, count)) < 0.8
    return boxes, scores / (2 * count), valid, random.integers(0, 3, (2, count), dtype="int32")


def _kept(found, image):
    places, scores, there = (np.array(x)[image] for x in found)
    assert not (there[1:] & ~there[:-1]).any()
    assert not places[~there].any()
    assert not scores[~there].any()
    assert (np.diff(scores[there]) <= 0).all()
    return places[there], scores[there]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("threshold", "floor"), [(0.5, 1e-4), (0.3, 0.05)])
def test_it_is_the_released_code_class_by_class(seed, method, threshold, floor):
    boxes, scores, valid, classes = _drawn(seed)
    found = soft_nms(
        boxes, scores, valid, classes, method=method, threshold=threshold, count=30, floor=floor
    )
    for image in range(2):
        parts = []
        for class_id in range(3):
            own = np.flatnonzero(valid[image] & (classes[image] == class_id))
            inclusive = boxes[image, own] - np.array([0, 0, 1, 1], "float32")
            dets = np.concatenate([inclusive, scores[image, own, None]], axis=1)
            final, places = _released(dets, 0.5, threshold, floor, method)
            parts.append(np.stack([final, own[places]], axis=1))
        # The best of all classes together (core/test.py, box_results_with_nms_and_limit).
        expected = sorted(np.concatenate(parts).tolist(), reverse=True)[:30]
        places, final = _kept(found, image)
        assert places.tolist() == [place for _, place in expected]
        np.testing.assert_allclose(final, [score for score, _ in expected], rtol=1e-5)


def test_by_hand():
    scores = np.array([[0.9, 0.8, 0.7, 0.6]], "float32")

    def found(method, **options):
        options = {"threshold": 0.5, "count": 4, "floor": 1e-4} | options
        return _kept(soft_nms(ROW, scores, ALL, ONE_CLASS, method=method, **options), 0)

    # 0 takes 3/5 of 1; 2 lies below the threshold, and takes another 3/5.
    places, final = found("linear")
    assert places.tolist() == [0, 2, 3, 1]
    np.testing.assert_allclose(final, [0.9, 0.7, 0.6, 0.8 * 0.4 * 0.4], rtol=1e-6)
    # What is lowered below the floor is left out.
    assert found("linear", floor=0.13)[0].tolist() == [0, 2, 3]
    assert found("linear", count=2)[0].tolist() == [0, 2]
    places, final = found("gaussian", sigma=0.25)
    by_0, by_2 = np.exp(-np.array([9 / 25, 1 / 9]) / 0.25)
    assert places.tolist() == [0, 3, 2, 1]
    np.testing.assert_allclose(final, [0.9, 0.6, 0.7 * by_2, 0.8 * by_0 * by_0], rtol=1e-6)
    assert found("none")[0].tolist() == [0, 2, 3]
    with pytest.raises(ValueError, match=r"method must be one of .* not 'hard'"):
        found("hard")


@pytest.mark.parametrize("method", METHODS)
def test_of_equal_scores_the_first(method):
    boxes = np.repeat(ROW[:, 3:], 4, axis=1) + np.arange(4, dtype="float32")[:, None] * 40
    scores = np.array([[0.5, 0.9, 0.5, 0.5]], "float32")
    found = soft_nms(boxes, scores, ALL, ONE_CLASS, method=method, threshold=0.5, count=4)
    assert _kept(found, 0)[0].tolist() == [1, 0, 2, 3]


def test_an_image_without_boxes_beside_one_with_some():
    valid = np.array([[True, False, False, True], [False] * 4])
    rows, scores = np.repeat(ROW, 2, 0), np.full((2, 4), 0.5, "float32")
    classes = np.zeros((2, 4), "int32")
    found = soft_nms(rows, scores, valid, classes, method="linear", threshold=0.5, count=9)
    assert _kept(found, 0)[0].tolist() == [0, 3]
    assert _kept(found, 1)[0].tolist() == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5])
def test_none_takes_what_nms_takes(seed, threshold):
    boxes, scores, valid, classes = _drawn(seed)
    scores = np.ceil(scores * 8) / 8  # with ties
    found = soft_nms(boxes, scores, valid, classes, method="none", threshold=threshold, count=25)
    places, there = (np.array(x) for x in nms(boxes, scores, valid, threshold, 25, classes))
    assert (np.array(found[0]) == np.where(there, places, 0)).all()
    assert (np.array(found[2]) == there).all()


@pytest.mark.parametrize("jit", [False, True])
def test_in_a_graph(jit):
    """Compiled, and with sizes that only the run knows."""
    tensors = [tf.constant(x) for x in _drawn(5)]

    def found(*tensors):
        return soft_nms(*tensors, method="gaussian", threshold=0.5, count=20)

    spec = [tf.TensorSpec((2, None, *t.shape[2:]), t.dtype) for t in tensors]
    function = tf.function(found, input_signature=spec, autograph=False, jit_compile=jit)
    for image in range(2):
        places, scores = _kept(function(*tensors), image)
        expected = _kept(found(*tensors), image)
        assert places.tolist() == expected[0].tolist()
        np.testing.assert_allclose(scores, expected[1], rtol=1e-5)


@pytest.mark.parametrize("threshold", [0.3, 0.8])
def test_votes_are_the_released_codes(threshold):
    """Detectron's box_voting (utils/boxes.py), class by class."""
    boxes, scores, valid, classes = _drawn(7)
    kept = boxes[:, ::4]
    found = np.array(vote(kept, classes[:, ::4], boxes, scores, valid, classes, threshold))
    for image in range(2):
        for box, class_id, voted in zip(
            kept[image], classes[image, ::4], found[image], strict=True
        ):
            voters = []
            for place, other in enumerate(boxes[image].astype("float64")):
                sides = np.minimum(box[2:], other[2:]) - np.maximum(box[:2], other[:2])
                shared = sides.clip(0).prod()
                areas = (box[2:] - box[:2]).prod() + (other[2:] - other[:2]).prod()
                same = valid[image, place] and classes[image, place] == class_id
                if same and shared / (areas - shared) >= threshold:
                    voters.append(place)
            expected = box
            if voters:
                weights = scores[image, voters]
                expected = np.average(boxes[image, voters], axis=0, weights=weights)
            np.testing.assert_allclose(voted, expected, rtol=1e-5)


def test_votes_by_hand():
    scores = np.array([[0.9, 0.3, 0.6, 0.6]], "float32")
    kept, of = ROW[:, :1], ONE_CLASS[:, :1]
    assert np.array(vote(kept, of, ROW, scores, ALL, ONE_CLASS, 0.5))[0, 0] == pytest.approx(
        [0.5, 0, 8.5, 1]  # 0.9 of 0 and 0.3 of 1
    )
    # A class of its own, and a box that overlaps nothing, have nobody to vote for them.
    assert (np.array(vote(kept, of + 1, ROW, scores, ALL, ONE_CLASS, 0.5)) == kept).all()
    empty = np.array([[[3, 3, 3, 5]]], "float32")
    assert (np.array(vote(empty, of, ROW, scores, ALL, ONE_CLASS, 0.5)) == empty).all()
