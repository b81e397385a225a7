"""Features of regions, by hand and beside loops over the released rules."""

import math

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from tfseg.ops.roi import pool_regions, pyramid_levels
from tfseg.ops.roi_table import WINDOW

RAMP = np.arange(25, dtype="float32").reshape(1, 5, 5, 1)
STRIDES = (4, 8)


def _of_ramp(box, size, **options):
    boxes = np.array([[box]], "float32")
    found = pool_regions([RAMP], [1], boxes, np.zeros((1, 1), "int32"), size, **options)
    return ops.convert_to_numpy(found)[0, 0, ..., 0]


def _sample(features, y, x):
    """bilinear_interpolate of Detectron's and torchvision's roi_align_kernel.cpp."""
    height, width = features.shape[:2]
    if y < -1 or y > height or x < -1 or x > width:
        return np.zeros(features.shape[2])
    y, x = max(y, 0.0), max(x, 0.0)
    low_y, low_x = int(y), int(x)
    high_y, high_x = low_y + 1, low_x + 1
    if low_y >= height - 1:
        low_y = high_y = height - 1
        y = float(low_y)
    if low_x >= width - 1:
        low_x = high_x = width - 1
        x = float(low_x)
    ly, lx = y - low_y, x - low_x
    upper = (1 - lx) * features[low_y, low_x] + lx * features[low_y, high_x]
    lower = (1 - lx) * features[high_y, low_x] + lx * features[high_y, high_x]
    return (1 - ly) * upper + ly * lower


def _samples(features, box, scale, size, ratio, aligned):
    """The samples of each bin, [[(n, C)]], as ROIAlign takes them."""
    shift = 0.5 if aligned else 0.0
    x1, y1, x2, y2 = (float(v) * scale - shift for v in box)
    width, height = x2 - x1, y2 - y1
    if not aligned:
        width, height = max(width, 1.0), max(height, 1.0)
    step_y, step_x = height / size, width / size
    down, across = ratio or math.ceil(step_y), ratio or math.ceil(step_x)
    return [
        [
            np.array(
                [
                    _sample(
                        features,
                        y1 + step_y * (row + (i + 0.5) / down),
                        x1 + step_x * (column + (j + 0.5) / across),
                    )
                    for i in range(down)
                    for j in range(across)
                ]
            ).reshape(-1, features.shape[2])
            for column in range(size)
        ]
        for row in range(size)
    ]


def _roi_align(features, box, scale, size, ratio, aligned, reduce="average"):
    bins = _samples(features, box, scale, size, ratio, aligned)
    if reduce == "max":
        return np.array([[samples.max(0) for samples in row] for row in bins])
    return np.array([[samples.sum(0) / max(len(samples), 1) for samples in row] for row in bins])


def _rounded(value):
    """C's round."""
    return math.floor(value + 0.5)


def _roi_pool(features, box, scale, size):
    """ROIPoolForward of Fast R-CNN's roi_pooling_layer.cpp, in whole numbers."""
    height, width, channels = features.shape
    x1, y1, x2, y2 = (_rounded(float(v) * scale) for v in box)
    roi_height, roi_width = max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1)
    found = np.zeros((size, size, channels))
    for row in range(size):
        for column in range(size):
            top = min(max(row * roi_height // size + y1, 0), height)
            bottom = min(max(math.ceil((row + 1) * roi_height / size) + y1, 0), height)
            left = min(max(column * roi_width // size + x1, 0), width)
            right = min(max(math.ceil((column + 1) * roi_width / size) + x1, 0), width)
            if bottom > top and right > left:
                found[row, column] = features[top:bottom, left:right].max((0, 1))
    return found


def _boxes(random, count, height, width):
    """Boxes of all kinds in an image of that size, and over its borders."""
    corners = random.uniform(-0.2, 1.2, (count, 2, 2)) * [width, height]
    boxes = np.concatenate([corners.min(1), corners.max(1)], axis=1)
    boxes[0] = 0, 0, width, height
    boxes[1] = 5, 5, 5.2, 5.3
    boxes[2] = 0, 10, width, 14
    boxes[3] = width - 3, height - 2, width, height
    boxes[4] = width + 40, 3, width + 90, 30  # nothing of it lies on the map
    boxes[5] = -50, -30, width + 70, height + 20
    boxes[6] = 16, 8, 16, 40
    return boxes.astype("float32")


def _pyramid(seed=0, dtype="float32"):
    """Two images' maps of 37 x 53 and 19 x 27 cells, boxes and their levels."""
    random = np.random.default_rng(seed)
    features = [random.normal(size=(2, h, w, 3)).astype(dtype) for h, w in ((37, 53), (19, 27))]
    boxes = np.stack([_boxes(random, 14, 148, 212) for _ in range(2)])
    levels = random.integers(0, 2, (2, 14)).astype("int32")
    return features, boxes, levels


def _by_loops(features, boxes, levels, rule):
    return np.array(
        [
            [
                rule(features[level][image].astype("float64"), box, 1 / STRIDES[level])
                for box, level in zip(boxes[image], levels[image], strict=True)
            ]
            for image in range(len(boxes))
        ]
    )


def test_the_ramp_by_hand():
    """One sample a bin of half a cell: from 1.25 on without, from 0.75 on with half a cell off."""
    rows = np.arange(4) * 2.5
    columns = np.arange(4) * 0.5
    plain = _of_ramp([1, 1, 3, 3], 4, aligned=False)
    np.testing.assert_allclose(plain, 7.5 + rows[:, None] + columns, rtol=1e-6)
    aligned = _of_ramp([1, 1, 3, 3], 4)
    np.testing.assert_allclose(aligned, 4.5 + rows[:, None] + columns, rtol=1e-6)
    assert (aligned[0, 0], aligned[-1, -1]) == (4.5, 13.5)


def test_maxima_by_hand():
    """A bin of one cell, from 0.5 to 1.5: samples at 0.75 and 1.25."""
    average = _of_ramp([1, 1, 3, 3], 2, sampling_ratio=2)
    np.testing.assert_allclose(average, [[6, 7], [11, 12]], rtol=1e-6)
    largest = _of_ramp([1, 1, 3, 3], 2, sampling_ratio=2, reduce="max")
    np.testing.assert_allclose(largest, [[7.5, 8.5], [12.5, 13.5]], rtol=1e-6)


def test_pool_and_warp_by_hand():
    """0.6 1.4 3.4 2.6 covers the columns 1 to 3 and the rows 1 to 3."""
    box = [0.6, 1.4, 3.4, 2.6]
    # three cells in two bins: cells 1 and 2, and cells 2 and 3
    assert _of_ramp(box, 2, op="pool").tolist() == [[12, 13], [17, 18]]
    assert _of_ramp(box, 3, op="pool").tolist() == [[6, 7, 8], [11, 12, 13], [16, 17, 18]]
    warped = _of_ramp(box, 3, op="warp", sampling_ratio=1)
    np.testing.assert_allclose(warped, [[6, 7, 8], [11, 12, 13], [16, 17, 18]], rtol=1e-6)
    # beyond the map: cells 4 and 5, where there is no 5
    assert _of_ramp([4, 4, 5, 5], 2, op="pool").tolist() == [[24, 0], [0, 0]]
    warped = _of_ramp([4, 4, 5, 5], 2, op="warp", sampling_ratio=1)
    # samples at 3.75 and, moved onto the map, at 4
    np.testing.assert_allclose(warped, [[22.5, 22.75], [23.75, 24]], rtol=1e-6)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 1, 2, 3])
def test_align_is_detectrons_rule(ratio, aligned):
    features, boxes, levels = _pyramid(ratio)
    found = pool_regions(features, STRIDES, boxes, levels, 5, sampling_ratio=ratio, aligned=aligned)
    expected = _by_loops(
        features, boxes, levels, lambda f, b, scale: _roi_align(f, b, scale, 5, ratio, aligned)
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert (ops.convert_to_numpy(found)[:, 4] == 0).all()


def test_the_maximum_of_samples():
    features, boxes, levels = _pyramid(4)
    found = pool_regions(features, STRIDES, boxes, levels, 4, sampling_ratio=2, reduce="max")
    expected = _by_loops(
        features, boxes, levels, lambda f, b, scale: _roi_align(f, b, scale, 4, 2, True, "max")
    )
    np.testing.assert_allclose(found, expected, atol=1e-4)


def test_pool_is_fast_rcnns_rule():
    features, boxes, levels = _pyramid(5)
    found = pool_regions(features, STRIDES, boxes, levels, 5, op="pool")
    expected = _by_loops(
        features, boxes, levels, lambda f, b, scale: _roi_pool(f, b, scale, 5)
    ).astype("float32")
    np.testing.assert_array_equal(found, expected)
    # with empty bins, and regions of nothing else
    assert ((expected == 0).all(-1).any((2, 3)) & (expected != 0).any((2, 3, 4))).any()
    assert (expected[:, 4] == 0).all()


def test_warp_samples_whole_cells():
    features, boxes, levels = _pyramid(6)

    def rule(features, box, scale):
        x1, y1, x2, y2 = (_rounded(float(v) * scale) for v in box)
        height, width = features.shape[:2]
        cells = x1, y1, max(x1, min(x2 + 1, width)), max(y1, min(y2 + 1, height))
        return _roi_align(features, cells, 1.0, 5, 0, True)

    found = pool_regions(features, STRIDES, boxes, levels, 5, op="warp")
    np.testing.assert_allclose(found, _by_loops(features, boxes, levels, rule), atol=1e-4)


@pytest.mark.parametrize("options", [{}, {"sampling_ratio": 2, "aligned": False}, {"op": "pool"}])
def test_a_region_of_more_than_64_windows(options):
    random = np.random.default_rng(7)
    side = 9 * WINDOW + 3
    features = random.normal(size=(1, side, side, 2)).astype("float32")
    boxes = np.array([[[0, 0, side, side], [3.3, 100.2, 120.9, 103.1]]], "float32")
    found = pool_regions([features], [1], boxes, np.zeros((1, 2), "int32"), 3, **options)
    if options.get("op") == "pool":
        expected = [_roi_pool(features[0], box, 1.0, 3) for box in boxes[0]]
    else:
        ratio, aligned = options.get("sampling_ratio", 0), options.get("aligned", True)
        expected = [_roi_align(features[0], box, 1.0, 3, ratio, aligned) for box in boxes[0]]
    np.testing.assert_allclose(found[0], expected, atol=1e-4)


@pytest.mark.parametrize(("ratio", "aligned"), [(0, True), (2, False)])
@pytest.mark.parametrize("reduce", ["average", "max"])
def test_gradients_are_those_of_the_rule(ratio, aligned, reduce):
    """The rule gives each bin weights of the cells; of the largest sample its own."""
    ratio = ratio or (3 if reduce == "max" else 0)
    random = np.random.default_rng(8)
    height, width, size = 9, WINDOW + 7, 3
    cells = np.eye(height * width).reshape(height, width, -1)
    boxes = np.stack([_boxes(random, 8, 2 * height, 2 * width) for _ in range(2)])
    features = tf.constant(random.normal(size=(2, height, width, 1)).astype("float32"))
    above = random.normal(size=(2, 8, size, size, 1)).astype("float32")
    expected = np.zeros((2, height * width))
    for image, region in np.ndindex(2, 8):
        bins = _samples(cells, boxes[image, region], 0.5, size, ratio, aligned)
        for row, column in np.ndindex(size, size):
            weights = bins[row][column]
            if reduce == "max":
                values = weights @ features[image].numpy().ravel()
                weights = weights[values.argmax()][None]
            share = above[image, region, row, column] * weights.sum(0) / max(len(weights), 1)
            expected[image] += share
    with tf.GradientTape() as tape:
        tape.watch(features)
        found = pool_regions(
            [features],
            [2],
            boxes,
            np.zeros((2, 8), "int32"),
            size,
            sampling_ratio=ratio,
            aligned=aligned,
            reduce=reduce,
        )
        total = tf.reduce_sum(found * above)
    gradient = tf.reshape(tape.gradient(total, features), (2, -1))
    np.testing.assert_allclose(gradient, expected, atol=1e-4)
    assert np.abs(expected).sum() > 10


def test_the_gradients_sum_over_overlapping_regions_of_all_levels():
    """Of regions on the second level alone: the first has none, and a bin's weights sum to 1."""
    features, _, _ = _pyramid(9)
    inside = np.array([[[40, 40, 100, 90]] * 3] * 2, "float32")
    features = [tf.constant(f) for f in features]
    with tf.GradientTape() as tape:
        tape.watch(features)
        found = pool_regions(features, STRIDES, inside, np.ones((2, 3), "int32"), 7)
        total = tf.reduce_sum(found)
    first, second = tape.gradient(total, features)
    assert not np.any(first)
    # Weights of a bin sum to 1: 3 regions of 7 x 7 bins in each image and channel.
    np.testing.assert_allclose(np.sum(second, (1, 2)), np.full((2, 3), 147), rtol=1e-5)


def test_the_gradient_of_pool_goes_to_the_first_largest_cell():
    features = np.zeros((1, 2, 3, 1), "float32")
    features[0, :, :, 0] = [[1, 5, 5], [5, 2, 4]]
    features = tf.constant(features)
    boxes, levels = np.array([[[0, 0, 2, 1], [0, 0, 1, 1]]], "float32"), np.zeros((1, 2), "int32")
    with tf.GradientTape() as tape:
        tape.watch(features)
        found = pool_regions([features], [1], boxes, levels, 1, op="pool")
        total = tf.reduce_sum(found * [[[[[2.0]]], [[[3.0]]]]])
    assert found.numpy().ravel().tolist() == [5, 5]
    gradient = tape.gradient(total, features).numpy()[0, ..., 0]
    # Row by row, the first 5 is at 0, 1 in both.
    assert gradient.tolist() == [[0, 5, 0], [0, 0, 0]]


@pytest.mark.parametrize("options", [{"sampling_ratio": 2}, {"op": "pool"}])
def test_boxes_have_no_gradient(options):
    features, boxes, levels = _pyramid(10)
    boxes = tf.constant(boxes)
    with tf.GradientTape() as tape:
        tape.watch(boxes)
        total = tf.reduce_sum(pool_regions(features, STRIDES, boxes, levels, 3, **options))
    assert tape.gradient(total, boxes) is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("options", [{}, {"op": "pool"}])
def test_half_precision(dtype, options):
    """Coordinates and sums are float32, so that only features and weights are rounded."""
    features, boxes, levels = _pyramid(11)
    half = [tf.cast(f, dtype) for f in features]
    rounded = [tf.cast(f, "float32").numpy() for f in half]
    with tf.GradientTape() as tape:
        tape.watch(half)
        found = pool_regions(half, STRIDES, boxes, levels, 5, **options)
        total = tf.reduce_sum(tf.cast(found, "float32"))
    assert found.dtype == dtype
    expected = pool_regions(rounded, STRIDES, boxes, levels, 5, **options)
    np.testing.assert_allclose(tf.cast(found, "float32"), expected, atol=0.03)
    assert all(g.dtype == dtype for g in tape.gradient(total, half))


def test_the_gradients_of_many_regions_on_one_cell_in_bfloat16():
    """A bfloat16 sum of ones ends at 256."""
    feature = tf.ones((1, 1, 1, 1), "bfloat16")
    boxes = np.tile(np.array([0, 0, 1, 1], "float32"), (1, 2000, 1))
    with tf.GradientTape() as tape:
        tape.watch(feature)
        found = pool_regions([feature], [1], boxes, np.zeros((1, 2000), "int32"), 1)
        total = tf.reduce_sum(tf.cast(found, "float32"))
    assert float(total) == 2000
    assert float(tape.gradient(total, feature)[0, 0, 0, 0]) == 2000


@pytest.mark.parametrize("options", [{}, {"sampling_ratio": 2, "aligned": False}, {"op": "pool"}])
def test_no_regions(options):
    features, boxes, levels = _pyramid(12)
    found = pool_regions(features, STRIDES, boxes[:, :0], levels[:, :0], 5, **options)
    assert found.shape == (2, 0, 5, 5, 3)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"sampling_ratio": 2, "aligned": False},
        {"sampling_ratio": 2, "reduce": "max"},
        {"op": "pool"},
        {"op": "warp"},
    ],
)
def test_compiled_by_xla(options):
    features, boxes, levels = _pyramid(13)
    # A box in whole cells: what its sides are multiples of decides how many samples there are.
    boxes[0, 9], levels[0, 9] = (8, 16, 8 + 4 * 14, 16 + 4 * 21), 0
    boxes = np.clip(boxes, 0, [212, 148, 212, 148]).astype("float32")

    def both(first, second, boxes):
        with tf.GradientTape() as tape:
            tape.watch([first, second])
            found = pool_regions([first, second], STRIDES, boxes, levels, 7, **options)
            total = tf.reduce_sum(found * tf.sin(found))
        return found, tape.gradient(total, [first, second])

    arguments = [tf.constant(value) for value in (*features, boxes)]
    expected, gradients = both(*arguments)
    found, compiled = tf.function(both, autograph=False, jit_compile=True)(*arguments)
    np.testing.assert_allclose(found, expected, atol=1e-4)
    for a, b in zip(compiled, gradients, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-3)


def test_unknown_sizes_in_a_graph():
    features, boxes, levels = _pyramid(14)
    spec = [tf.TensorSpec((None, None, None, 3))] * 2
    spec += [tf.TensorSpec((None, None, 4)), tf.TensorSpec((None, None), tf.int32)]

    @tf.function(input_signature=spec, autograph=False)
    def pooled(first, second, boxes, levels):
        return pool_regions([first, second], STRIDES, boxes, levels, 4)

    found = pooled(*features, boxes, levels)
    expected = pool_regions(features, STRIDES, boxes, levels, 4)
    np.testing.assert_allclose(found, expected, atol=1e-5)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("ratio", [0, 2])
def test_align_is_torchvisions(ratio, aligned):
    torch = pytest.importorskip("torch")
    torchvision = pytest.importorskip("torchvision")
    features, boxes, _ = _pyramid(15)
    # Its version in Python moves samples far off the map onto it, unlike its compiled one, and
    # divides by the width of boxes without one.
    boxes = np.clip(boxes, 0, [208, 144, 208, 144]).astype("float32")
    boxes = np.where((boxes[..., 2:] > boxes[..., :2]).all(-1)[..., None], boxes, boxes[:, :1])
    feature = tf.constant(features[0])
    with tf.GradientTape() as tape:
        tape.watch(feature)
        levels = np.zeros((2, 14), "int32")
        found = pool_regions(
            [feature], [4], boxes, levels, 7, sampling_ratio=ratio, aligned=aligned
        )
        total = tf.reduce_sum(found**2)
    theirs = torch.tensor(features[0].transpose(0, 3, 1, 2)).requires_grad_(True)
    expected = torchvision.ops.roi_align(
        theirs, [torch.tensor(b) for b in boxes], 7, 1 / 4, ratio, aligned
    )
    (expected**2).sum().backward()
    expected = expected.detach().numpy().transpose(0, 2, 3, 1).reshape(2, 14, 7, 7, 3)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    gradient = theirs.grad.numpy().transpose(0, 2, 3, 1)
    np.testing.assert_allclose(tape.gradient(total, feature), gradient, atol=1e-4)


def test_levels_by_hand():
    sides = np.array([0, 1, 111, 112, 223.9, 224, 300, 448, 896, 9000], "float32")
    boxes = np.stack([0 * sides + 7, 0 * sides, sides + 7, sides], axis=1)
    expected = [0, 0, 0, 1, 1, 2, 2, 3, 3, 3]
    assert ops.convert_to_numpy(pyramid_levels(boxes, 2, 5)).tolist() == expected
    # of a box of 2 : 1 the area counts
    long = np.array([[0, 0, 112 * 2, 56], [0, 0, 112 * 2, 57]], "float32")
    assert ops.convert_to_numpy(pyramid_levels(long, 2, 5)).tolist() == [1, 1]
    # torchvision's epsilon takes boxes in that miss a level by a ten thousandth of a pixel
    near = np.array([[0, 0, 223.9999, 223.9999]], "float32")
    assert int(pyramid_levels(near, 2, 5, 1e-6)[0]) == 2
    assert int(pyramid_levels(near, 2, 5)[0]) == 1


@pytest.mark.parametrize("jit", [False, True])
def test_levels_at_their_limits(jit):
    """Squares of 28 ... 1792 pixels are the smallest of their level, on any compiler."""
    sides = 224 * 2.0 ** np.arange(-3, 4)
    boxes = np.stack([0 * sides, 0 * sides, sides, sides], axis=1).astype("float32")
    found = tf.function(lambda b: pyramid_levels(b, 1, 7), jit_compile=jit)(boxes)
    assert found.numpy().tolist() == list(range(7))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"op": "crop"}, "align, pool or warp"),
        ({"reduce": "sum"}, "average or max"),
        ({"reduce": "max"}, "needs a sampling_ratio"),
    ],
)
def test_options_are_checked(options, message):
    with pytest.raises(ValueError, match=message):
        _of_ramp([1, 1, 3, 3], 4, **options)
