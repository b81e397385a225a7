"""Boxes, outlines, crowds and areas under the transforms, against masks moved pixel by pixel."""

import functools
import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfseg.data.outlines import fill_outline, mask_outline, polygon_outline, stack_outlines
from tfseg.data.regions import region_of
from tfseg.data.transforms import make_transforms
from tfseg.data.transforms.bounds import tighten_boxes

HEIGHT, WIDTH = 40, 60


def _sample():
    """Three objects: a ring in two pieces, a blob at the border, and a crowd without outline."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    distance = np.hypot(x - 20, y - 18)
    ring = ((distance < 12) & (distance > 6)) | ((x > 50) & (x < 55) & (y > 30) & (y < 36))
    blob = np.hypot(x - 59, y - 5) < 9
    instances = np.where(ring, 1, np.where(blob, 2, 0)).astype(np.int32)
    outlines = [mask_outline(region_of(instances == n)) for n in (1, 2)]
    boxes = [_bounds(instances == n) for n in (1, 2)]
    sample = {
        "name": "s",
        "image": np.repeat((instances * 100).astype(np.uint8)[..., None], 3, -1),
        "instances": instances,
        "boxes": np.array([*boxes, [2, 30, 12, 38]], np.float32),
        "labels": np.array([4, 5, 6], np.int32),
        "crowd": np.array([False, False, True]),
        "edges": stack_outlines([*outlines, np.zeros((0, 4))]),
        "area": np.array([ring.sum(), blob.sum(), 80], np.float32),
        "ids": np.array([11, 12, 13], np.int64),
    }
    return {key: tf.constant(value) for key, value in sample.items()}


def _bounds(mask):
    ys, xs = np.nonzero(mask)
    return [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]


@functools.cache
def _graph(spec):
    (transform,) = make_transforms([json.loads(spec)])
    return tf.function(lambda seed: transform(_sample(), seed))


def _apply(spec, seed=0):
    out = _graph(json.dumps(spec))(tf.constant([seed, 5], tf.int64))
    return {key: value.numpy() for key, value in out.items()}


def _mask(out, number):
    """The mask of the object of an annotation id, filled from its outline."""
    (place,) = np.flatnonzero(out["ids"] == number)
    return fill_outline(out["edges"][place], out["image"].shape[:2])


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "spec",
    [
        {"flip": {"probability": 1.0, "vertical": True}},
        {"rotate90": {}},
        {"crop": {"size": [36, 70]}},
        {"crop": {"size": [12, 20]}},
        {"crop_fraction": {"range": [0.3, 0.9], "max_size": [30, 40]}},
        {"resize": {"size": [120, 180]}},
        {"resize_short_side": {"sizes": [80, 120]}},
    ],
)
def test_filled_outlines_are_the_moved_masks(spec, seed):
    out = _apply(spec, seed)
    for number in (11, 12):
        expected = out["instances"] == number - 10
        if number in out["ids"]:
            np.testing.assert_array_equal(_mask(out, number), expected)
        else:
            assert not expected.any()


@pytest.mark.parametrize("seed", range(4))
def test_outlines_turn_with_the_image(seed):
    """By any angle, up to what nearest neighbours lose at borders."""
    out = _apply({"rotate": {"degrees": 30}}, seed)
    for number in (11, 12):
        assert np.count_nonzero(_mask(out, number) != (out["instances"] == number - 10)) <= 8


@pytest.mark.parametrize("seed", range(4))
def test_boxes_hold_their_masks(seed):
    for spec in ({"rotate": {"degrees": 20}}, {"scale": {"range": [0.5, 2.0]}}, {"rotate90": {}}):
        out = _apply(spec, seed)
        for place, number in enumerate(out["ids"][:2]):
            x1, y1, x2, y2 = _bounds(_mask(out, number))
            low, high = out["boxes"][place, :2], out["boxes"][place, 2:]
            assert (low <= [x1 + 1, y1 + 1]).all()
            assert (high >= [x2 - 1, y2 - 1]).all()


def test_flip_by_hand():
    """x goes to W - x, for boxes and for the ends of segments."""
    out, old = _apply({"flip": {"probability": 1.0}}), _sample()
    x1, y1, x2, y2 = old["boxes"].numpy().T
    np.testing.assert_array_equal(out["boxes"], np.stack([WIDTH - x2, y1, WIDTH - x1, y2], -1))
    edges = old["edges"].numpy()
    np.testing.assert_array_equal(out["edges"][..., 0], WIDTH - edges[..., 0])
    np.testing.assert_array_equal(out["edges"][..., 1], edges[..., 1])
    for key in ("labels", "crowd", "area", "ids"):
        np.testing.assert_array_equal(out[key], old[key].numpy())


def test_what_belongs_to_a_box_leaves_with_it():
    rows = ("labels", "crowd", "edges", "area", "ids")
    seen = set()
    for seed in range(30):
        out = _apply({"crop": {"size": [10, 10]}}, seed)
        assert {len(out[key]) for key in rows} == {len(out["boxes"])}
        np.testing.assert_array_equal(out["labels"], out["ids"] - 7)
        np.testing.assert_array_equal(out["crowd"], out["ids"] == 13)
        seen.update(out["ids"].tolist())
    assert seen == {11, 12, 13}


@pytest.mark.parametrize("size", [[9, 11], [20, 31], [36, 58]])
def test_cropped_boxes_are_tight_around_what_is_left(size):
    """Also where a ring is cut into pieces, or its hole alone is left."""
    for seed in range(25):
        out = _apply({"crop": {"size": size}}, seed)
        for number in (11, 12):
            mask = out["instances"] == number - 10
            assert (number in out["ids"]) == mask.any()
            if mask.any():
                (place,) = np.flatnonzero(out["ids"] == number)
                np.testing.assert_array_equal(out["boxes"][place], _bounds(mask))


def test_a_window_inside_an_object_is_its_box():
    sample = _sample()
    sample["edges"] = tf.constant(
        stack_outlines([mask_outline(region_of(np.ones((HEIGHT, WIDTH), bool)))] * 3)
    )
    (transform,) = make_transforms([{"crop": {"size": [4, 5]}}])
    for seed in range(60):
        out = transform(sample, tf.constant([seed, 0]))
        for box, crowd in zip(out["boxes"].numpy(), out["crowd"].numpy(), strict=True):
            assert crowd or box.tolist() == [0, 0, 5, 4]


@pytest.mark.parametrize("seed", range(3))
def test_cropped_boxes_of_polygons(seed):
    """Corners anywhere: against masks of a hundred times as many pixels."""
    rng = np.random.default_rng(seed)
    polygons = [rng.uniform(-10, 40, (5, 2)).astype(np.float32) for _ in range(12)]
    sample = {
        "boxes": tf.constant([[0.0, 0.0, 30.0, 20.0]] * 12),
        "edges": tf.constant(stack_outlines([polygon_outline([p]) for p in polygons])),
        "crowd": tf.zeros(12, tf.bool),
        "ids": tf.range(12),
    }
    out = tighten_boxes(sample, (20, 30))
    boxes = dict(zip(out["ids"].numpy().tolist(), out["boxes"].numpy(), strict=True))
    for place, polygon in enumerate(polygons):
        mask = fill_outline(polygon_outline([polygon * 10]), (200, 300))
        assert (place in boxes) == mask.any()
        if mask.any():
            np.testing.assert_allclose(boxes[place], np.array(_bounds(mask)) / 10, atol=0.5)


def test_areas_grow_with_the_image():
    out = _apply({"resize": {"size": [HEIGHT * 2, WIDTH * 3]}})
    np.testing.assert_allclose(out["area"], _sample()["area"].numpy() * 6, rtol=1e-6)


def test_mirror_pad_moves_outlines():
    out = _apply({"mirror_pad": {"margin": 5}})
    expected = np.pad(_sample()["instances"].numpy() == 1, 5)
    np.testing.assert_array_equal(_mask(out, 11), expected)


@pytest.mark.parametrize(
    ("sizes", "expected"),
    [
        ([20], (20, 30)),
        ([100], (100, 150)),
        ([50], (50, 75)),
        ([33], (33, 50)),  # 49.5 is rounded up
        ([1000], (889, 1333)),  # 888.67 x 1333: the long side is at its most
    ],
)
def test_resize_short_side(sizes, expected):
    out = _apply({"resize_short_side": {"sizes": sizes}})
    assert out["image"].shape == (*expected, 3)
    factors = np.array([expected[1] / WIDTH, expected[0] / HEIGHT] * 2)
    np.testing.assert_allclose(out["boxes"], _sample()["boxes"].numpy() * factors, rtol=1e-5)


def test_resize_short_side_draws_every_size():
    spec = {"resize_short_side": {"sizes": [20, 30, 40], "max_size": 100}}
    assert {_apply(spec, seed)["image"].shape[0] for seed in range(20)} == {20, 30, 40}


@pytest.mark.parametrize("size", [17, 97])
def test_resize_short_side_interpolates_as_pillow_does(size):
    image = np.random.default_rng(0).integers(0, 256, (HEIGHT, WIDTH, 3)).astype(np.uint8)
    (transform,) = make_transforms([{"resize_short_side": {"sizes": [size]}}])
    out = transform({"image": tf.constant(image)}, tf.constant([0, 0]))["image"].numpy()
    height, width = out.shape[:2]
    expected = np.array(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))
    assert np.abs(out - expected).max() < 1.01  # Pillow rounds after either direction


@pytest.mark.parametrize("spec", [{"elastic": {}}, {"crop_labels": {"margin": 1}}])
def test_transforms_of_masks_alone_refuse_objects(spec):
    with pytest.raises(ValueError, match="the samples have boxes"):
        _apply(spec)
