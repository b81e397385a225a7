"""Objects and semantic labels in one map: by hand."""

import numpy as np
import pytest

from tfseg.metrics import PanopticQuality
from tfseg.predict.panoptic import combine

SIZE = (10, 20)


def _mask(top, left, height, width):
    mask = np.zeros(SIZE, bool)
    mask[top : top + height, left : left + width] = True
    return mask


def _combine(masks, scores, classes, semantic, **options):
    options = {"thing_ids": (1, 17), "stuff_ids": (92, 93), "stuff_area_threshold": 30} | options
    return combine(
        np.array(masks, bool).reshape(-1, *SIZE),
        np.array(scores, np.float32),
        np.array(classes, np.int32),
        semantic,
        **options,
    )


def test_by_hand():
    semantic = np.full(SIZE, 1, np.int32)
    semantic[:, 10:] = 2
    semantic[9] = 0
    masks = [
        _mask(0, 0, 4, 4),  # half of it is taken, no more: gets the other half
        _mask(0, 2, 4, 6),
        _mask(0, 0, 4, 5),  # all of it is taken
        _mask(5, 0, 2, 2),  # below the threshold
        _mask(0, 0, 0, 0),  # no pixel
    ]
    panoptic, segments = _combine(masks, [0.7, 0.9, 0.6, 0.49, 0.8], [0, 1, 0, 0, 0], semantic)
    expected = np.zeros(SIZE, int)
    expected[:9, :10], expected[:9, 10:] = 3, 4
    expected[:4, :2] = 2
    expected[:4, 2:8] = 1
    np.testing.assert_array_equal(panoptic, expected)
    assert panoptic.dtype == np.int32
    assert segments == [
        {"id": 1, "category_id": 17, "isthing": True, "area": 24, "instance": 1}
        | {"score": pytest.approx(0.9)},
        {"id": 2, "category_id": 1, "isthing": True, "area": 8, "instance": 0}
        | {"score": pytest.approx(0.7)},
        {"id": 3, "category_id": 92, "isthing": False, "area": 90 - 32},
        {"id": 4, "category_id": 93, "isthing": False, "area": 90},
    ]


def test_thresholds():
    semantic = np.full(SIZE, 2, np.int32)
    semantic[0] = 1
    masks = [_mask(0, 0, 4, 4), _mask(0, 2, 4, 4)]

    def areas(**options):
        return [s["area"] for s in _combine(masks, [0.5, 0.5], [0, 0], semantic, **options)[1]]

    # equal scores: in order; half of the second is taken; the first stuff has 20 - 6 pixels left
    assert areas() == [16, 8, 180 - 18]
    assert areas(overlap_threshold=0.49) == [16, 180 - 12]
    assert areas(score_threshold=0.51) == [180]
    assert areas(stuff_area_threshold=14) == [16, 8, 14, 162]
    assert areas(stuff_area_threshold=15) == [16, 8, 162]
    assert areas(stuff_area_threshold=163) == [16, 8]


def test_nothing_at_all():
    panoptic, segments = _combine([], [], [], np.zeros(SIZE, np.int32))
    assert not panoptic.any()
    assert segments == []
    # stuff that objects cover wholly, and an object without a pixel left, are no segments
    masks = [np.ones(SIZE, bool), _mask(0, 0, 2, 2)]
    options = {"stuff_area_threshold": 0, "overlap_threshold": 1.0}
    _, segments = _combine(masks, [0.9, 0.8], [0, 0], np.ones(SIZE, np.int32), **options)
    assert [s["id"] for s in segments] == [1]


def test_the_score_takes_it():
    semantic = np.full(SIZE, 1, np.int32)
    panoptic, segments = _combine([_mask(0, 0, 4, 4)], [0.9], [1], semantic)
    quality = PanopticQuality([1, 17, 92], ["a", "b", "c"], [True, True, False])
    quality.update(panoptic, [s | {"iscrowd": 0} for s in segments], panoptic, segments)
    assert quality.result()["pq"] == 1


def test_mistakes_are_named():
    semantic = np.zeros(SIZE, np.int32)
    mask = _mask(0, 0, 4, 4)
    with pytest.raises(ValueError, match="1, 2 and 1 masks, scores and classes"):
        _combine([mask], [0.9, 0.8], [0], semantic)
    with pytest.raises(ValueError, match=r"classes must be 0\.\.1, not 2\.\.2"):
        _combine([mask], [0.9], [2], semantic)
    with pytest.raises(ValueError, match=r"semantic labels must be 0\.\.2, not 3\.\.3"):
        _combine([mask], [0.9], [0], semantic + 3)
    with pytest.raises(ValueError, match=r"semantic must be int \(H, W\), not float64"):
        _combine([mask], [0.9], [0], semantic.astype(float))
    options = {"thing_ids": (1,), "stuff_ids": (2,)}
    with pytest.raises(ValueError, match=r"bool \(10, 20\) as the labels, not bool \(4, 4\)"):
        combine(np.ones((1, 4, 4), bool), np.ones(1), np.zeros(1, int), semantic, **options)
