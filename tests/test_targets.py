"""What anchors and regions are taught."""

import numpy as np
import tensorflow as tf

from tfseg.targets import GroundTruth, matched_targets, roi_targets, rpn_targets

SIZES = np.array([[40, 40]], np.float32)


def _truth(*boxes, labels=None, valid=None, crowd=None):
    """Of one image."""
    count = len(boxes)
    return GroundTruth(
        np.array([boxes], np.float32).reshape(1, count, 4),
        np.array([labels or range(count)], np.int32),
        np.array([valid or [True] * count]),
        np.array([crowd or [False] * count]),
    )


def _taught(anchors, truth, **options):
    """anchor -> the box that it is taught, or None for background."""
    found = rpn_targets(np.array(anchors, np.float32), truth, SIZES, 0, **options)
    index, boxes, positive, valid, targets = (np.asarray(x)[0] for x in found)
    np.testing.assert_array_equal(boxes[valid], np.array(anchors, np.float32)[index[valid]])
    return {
        int(i): tuple(t.tolist()) if p else None
        for i, p, v, t in zip(index, positive, valid, targets, strict=True)
        if v
    }


def _regions(proposals, truth, **options):
    """box -> (label, object, the object's box), or None for background."""
    proposals = np.array([proposals], np.float32)
    valid = np.ones(proposals.shape[:2], bool)
    found = roi_targets(proposals, valid, truth, 0, **options)
    boxes, positive, valid, labels, objects, targets = (np.asarray(x)[0] for x in found)
    assert not boxes[~valid].any()
    assert not labels[~positive].any()
    assert not objects[~positive].any()
    return {
        tuple(b.tolist()): (int(n), int(o), tuple(t.tolist())) if p else None
        for b, p, v, n, o, t in zip(boxes, positive, valid, labels, objects, targets, strict=True)
        if v
    }


def test_anchors():
    anchors = [
        (0, 0, 10, 10),  # the first object itself
        (0, 0, 10, 8),  # 0.8 of it
        (0, 0, 10, 5),  # 0.5: neither
        (0, 0, 10, 2),  # 0.2: background
        (20, 20, 30, 24),  # 0.4 of the second object, but its best
        (26, 20, 30, 30),  # as much
        (20, 27, 30, 30),  # 0.3: neither
    ]
    truth = _truth((0, 0, 10, 10), (20, 20, 30, 30))
    first, second = (0, 0, 10, 10), (20, 20, 30, 30)
    assert _taught(anchors, truth) == {0: first, 1: first, 3: None, 4: second, 5: second}


def test_numbers_of_anchors():
    anchors = [(0, 0, 10, 10)] * 20 + [(20, 20, 30, 30)] * 20
    for samples, positives in ((8, 4), (30, 15), (256, 20)):
        taught = _taught(anchors, _truth((0, 0, 10, 10)), samples=samples)
        assert len(taught) == min(samples, 40)
        assert sum(target is not None for target in taught.values()) == positives


def test_anchors_in_crowds():
    """Three quarters of the second anchor lie in the crowd, and half of the third."""
    anchors = [(0, 0, 10, 10), (14, 0, 18, 10), (13, 0, 23, 10), (30, 30, 40, 40)]
    truth = _truth((0, 0, 10, 10), (15, 0, 20, 20), crowd=[False, True])
    assert _taught(anchors, truth) == {0: (0, 0, 10, 10), 2: None, 3: None}
    assert set(_taught(anchors, truth, crowd_threshold=1.0)) == {0, 1, 2, 3}


def test_anchors_beyond_the_border():
    """Where the best anchor is not used another one is the best."""
    anchors = [(-2, 0, 10, 10), (0, 0, 10, 5), (30, 30, 40, 40), (30, 30, 41, 40)]
    truth = _truth((0, 0, 10, 10))
    target = (0, 0, 10, 10)
    assert _taught(anchors, truth) == {0: target, 2: None, 3: None}
    assert _taught(anchors, truth, straddle=0.0) == {1: target, 2: None}
    assert _taught(anchors, truth, straddle=1.0) == {1: target, 2: None, 3: None}


def test_regions():
    truth = _truth((0, 0, 10, 10), (20, 20, 30, 30), labels=[7, 3])
    proposals = [(0, 0, 10, 5), (20, 20, 30, 24), (21, 20, 30, 30), (0, 30, 10, 40)]
    assert _regions(proposals, truth) == {
        (0, 0, 10, 5): (7, 0, (0, 0, 10, 10)),  # exactly a half
        (20, 20, 30, 24): None,
        (21, 20, 30, 30): (3, 1, (20, 20, 30, 30)),
        (0, 30, 10, 40): None,
        # the objects' own boxes join
        (0, 0, 10, 10): (7, 0, (0, 0, 10, 10)),
        (20, 20, 30, 30): (3, 1, (20, 20, 30, 30)),
    }


def test_regions_in_crowds():
    """A proposal in the crowd is not used; an object in it is."""
    truth = _truth((0, 0, 20, 20), (5, 5, 9, 9), crowd=[True, False], labels=[0, 2])
    proposals = [(10, 10, 18, 18), (5, 5, 9, 8), (30, 30, 40, 40)]
    assert _regions(proposals, truth) == {
        (5, 5, 9, 9): (2, 1, (5, 5, 9, 9)),
        (30, 30, 40, 40): None,
    }
    assert (10, 10, 18, 18) in _regions(proposals, truth, crowd_threshold=1.0)


def test_positive_regions_come_first_and_are_a_quarter():
    truth = _truth((0, 0, 10, 10))
    proposals = np.array([[(0, 0, 10, 9)] * 50 + [(30, 30, 40, 40)] * 50], np.float32)
    found = roi_targets(proposals, np.ones((1, 100), bool), truth, 0, samples=64)
    assert np.asarray(found.positive)[0].tolist() == [True] * 16 + [False] * 48
    assert np.asarray(found.valid).all()
    few = found.first(16)
    assert np.asarray(few.positive).all()
    assert [x.shape[1] for x in few] == [16] * 6


def test_all_regions_of_a_later_stage():
    """Nothing is drawn; crowds and padding match nothing, and empty regions are not judged."""
    truth = _truth(
        (0, 0, 10, 10),
        (20, 20, 30, 30),
        (0, 30, 10, 40),
        (30, 0, 40, 10),
        labels=[7, 3, 1, 2],
        valid=[True, True, True, False],
        crowd=[False, False, True, False],
    )
    regions = [
        (0, 30, 10, 40),  # the crowd
        (0, 0, 10, 5),  # a half of the first object
        (20, 20, 30, 28),  # 0.8 of the second
        (30, 0, 40, 10),  # no object
        (5, 5, 5, 9),  # without width
        (9, 9, 5, 5),  # inside out
        (0, 0, 10, 10),  # the first object, but not a region
    ]
    boxes = np.array([regions], np.float32)
    valid = np.array([[True] * 6 + [False]])
    for threshold, positive in ((0.5, [1, 2]), (0.6, [2]), (0.9, [])):
        found = matched_targets(boxes, valid, truth, threshold)
        assert np.flatnonzero(found.positive).tolist() == positive
        assert np.asarray(found.valid)[0].tolist() == [True] * 4 + [False] * 3
        np.testing.assert_array_equal(found.boxes, boxes)
        objects = [{1: 0, 2: 1}[place] for place in positive]
        assert np.asarray(found.objects)[0, positive].tolist() == objects
        assert np.asarray(found.labels)[0, positive].tolist() == [(7, 3)[i] for i in objects]
        np.testing.assert_array_equal(
            np.asarray(found.targets)[0, positive], truth.boxes[0, objects]
        )
        others = np.setdiff1d(range(7), positive)
        assert not np.asarray(found.labels)[0, others].any()
        assert not np.asarray(found.objects)[0, others].any()


def test_no_objects_for_a_later_stage():
    truth = _truth((0, 0, 10, 10), valid=[False])
    boxes = np.array([[(0, 0, 10, 10), (0, 0, 0, 0)]], np.float32)
    found = matched_targets(boxes, np.ones((1, 2), bool), truth, 0.6)
    assert not np.asarray(found.positive).any()
    assert np.asarray(found.valid).tolist() == [[True, False]]


def test_without_objects():
    truth = _truth(*[(0, 0, 10, 10)] * 2, valid=[False, False])
    anchors = [(0, 0, 10, 10), (5, 5, 20, 20)]
    assert _taught(anchors, truth) == {0: None, 1: None}
    assert _regions(anchors, truth) == {tuple(anchor): None for anchor in anchors}


def test_in_xla_and_with_unknown_sizes():
    truth = _truth((0, 0, 10, 10), (20, 20, 30, 30), (0, 0, 0, 0), valid=[True, True, False])
    anchors = np.array([(0, 0, 10, 8), (20, 20, 30, 24), (0, 20, 10, 30)], np.float32)

    def targets(anchors, sizes, *truth):
        truth = GroundTruth(*truth)
        anchor = rpn_targets(anchors, truth, sizes, 0, straddle=0.0)
        valid = tf.ones_like(anchors[None, :, 0], bool)
        return *anchor, *roi_targets(anchors[None], valid, truth, 0)

    signature = [
        tf.TensorSpec((None, 4)),
        tf.TensorSpec((None, 2)),
        tf.TensorSpec((None, None, 4)),
        tf.TensorSpec((None, None), tf.int32),
        *[tf.TensorSpec((None, None), tf.bool)] * 2,
    ]
    traced = tf.function(targets, input_signature=signature)(anchors, SIZES, *truth)
    compiled = tf.function(targets, jit_compile=True)(anchors, SIZES, *truth)
    expected = targets(anchors, SIZES, *truth)
    assert np.asarray(expected[3]).sum() == 3
    assert np.asarray(expected[7]).sum() == 5
    for found in (traced, compiled):
        for a, b in zip(found, expected, strict=True):
            assert np.shape(a) == np.shape(b)
        # Which ones are drawn depends on the generator, how many does not.
        for place in (2, 3, 6, 7):
            np.testing.assert_array_equal(found[place], expected[place])
