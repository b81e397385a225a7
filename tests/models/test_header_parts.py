"""Parts of Megvii's header: regions from all levels, the location-sensitive head, more masks."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfseg
from tfseg.models.rcnn.box_heads import box_predictor, fully_connected, location_sensitive
from tfseg.ops.roi import pool_regions

STRIDES = (4, 8, 16, 32)
BOXES = np.array([[(3, 5, 40, 60), (0, 0, 96, 64), (20, 30, 26, 33)]], np.float32)
#: a 3x3 convolution of 256 channels
CONV = (9 * 256 + 1) * 256


def _without_weights(name, **options):
    with keras.StatelessScope(initialize_variables=False):
        return tfseg.build(name, **options)


def _size(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def _count(name, **options):
    return _size(_without_weights(name, **options).trainable_variables)


def _pyramid():
    random = np.random.default_rng(0)
    return {
        f"p{level}": random.normal(size=(1, 64 // stride, 96 // stride, 3)).astype("float32")
        for level, stride in enumerate((*STRIDES, 64), 2)
    }


@pytest.mark.parametrize(("fusion", "fuse"), [("max", np.max), ("sum", np.sum)])
@pytest.mark.parametrize("size", [7, 14])
def test_regions_of_all_levels(fusion, fuse, size):
    model = _without_weights("mask_rcnn_mobilenet_v2_fpn", roi_fusion=fusion)
    features = _pyramid()
    found = model.pooled(features, BOXES, size)
    each = [
        np.asarray(pool_regions([features[f"p{n}"]], [stride], BOXES, np.zeros((1, 3), int), size))
        for n, stride in enumerate(STRIDES, 2)
    ]
    assert found.shape == (3, size, size, 3)
    np.testing.assert_allclose(found, fuse(each, axis=0)[0], atol=1e-5)


@pytest.mark.parametrize(
    ("fusion", "expected"), [("none", [2, 5, 1]), ("max", [5] * 3), ("sum", [7] * 3)]
)
def test_regions_of_flat_levels(fusion, expected):
    """By itself the first box is read from p2, the second from p3 and the third from p5."""
    model = _without_weights("mask_rcnn_mobilenet_v2_fpn", roi_fusion=fusion)
    features = {
        f"p{level}": np.full((1, 512 >> level, 512 >> level, 1), value, np.float32)
        for level, value in ((2, 2), (3, 5), (4, -1), (5, 1), (6, 100))
    }
    boxes = np.array([[(0, 0, 60, 60), (8, 8, 128, 128), (0, 0, 512, 512)]], np.float32)
    found = np.asarray(model.pooled(features, boxes, 7))[..., 0]
    np.testing.assert_allclose(found, np.tile(np.reshape(expected, (3, 1, 1)), (7, 7)), atol=1e-5)


def test_options_are_checked():
    for option in ({"roi_fusion": "mean"}, {"box_head": "conv"}):
        with pytest.raises(ValueError, match="must be one of"):
            _without_weights("faster_rcnn_mobilenet_v2_fpn", **option)
    with pytest.raises(ValueError, match="must not be negative: -1"):
        _without_weights("mask_rcnn_mobilenet_v2_fpn", mask_convolutions=-1)


def test_parameters_of_the_location_sensitive_head():
    """The class tower is the plain head; the box's has four convolutions and larger offsets."""
    plain = _count("faster_rcnn_mobilenet_v2_fpn")
    more = 4 * CONV + (7 * 7 * 256 - 1_024) * 4 * 80
    assert _count("faster_rcnn_mobilenet_v2_fpn", box_head="location_sensitive") == plain + more
    more = 3 * (4 * CONV + (7 * 7 * 256 - 1_024) * 4)
    plain = _count("cascade_rcnn_mobilenet_v2_fpn")
    assert _count("cascade_rcnn_mobilenet_v2_fpn", box_head="location_sensitive") == plain + more


def test_its_regions_have_twice_the_bins():
    model = _without_weights("cascade_rcnn_mobilenet_v2_fpn", box_head="location_sensitive")
    assert (model.layout.box_size, model.layout.mask_size) == (14, 14)
    names = {layer.name for layer in model.layers}
    assert {f"roi_heads.box_head.2.{part}" for part in ("fc1", "conv1", "conv4")} <= names
    assert _without_weights("faster_rcnn_mobilenet_v2_fpn").layout.box_size == 7


@pytest.fixture(scope="module")
def regions():
    return np.random.default_rng(1).normal(size=(2, 14, 14, 4)).astype("float32")


def test_the_class_is_judged_as_by_the_plain_head(regions):
    keras.utils.set_random_seed(0)
    both, plain = location_sensitive(14, 4, "head"), fully_connected(7, 4, "head")
    for name in ("head.fc1", "head.fc2"):
        plain.get_layer(name).set_weights(both.get_layer(name).get_weights())
    of_class, of_box = both(regions)
    assert (of_class.shape, of_box.shape) == ((2, 1_024), (2, 49 * 256))
    means = regions.reshape(2, 7, 2, 7, 2, 4).mean((2, 4))
    np.testing.assert_allclose(of_class, plain(means), atol=1e-5)


def test_the_box_is_found_by_convolutions_that_keep_its_place(regions):
    """A change in the lower right corner reaches four cells around, and no vector beyond."""
    keras.utils.set_random_seed(0)
    head = location_sensitive(14, 4, "head")
    changed = regions.copy()
    changed[:, 13, 13] += 1
    difference = np.abs(np.asarray(head(changed)[1]) - np.asarray(head(regions)[1]))
    cells = difference.reshape(2, 7, 7, 256).max((0, 3)) > 0
    assert cells[4:, 4:].all()
    assert not cells[:4].any()
    assert not cells[:, :4].any()


def test_towers_are_independent(regions):
    keras.utils.set_random_seed(0)
    head = location_sensitive(14, 4, "head")
    predictor = box_predictor(head.output, 3, 2, "predictor")
    variables = {v.path: v.value for v in (*head.weights, *predictor.weights)}
    with tf.GradientTape(persistent=True) as tape:
        logits, deltas = predictor(head(regions))
        value = {"class": tf.reduce_sum(logits**2), "box": tf.reduce_sum(deltas**2)}
    assert (logits.shape, deltas.shape) == ((2, 3), (2, 8))
    learns = {
        name: {path for path, g in tape.gradient(v, variables).items() if g is not None}
        for name, v in value.items()
    }
    assert learns["class"].isdisjoint(learns["box"])
    assert learns["class"] | learns["box"] == set(variables)
    parts = {name: {path.split("/")[0] for path in paths} for name, paths in learns.items()}
    assert parts["class"] == {"head.fc1", "head.fc2", "predictor.cls_score"}
    assert parts["box"] == {*(f"head.conv{n}" for n in range(1, 5)), "predictor.bbox_pred"}


@pytest.mark.parametrize("number", [0, 4, 8])
def test_convolutions_of_the_mask_head(number):
    name = "mask_rcnn_mobilenet_v2_fpn"
    model = _without_weights(name, mask_convolutions=number)
    found = [layer.name for layer in model.layers if ".mask_fcn" in layer.name and layer.weights]
    assert found == [f"roi_heads.mask_head.mask_fcn{n + 1}" for n in range(number)]
    assert _size(model.trainable_variables) == _count(name) + (number - 4) * CONV
