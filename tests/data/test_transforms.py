import colorsys
import functools
import json

import numpy as np
import pytest
import tensorflow as tf

from tfseg.data.transforms import TRANSFORMS, make_transforms
from tfseg.data.transforms.elastic import Elastic, cubic_matrix

#: a bright rectangle on black: rows 6..13, columns 10..29 of a 40x60 image
TOP, BOTTOM, LEFT, RIGHT = 6, 14, 10, 30


def _sample(points=True):
    image = np.zeros((40, 60, 3), np.uint8)
    image[TOP:BOTTOM, LEFT:RIGHT] = 255
    mask = (image[..., 0] > 0).astype(np.int32)
    sample = {"name": "s", "image": image, "mask": mask, "instances": mask * 7}
    sample["weights"] = 1 + mask.astype(np.float32)
    if points:
        sample["boxes"] = np.array([[LEFT, TOP, RIGHT, BOTTOM]], np.float32)
        sample["labels"] = np.array([1], np.int32)
        sample["keypoints"] = np.array([[[LEFT, TOP, 2], [RIGHT, TOP, 2]]], np.float32)
    return {k: tf.constant(v) for k, v in sample.items()}


@functools.cache
def _graph(spec, points):
    (transform,) = make_transforms([json.loads(spec)])
    return tf.function(lambda s: transform(_sample(points), s))


def _apply(spec, seed=0, points=True):
    out = _graph(json.dumps(spec), points)(tf.constant([seed, 5], tf.int64))
    return {k: v.numpy() for k, v in out.items()}


def _bounds(mask):
    ys, xs = np.nonzero(mask)
    return np.array([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1])


def _check_together(out, tolerance):
    """Image, mask, instances, box and keypoints still lie in one place."""
    mask = out["mask"] == 1
    bright = out["image"][..., 0] > 127
    assert (mask & bright).sum() / (mask | bright).sum() > 0.93
    np.testing.assert_array_equal(out["instances"] == 7, mask)
    np.testing.assert_allclose(out["boxes"][0], _bounds(mask), atol=tolerance)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize(
    ("spec", "tolerance"),
    [
        ({"flip": {"vertical": True}}, 0),
        ({"rotate90": {}}, 0),
        ({"scale": {"range": [0.7, 2.0], "aspect": [0.8, 1.25]}}, 1),
        ({"resize": {"size": [33, 71]}}, 1),
        ({"crop": {"size": [36, 54]}}, 0),
        ({"crop": {"size": [50, 70]}}, 0),
        ({"rotate": {"degrees": 10}}, 1.01),
    ],
)
def test_everything_moves_together(spec, tolerance, seed):
    _check_together(_apply(spec, seed), tolerance)


def test_flip_by_hand():
    out = _apply({"flip": {"probability": 1.0, "pairs": [[0, 1]]}})
    np.testing.assert_array_equal(out["image"], _sample()["image"].numpy()[:, ::-1])
    np.testing.assert_array_equal(out["boxes"], [[60 - RIGHT, TOP, 60 - LEFT, BOTTOM]])
    # the left point became the right one, and the pair's names change places with it
    np.testing.assert_array_equal(out["keypoints"][0], [[60 - RIGHT, TOP, 2], [60 - LEFT, TOP, 2]])


def test_flip_that_never_happens_changes_nothing():
    out = _apply({"flip": {"probability": 0.0, "vertical": True}})
    for key, value in _sample().items():
        np.testing.assert_array_equal(out[key], value.numpy())


def test_rotate90_reaches_all_four():
    corners = {tuple(_apply({"rotate90": {}}, seed)["boxes"][0]) for seed in range(20)}
    assert corners == {
        (LEFT, TOP, RIGHT, BOTTOM),
        (TOP, 60 - RIGHT, BOTTOM, 60 - LEFT),
        (60 - RIGHT, 40 - BOTTOM, 60 - LEFT, 40 - TOP),
        (40 - BOTTOM, LEFT, 40 - TOP, RIGHT),
    }


def test_crop_pads_with_fill_and_ignore_label():
    out = _apply({"crop": {"size": [50, 70], "fill": [1, 2, 3], "ignore_label": 9}})
    assert out["image"].shape == (50, 70, 3)
    np.testing.assert_array_equal(out["image"][45, 65], [1, 2, 3])
    assert out["mask"][45, 65] == 9
    assert out["weights"][45, 65] == 0
    assert out["instances"][45, 65] == 0
    assert out["image"][:40, :60].max() == 255


def test_crop_reaches_every_place():
    corners = {_apply({"crop": {"size": [38, 60]}}, seed)["boxes"][0][1] for seed in range(40)}
    assert corners == {TOP, TOP - 1, TOP - 2}


def test_what_leaves_the_image_is_dropped():
    for seed in range(40):
        out = _apply({"crop": {"size": [6, 6]}}, seed)
        inside = (out["mask"] == 1).any()
        assert len(out["boxes"]) == len(out["labels"]) == len(out["keypoints"]) == int(inside)
        for x, y, visibility in out["keypoints"].reshape(-1, 3):
            assert (visibility > 0) == (0 <= x < 6 and 0 <= y < 6)


def test_rotation_turns_the_right_way_and_fills():
    (transform,) = make_transforms([{"rotate": {"degrees": 10, "fill": [9.0], "ignore_label": 77}}])
    out = {k: v.numpy() for k, v in transform(_sample(), tf.constant([3, 4])).items()}
    assert out["image"][0, 0, 0] == pytest.approx(9)
    assert out["mask"][0, 0] == 77
    assert out["weights"][0, 0] == 0


def test_mirror_pad_by_hand():
    out = _apply({"mirror_pad": {"margin": 8}})
    expected = np.pad(_sample()["mask"].numpy(), 8, mode="reflect")
    np.testing.assert_array_equal(out["mask"], expected)
    np.testing.assert_array_equal(out["boxes"][0], [LEFT + 8, TOP + 8, RIGHT + 8, BOTTOM + 8])


def test_mirror_pad_beyond_the_image_size():
    out = _apply({"mirror_pad": {"margin": 97}})
    expected = np.pad(_sample()["mask"].numpy(), 97, mode="reflect")
    np.testing.assert_array_equal(out["mask"], expected)


def test_mirror_pad_up_to_a_size_labels_the_image_alone():
    """40 x 60 pixels become 46 x 66, and then 50 x 66: what 50 adds mirrors the margin again."""
    sample = {k: v.numpy() for k, v in _sample().items()}
    out = _apply({"mirror_pad": {"margin": 3, "size": [50, 10], "ignore_label": 77}})
    image = np.pad(sample["image"], ((3, 3), (3, 3), (0, 0)), mode="reflect")
    image = np.pad(image, ((0, 4), (0, 0), (0, 0)), mode="reflect")
    np.testing.assert_array_equal(out["image"], image)
    for key, void in (("mask", 77), ("weights", 0)):
        expected = np.full((50, 66), void, sample[key].dtype)
        expected[3:43, 3:63] = sample[key]
        np.testing.assert_array_equal(out[key], expected)


def test_crop_labels_cuts_labels_only():
    out = _apply({"crop_labels": {"margin": 4}}, points=False)
    assert out["image"].shape == (40, 60, 3)
    np.testing.assert_array_equal(out["mask"], _sample()["mask"].numpy()[4:-4, 4:-4])
    assert out["weights"].shape == (32, 52)
    with pytest.raises(ValueError, match="the samples have boxes"):
        _apply({"crop_labels": {"margin": 4}})


def test_crop_fraction_sizes_and_places():
    """Windows of 50 % to 100 % of 40 x 60 pixels, no wider than 45."""
    spec = {"crop_fraction": {"range": [0.5, 1.0], "max_size": [40, 45]}}
    heights, tops = set(), set()
    for seed in range(60):
        out = _apply(spec, seed)
        height, width = out["mask"].shape
        assert out["image"].shape == (height, width, 3)
        assert 20 <= height <= 40
        assert width == pytest.approx(min(1.5 * height, 45), abs=1)
        heights.add(height)
        if (out["mask"] == 1).any():
            np.testing.assert_array_equal(out["boxes"][0], _bounds(out["mask"] == 1))
            tops.add(out["boxes"][0][1])
    assert len(heights) > 12
    assert len(tops) > 3


def test_crop_after_crop_fraction_gives_one_size():
    transforms = make_transforms(
        [
            {"crop_fraction": {"range": [0.9, 1.0], "max_size": [30, 50]}},
            {"crop": {"size": [30, 50], "fill": [7], "ignore_label": 9}},
        ]
    )

    @tf.function
    def both(seed):
        sample = _sample()
        for transform in transforms:
            sample = transform(sample, seed)
        assert sample["image"].shape == (30, 50, 3)
        return sample

    # 40 x 60 pixels: 36..40 rows are cut to 30, 54..60 columns to 50; nothing is padded.
    assert 9 not in both(tf.constant([1, 2]))["mask"].numpy()


def test_crop_pads_what_crop_fraction_left_smaller():
    first, second = make_transforms(
        [
            {"crop_fraction": {"range": [0.5, 0.5], "max_size": [80, 80]}},
            {"crop": {"size": [80, 80], "ignore_label": 9}},
        ]
    )
    seed = tf.constant([1, 2])
    mask = second(first(_sample(), seed), seed)["mask"].numpy()
    assert mask.shape == (80, 80)
    assert 9 not in mask[:20, :30]
    assert (mask == 9).sum() == 80 * 80 - 20 * 30


def test_subsample_labels_by_hand():
    sample = {k: v for k, v in _sample(points=False).items() if k != "instances"}
    labels = tf.reshape(tf.range(40 * 60), (40, 60))
    sample |= {"mask": labels, "weights": tf.cast(labels, tf.float32)}
    (transform,) = make_transforms([{"subsample_labels": {"stride": 25}}])
    out = transform(sample, tf.constant([0, 0]))
    expected = [[0, 25, 50], [1500, 1525, 1550]]
    np.testing.assert_array_equal(out["mask"], expected)
    np.testing.assert_array_equal(out["weights"], expected)
    assert out["image"].shape == (40, 60, 3)
    with pytest.raises(ValueError, match="subsample_labels is for masks; the samples have boxes"):
        transform(_sample(), tf.constant([0, 0]))


@pytest.mark.parametrize("seed", range(4))
def test_elastic_moves_image_and_mask_by_one_field(seed):
    out = _apply({"elastic": {"sigma": 4.0}}, seed, points=False)
    mask, bright = out["mask"] == 1, out["image"][..., 0] > 127
    assert (mask & bright).sum() / (mask | bright).sum() > 0.95
    heavy = out["weights"] > 1.5
    assert (mask & heavy).sum() / (mask | heavy).sum() > 0.95
    assert not np.array_equal(mask, _sample()["mask"].numpy() == 1)


def test_elastic_field_has_the_asked_strength():
    """A ramp image shows the displacement; at the grid points it is gaussian of that sigma."""
    ramp = np.tile(np.arange(201, dtype=np.float32)[None, :, None], (201, 1, 1))
    (transform,) = make_transforms([{"elastic": {"sigma": 10.0}}])
    middle = tf.function(lambda s: transform({"image": tf.constant(ramp)}, s)["image"][100, 100, 0])
    found = [middle(tf.constant([s, 0])).numpy() for s in range(150)]
    assert np.mean(found) == pytest.approx(100, abs=3)
    assert np.std(found) == pytest.approx(10, rel=0.2)


def test_elastic_of_fusionnet():
    transform = Elastic(grid=8, uniform=8.0, interpolation="linear", fixed_border=True)
    seed = tf.constant([1, 2])
    points = transform.field((8, 8), seed).numpy()
    inner = points[:, 1:-1, 1:-1]
    assert 7 < np.abs(inner).max() <= 8
    assert inner.std() == pytest.approx(8 / np.sqrt(3), rel=0.2)
    assert np.count_nonzero(points) == inner.size
    # A cell is 8 x 12 pixels, its point in its middle; beyond the outermost points all is theirs.
    rows = (np.arange(64) + 0.5) / 8 - 0.5
    columns = (np.arange(96) + 0.5) / 12 - 0.5
    expected = np.apply_along_axis(lambda v: np.interp(rows, range(8), v), 1, points)
    expected = np.apply_along_axis(lambda v: np.interp(columns, range(8), v), 2, expected)
    np.testing.assert_allclose(transform.field((64, 96), seed), expected, atol=1e-4)


def test_cubic_matrix_interpolates():
    matrix = cubic_matrix(5, 3).numpy()
    np.testing.assert_allclose(matrix[[0, 2, 4]], np.eye(3), atol=1e-6)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)
    # Keys' kernel half-way: -1/16, 9/16, 9/16, -1/16, the outer one folded onto the end
    np.testing.assert_allclose(matrix[1], [8 / 16, 9 / 16, -1 / 16], atol=1e-6)


@pytest.mark.parametrize(
    "spec",
    [
        {"color_distortion": {"swap": 1.0}},
        {"blur": {"probability": 1.0}},
        {"noise": {"sigma": [20, 40]}},
        {"gray_value": {}},
    ],
)
def test_photometry_keeps_places_and_range(spec):
    before = _sample()
    for seed in range(5):
        out = _apply(spec, seed)
        assert out["image"].min() >= 0
        assert out["image"].max() <= 255
        for key in ("mask", "instances", "weights", "boxes", "keypoints"):
            np.testing.assert_array_equal(out[key], before[key].numpy())


def test_color_distortion_without_strength_changes_nothing():
    spec = {"brightness": 0, "contrast": [1, 1], "saturation": [1, 1], "hue": 0}
    rng = np.random.default_rng(0)
    image = tf.constant(rng.integers(0, 256, (8, 8, 3)).astype(np.uint8))
    (transform,) = make_transforms([{"color_distortion": spec}])
    out = transform({"image": image}, tf.constant([0, 0]))["image"].numpy()
    np.testing.assert_array_equal(out, image.numpy())


def _distorted(color, **options):
    """All that 60 draws of one colour_distortion make of a colour."""
    nothing = {"brightness": 0, "contrast": [1, 1], "saturation": [1, 1], "hue": 0}
    (transform,) = make_transforms([{"color_distortion": nothing | options}])
    image = tf.constant([[color]], tf.uint8)
    apply = tf.function(lambda seed: transform({"image": image}, seed)["image"][0, 0])
    return [tuple(apply(tf.constant([seed, 3])).numpy()) for seed in range(60)]


def test_color_distortion_rounds_and_saturates_every_step():
    # 200 * 1.5 and 100 * 1.5 in 8 bits, and the hue and saturation of what is left
    assert set(_distorted([200, 100, 41], contrast=[1.5, 1.5])) == {
        (200, 100, 41),
        (255, 150, 62),  # 61.5 to the even number
    }
    bright = _distorted([250, 100, 2], brightness=32)
    for red, green, blue in bright:
        shift = green - 100
        assert red == min(250 + shift, 255)
        assert blue == max(2 + shift, 0)
    assert {abs(g - 100) <= 32 for _, g, _ in bright} == {True}
    assert max(abs(g - 100) for _, g, _ in bright) > 25
    assert 20 <= sum(g == 100 for _, g, _ in bright) <= 40


def test_color_distortion_saturates_before_the_contrast():
    """Brightness first: where it clips, the contrast that follows starts from 255."""
    found = _distorted([250, 250, 250], brightness=32, contrast=[0.5, 0.5])
    assert max(max(color) for color in found if min(color) < 140) == 128  # 127.5 to even


def test_color_distortion_turns_hues_by_up_to_36_degrees():
    def hue(color):
        return 360 * colorsys.rgb_to_hsv(*(c / 255 for c in color))[0]

    (default,) = make_transforms([{"color_distortion": {}}])
    assert default.hue == 36
    green = [hue(c) for c in _distorted([0, 255, 0], hue=36)]
    assert min(green) < 90
    assert max(green) > 150
    assert all(84 <= h <= 156 for h in green)


def test_color_distortion_stops_at_red_from_above_only():
    """OpenCV's 8-bit hue saturates at 0 and passes 360 degrees."""
    red = set(_distorted([255, 0, 0], hue=36))
    assert (255, 0, 0) in red
    assert all(blue == 0 for _, _, blue in red)  # towards yellow, never towards magenta
    assert max(green for _, green, _ in red) > 100
    pink = _distorted([255, 0, 43], hue=36)  # 350 degrees: turns past red to yellow
    assert max(green for _, green, _ in pink) > 60


def test_blur_is_gaussian():
    import scipy.ndimage

    image = np.zeros((21, 21, 1), np.float32)
    image[10, 10] = 255
    (transform,) = make_transforms([{"blur": {"probability": 1.0, "sigma": [1.2, 1.2]}}])
    out = transform({"image": tf.constant(image)}, tf.constant([0, 0]))["image"].numpy()
    expected = scipy.ndimage.gaussian_filter(image[..., 0], 1.2, radius=4)
    np.testing.assert_allclose(out[..., 0], expected, atol=0.02)


def test_noise_that_is_not_clipped_is_gaussian():
    spec = {"noise": {"sigma": [25.5, 25.5], "clip": False}}
    image = _sample()["image"].numpy().astype(np.float32)
    noise = np.stack([_apply(spec, seed)["image"] - image for seed in range(5)])
    assert noise.mean() == pytest.approx(0, abs=0.5)
    assert noise.std() == pytest.approx(25.5, rel=0.02)


def test_gray_value_by_hand():
    spec = {"gray_value": {"contrast": [1.5, 1.5], "brightness": 0.0}}
    image = tf.constant([[[100.0], [120.0]]])
    (transform,) = make_transforms([spec])
    out = transform({"image": image}, tf.constant([0, 0]))["image"].numpy()
    np.testing.assert_allclose(out[0, :, 0], [95, 125])


#: transforms without chance
FIXED = {"crop_labels", "mirror_pad", "resize", "subsample_labels"}


@pytest.mark.parametrize("name", sorted(set(TRANSFORMS) - FIXED))
def test_the_seed_alone_decides(name):
    needed = {
        "crop": {"size": [20, 20]},
        "crop_fraction": {"range": [0.5, 1.0], "max_size": [80, 80]},
        "resize_short_side": {"sizes": [20, 30, 50]},
    }
    options = needed.get(name, {})
    outs = [_apply({name: options}, seed, points=False) for seed in (1, 1, *range(2, 8))]
    for key in outs[0]:
        np.testing.assert_array_equal(outs[0][key], outs[1][key])
    images = [out["image"] for out in outs[1:]]
    same = [a.shape == images[0].shape and np.array_equal(a, images[0]) for a in images]
    assert not all(same)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"flp": {}}, "unknown transform 'flp'; did you mean 'flip'"),
        ({"flip": {"vertcal": True}}, "no option 'vertcal'; did you mean 'vertical'"),
        ({"crop": {}}, "crop size: Field required"),
        ({"crop": {"size": [0, 3]}}, "size must be .height, width. in pixels"),
        ({"crop": {"size": "big"}}, "crop size"),
        ({"scale": {"range": [2, 0.5]}}, "range must be .low, high."),
        ({"flip": {"probability": 2}}, "probability must lie in 0..1"),
        ({"mirror_pad": {"margin": 0}}, "margin must be positive"),
        ({"mirror_pad": {"margin": 1, "size": [0, 9]}}, "size must be .height, width. in pixels"),
        ({"crop_fraction": {"range": [0.9, 1.1], "max_size": [8, 8]}}, "range must not exceed 1"),
        ({"crop_fraction": {"range": [0.9, 1.0]}}, "crop_fraction max_size: Field required"),
        ({"subsample_labels": {"stride": 1}}, "stride must be at least 2"),
        ({"elastic": {"grid": 1}}, "grid 1 must be 2 or more"),
        ({"resize_short_side": {"sizes": []}}, "must be lengths in pixels"),
        ({"resize_short_side": {"sizes": [800], "max_size": 0}}, "must be lengths in pixels"),
        ({"elastic": {"uniform": 0}}, "uniform must be positive, not 0"),
    ],
)
def test_mistakes_are_named(spec, message):
    with pytest.raises(ValueError, match=message) as caught:
        make_transforms([{"rotate90": {}}, spec])
    assert "data.transforms.1" in str(caught.value)


def test_color_distortion_refuses_gray():
    with pytest.raises(ValueError, match="use gray_value"):
        make_transforms([{"color_distortion": {}}])[0](
            {"image": tf.zeros((4, 4, 1))}, tf.constant([0, 0])
        )
