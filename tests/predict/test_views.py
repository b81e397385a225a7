import math

import numpy as np
import pytest
from PIL import Image

from tfseg.predict import views


def test_eight_orientations_differ_and_undo_is_exact():
    image = np.arange(2 * 3 * 2).reshape(2, 3, 2)
    applied = [o.apply(image) for o in views.EIGHT]
    assert len({(a.shape, a.tobytes()) for a in applied}) == 8
    for orientation, view in zip(views.EIGHT, applied, strict=True):
        np.testing.assert_array_equal(orientation.undo(view), image)


def test_orientation_by_hand():
    image = np.array([[1, 2], [3, 4]])[..., None]
    assert views.Orientation(1, False).apply(image)[..., 0].tolist() == [[2, 4], [1, 3]]
    assert views.Orientation(1, True).apply(image)[..., 0].tolist() == [[4, 2], [3, 1]]
    assert views.MIRRORED.apply(image)[..., 0].tolist() == [[2, 1], [4, 3]]


@pytest.mark.parametrize(
    ("size", "scale", "base", "expected"),
    [
        ((375, 500), 1.0, None, (375, 500)),
        ((375, 501), 0.5, None, (188, 251)),  # halves upwards: 187.5, 250.5
        ((375, 500), 1.0, 512, (385, 513)),  # 513 / 500 * 375 = 384.75
        ((500, 375), 1.75, 512, (897, 673)),  # 897 / 500 * 375 = 672.75
        ((1024, 2048), 1.0, 2048, (1025, 2049)),  # 1024.5 upwards
        ((1, 1), 0.2, None, (1, 1)),
    ],
)
def test_scaled_size(size, scale, base, expected):
    assert views.scaled_size(*size, scale, base) == expected


def released_starts(size, crop, stride_rate):
    """evaluation/scale_process.m, line by line, with its 1-based ends."""
    stride = math.ceil(crop * stride_rate)
    padded = max(size, crop)
    starts = []
    for index in range(1, math.ceil((padded - crop) / stride) + 2):
        start = (index - 1) * stride + 1
        end = min(start + crop - 1, padded)
        starts.append(end - crop + 1 - 1)
    return starts


@pytest.mark.parametrize("size", [1, 300, 473, 474, 513, 789, 790, 897])
def test_window_starts_are_the_released_ones(size):
    step = math.ceil(473 * 2 / 3)
    assert views.window_starts(size, 473, step) == released_starts(size, 473, 2 / 3)


def test_window_starts_and_coverage_by_hand():
    assert views.window_starts(11, 4, 3) == [0, 3, 6, 7]
    expected = [1, 1, 1, 2, 1, 1, 2, 2, 2, 2, 1]
    assert views.coverage([0, 3, 6, 7], 4, 11).tolist() == expected


@pytest.mark.parametrize("size", [1, 2, 5])
def test_mirror_is_numpys_reflect(size):
    index = np.arange(-13, size + 13)
    np.testing.assert_array_equal(views.mirror(index, size), np.pad(range(size), 13, "reflect"))


def test_batches():
    assert list(views.batches(range(5), 2)) == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("size", [(20, 31), (9, 7), (13, 50)])
def test_resizing_is_pillows(size):
    values = np.random.default_rng(0).normal(size=(13, 19, 2)).astype(np.float32)
    resized = views.resize_bilinear(values, size)
    for channel in range(2):
        image = Image.fromarray(values[..., channel])
        expected = np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR))
        np.testing.assert_allclose(resized[..., channel], expected, atol=2e-4)


def test_resizing_of_uint8_rounds():
    image = np.array([[0, 1], [0, 1]], np.uint8)[..., None]
    # half-pixel centres: 0, 0.25, 0.75, 1
    assert views.resize_bilinear(image, (2, 4))[0, :, 0].tolist() == [0, 0, 1, 1]
    assert views.resize_bilinear(image, (1, 1)).tolist() == [[[1]]]  # 0.5 upwards
    assert views.resize_bilinear(image, (2, 2)) is image
