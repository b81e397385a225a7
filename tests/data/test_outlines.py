import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tfseg.data import outlines
from tfseg.data.outlines import (
    fill_outline,
    mask_outline,
    polygon_outline,
    stack_outlines,
)
from tfseg.data.regions import region_of


def _square(x, y, side):
    return np.array([[x, y], [x + side, y], [x + side, y + side], [x, y + side]], float)


def _sorted(edges):
    """Segments in one order and direction."""
    ordered = [min((a, b, c, d), (c, d, a, b)) for a, b, c, d in edges.tolist()]
    return sorted(ordered)


def _turned(edges):
    """A quarter turn: (x, y) goes to (-y, x)."""
    return np.stack([-edges[:, 1], edges[:, 0], -edges[:, 3], edges[:, 2]], -1)


def test_a_polygons_outline_is_its_sides():
    triangle = np.array([[1, 1], [5, 1], [5, 1], [1, 4]], float)  # one corner given twice
    expected = [(1, 1, 5, 1), (5, 1, 1, 4), (1, 4, 1, 1)]
    assert _sorted(polygon_outline([triangle])) == _sorted(np.array(expected, float))


def test_a_masks_outline_by_hand():
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    mask[1, 3] = False  # an L
    expected = [
        (1, 1, 1, 3),  # left
        (3, 1, 3, 2),
        (4, 2, 4, 3),
        (1, 1, 3, 1),  # top
        (3, 2, 4, 2),
        (1, 3, 4, 3),
    ]
    assert _sorted(mask_outline(region_of(mask))) == _sorted(np.array(expected, float))


@pytest.mark.parametrize("seed", range(5))
def test_a_masks_outline_fills_to_the_mask(seed):
    mask = np.random.default_rng(seed).random((23, 31)) < 0.1 + 0.2 * seed  # with holes
    edges = mask_outline(region_of(mask))
    np.testing.assert_array_equal(fill_outline(edges, mask.shape), mask)
    turned = _turned(edges) + np.array([23, 0, 23, 0])
    np.testing.assert_array_equal(fill_outline(turned, (31, 23)), np.rot90(mask, -1))


def test_an_empty_mask_has_no_outline():
    edges = mask_outline(region_of(np.zeros((3, 4), bool)))
    assert edges.shape == (0, 4)
    assert not fill_outline(edges, (3, 4)).any()


def test_the_union_of_two_squares_by_hand():
    # at [0, 4) and [2, 6) in both directions: a corner of each is inside the other
    edges = polygon_outline([_square(0, 0, 4), _square(2, 2, 4)])
    expected = [
        (0, 0, 4, 0),
        (0, 0, 0, 4),
        (4, 0, 4, 2),
        (4, 2, 6, 2),
        (6, 2, 6, 6),
        (2, 6, 6, 6),
        (2, 4, 2, 6),
        (0, 4, 2, 4),
    ]
    assert _sorted(edges) == _sorted(np.array(expected, float))


@pytest.mark.parametrize(
    "second",
    [
        _square(1, 1, 2),  # inside the first
        _square(0, 0, 4),  # the same
        _square(0, 0, 4)[::-1],  # the other way round
        _square(4, 0, 4),  # beside it, with a side in common
        _square(3, 0, 4),  # sides on one line
        _square(2, 1, 2),  # inside, with a side in common
    ],
)
def test_unions_of_squares_that_share_lines(second):
    edges = polygon_outline([_square(0, 0, 4), second])
    expected = np.zeros((9, 9), bool)
    for square in (_square(0, 0, 4), second):
        (x1, y1), (x2, y2) = square.min(0).astype(int), square.max(0).astype(int)
        expected[y1:y2, x1:x2] = True
    np.testing.assert_array_equal(fill_outline(edges, (9, 9)), expected)
    turned = fill_outline(_turned(edges) + np.array([9, 0, 9, 0]), (9, 9))
    np.testing.assert_array_equal(turned, np.rot90(expected, -1))


@pytest.mark.parametrize("seed", range(8))
def test_the_union_of_polygons_is_that_of_their_masks(seed):
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(0, 40, (rng.integers(3, 9), 2)) for _ in range(4)]
    expected = np.zeros((40, 40), bool)
    for polygon in polygons:
        expected |= fill_outline(polygon_outline([polygon]), (40, 40))
    edges = polygon_outline(polygons)
    np.testing.assert_array_equal(fill_outline(edges, (40, 40)), expected)
    # Closed: turned by any angle, and back pixel by pixel, it is the same.
    turned = fill_outline(_turned(edges) + np.array([40, 0, 40, 0]), (40, 40))
    assert np.count_nonzero(turned != np.rot90(expected, -1)) <= 1


@pytest.mark.parametrize("seed", range(5))
def test_polygons_agree_with_pycocotools(seed):
    rng = np.random.default_rng(seed)
    angles = np.sort(rng.uniform(0, 2 * np.pi, 12))
    polygon = 60 + rng.uniform(25, 50, (12, 1)) * np.stack([np.cos(angles), np.sin(angles)], -1)
    (rle,) = coco_mask.frPyObjects([polygon.ravel().tolist()], 120, 120)
    expected = coco_mask.decode(rle).astype(bool)
    own = fill_outline(polygon_outline([polygon]), (120, 120))
    # pycocotools rounds corners to a fifth of a pixel.
    assert np.count_nonzero(own != expected) < 0.01 * np.count_nonzero(expected)


def test_stacked_outlines_are_padded_with_zeros():
    edges = stack_outlines([np.ones((2, 4)), np.zeros((0, 4)), np.ones((1, 4))])
    assert edges.dtype == np.float32
    assert edges.shape == (3, 2, 4)
    np.testing.assert_array_equal(edges.any(-1), [[1, 1], [0, 0], [1, 0]])
    assert stack_outlines([]).shape == (0, 1, 4)


def test_outlines_are_bounded(monkeypatch):
    monkeypatch.setattr(outlines, "_MAX_CROSSED", 7)
    with pytest.raises(ValueError, match="more than 7 corners"):
        polygon_outline([_square(0, 0, 4), _square(1, 1, 4)])
    monkeypatch.setattr(outlines, "MAX_SEGMENTS", 5)
    with pytest.raises(ValueError, match="2 outlines of up to 3 segments"):
        stack_outlines([np.ones((3, 4)), np.ones((1, 4))])


def test_outlines_reach_past_the_image():
    edges = polygon_outline([_square(-3, -3, 5)])
    expected = np.zeros((4, 4), bool)
    expected[:2, :2] = True
    np.testing.assert_array_equal(fill_outline(edges, (4, 4)), expected)
