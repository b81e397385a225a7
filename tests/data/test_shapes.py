"""The procedural pictures: their labels agree with each other and with what is drawn."""

import numpy as np
import pytest

from tfseg.data import open_reader, shapes


@pytest.fixture(scope="module")
def samples():
    # Not square, so that a swap of height and width cannot pass.
    return list(open_reader("shapes", count=60, size=[64, 96], seed=3))


def test_a_sample_is_a_function_of_seed_and_index(samples):
    again = open_reader("shapes", count=7, size=[64, 96], seed=3)
    other = open_reader("shapes", count=7, size=[64, 96], seed=4)
    for index in (6, 0, 5):
        first, second = samples[index], again[index]
        assert set(first) == set(second) == set(again.keys())
        assert first["name"] == second["name"] == f"shapes_3_{index:06d}"
        for key in again.keys()[1:]:
            np.testing.assert_array_equal(first[key], second[key])
        assert np.any(first["image"] != other[index]["image"])
    assert len({sample["image"].tobytes() for sample in samples}) == 60


def test_types_and_shapes(samples):
    for sample in samples:
        count = len(sample["labels"])
        assert count >= 1
        for key, dtype, shape in (
            ("image", np.uint8, (64, 96, 3)),
            ("mask", np.int32, (64, 96)),
            ("instances", np.int32, (64, 96)),
            ("labels", np.int32, (count,)),
            ("boxes", np.float32, (count, 4)),
            ("keypoints", np.float32, (count, 4, 3)),
        ):
            assert (sample[key].dtype, sample[key].shape) == (dtype, shape)


def test_instances_agree_with_mask_and_labels(samples):
    for sample in samples:
        ids = np.unique(sample["instances"])
        np.testing.assert_array_equal(ids[ids > 0], np.arange(1, len(sample["labels"]) + 1))
        by_instance = np.concatenate([[0], sample["labels"]])
        np.testing.assert_array_equal(sample["mask"], by_instance[sample["instances"]])
    assert {label for sample in samples for label in sample["labels"]} == {1, 2, 3, 4}


def test_boxes_are_tight_about_the_visible_pixels(samples):
    for sample in samples:
        for i, (x1, y1, x2, y2) in enumerate(sample["boxes"].astype(int)):
            mine = sample["instances"] == i + 1
            inner = mine[y1:y2, x1:x2]
            assert inner.sum() == mine.sum()
            assert inner[0].any()
            assert inner[-1].any()
            assert inner[:, 0].any()
            assert inner[:, -1].any()


def test_keypoint_visibility(samples):
    seen = set()
    for sample in samples:
        for i, points in enumerate(sample["keypoints"]):
            x1, y1, x2, y2 = sample["boxes"][i]
            for x, y, visibility in points:
                seen.add(visibility)
                if visibility == 0:
                    assert (x, y) == (0, 0)
                    continue
                at = sample["instances"][int(y), int(x)]
                if visibility == 2:
                    assert at == i + 1
                    assert x1 < x < x2
                    assert y1 < y < y2
                else:  # what hides it was drawn later
                    assert at > i + 1
    assert seen == {0, 1, 2}


def test_keypoints_of_an_unhidden_shape_touch_its_box(samples):
    # A circle's top, right, bottom and left are where its box is.
    checked = 0
    for sample in samples:
        for i, points in enumerate(sample["keypoints"]):
            if sample["labels"][i] != 1 or not np.all(points[:, 2] == 2):
                continue
            x1, y1, x2, y2 = sample["boxes"][i]
            found = points[0, 1], points[1, 0], points[2, 1], points[3, 0]
            np.testing.assert_allclose(found, [y1, x2, y2, x1], atol=1.5)
            checked += 1
    assert checked > 3


def test_pictures_show_what_the_labels_say(samples):
    # The image's edges are at the instances' outlines: the jump of brightness across an outline
    # is larger than between neighbours of the smooth background.
    across, within = [], []
    for sample in samples:
        step = np.abs(np.diff(sample["image"].astype(int), axis=1)).sum(-1)
        left, right = sample["instances"][:, :-1], sample["instances"][:, 1:]
        across.append(step[left != right])
        within.append(step[(left == 0) & (right == 0)])
    assert np.median(np.concatenate(across)) > 2 * np.median(np.concatenate(within))


@pytest.mark.parametrize("shape", shapes.SHAPES, ids=lambda shape: shape.name)
def test_keypoints_are_on_the_outline(shape):
    u, v = np.array(shape.keypoints).T
    np.testing.assert_allclose(shape.distance(u, v), 0, atol=1e-12)
    assert shape.distance(np.zeros(1), np.zeros(1)) < 0


@pytest.mark.parametrize(
    ("name", "area"),
    # Of radius 1: pi, two triangles of base 2, half of 2 x 1.8, two bars less their overlap.
    [("circle", np.pi), ("diamond", 2), ("triangle", 1.8), ("cross", 2 * 2 * 0.72 - 0.72**2)],
)
def test_area(name, area):
    shape = next(s for s in shapes.SHAPES if s.name == name)
    axis = np.arange(-1.5, 1.5, 0.005) + 0.0025
    inside = shape.distance(axis[None, :], axis[:, None]) < 0
    assert inside.sum() * 0.005**2 == pytest.approx(area, rel=5e-3)


def test_shapes_are_never_hidden_beyond_recognition():
    class Crowded:
        """A generator that always asks for the largest number of shapes."""

        def __init__(self, seed):
            self.rng = np.random.default_rng(seed)

        def __getattr__(self, name):
            return getattr(self.rng, name)

        def integers(self, low, high=None):
            return 40 if high == 7 else self.rng.integers(low, high)

    for seed in range(5):
        drawn = shapes.draw(Crowded(seed), 64, 64)
        count = len(drawn["labels"])
        assert count > 6
        visible = np.bincount(drawn["instances"].ravel(), minlength=count + 1)[1:]
        assert visible.min() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"size": 31}, "at least 32 pixels, is 31"),
        ({"size": [64, 16]}, r"at least 32 pixels, is \(64, 16\)"),
        ({"count": 0}, "count must be positive"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_options(options, message):
    with pytest.raises(ValueError, match=message):
        open_reader("shapes", **options)


def test_index_past_the_end():
    reader = open_reader("shapes", count=2, size=32)
    assert reader[0]["image"].shape == (32, 32, 3)
    assert len(list(reader)) == len(reader) == 2
    with pytest.raises(IndexError):
        reader[2]
