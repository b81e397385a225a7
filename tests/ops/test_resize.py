import numpy as np
import pytest
import scipy.ndimage
from keras import ops

from tfseg.ops.resize import adaptive_average_pool, enlarge_bilinear, resize_bilinear


def _ramp(height, width):
    return np.arange(height * width, dtype="float32").reshape(1, height, width, 1)


def test_aligned_corners_by_hand():
    out = resize_bilinear(_ramp(2, 2), (3, 3), align_corners=True)
    expected = [[0, 0.5, 1], [1, 1.5, 2], [2, 2.5, 3]]
    np.testing.assert_allclose(ops.convert_to_numpy(out)[0, :, :, 0], expected)


def test_half_pixel_centres_by_hand():
    x = np.array([0.0, 4.0], "float32").reshape(1, 1, 2, 1)
    out = ops.convert_to_numpy(resize_bilinear(x, (1, 4), align_corners=False))
    np.testing.assert_allclose(out[0, 0, :, 0], [0, 1, 3, 4])


@pytest.mark.parametrize("size", [(1, 1), (5, 9), (12, 3), (7, 7)])
def test_aligned_corners_against_scipy(size):
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 3)).astype("float32")
    out = ops.convert_to_numpy(resize_bilinear(x, size, align_corners=True))
    ys, xs = np.meshgrid(
        np.linspace(0, 6, size[0]) if size[0] > 1 else [0],
        np.linspace(0, 6, size[1]) if size[1] > 1 else [0],
        indexing="ij",
    )
    for b in range(2):
        for c in range(3):
            expected = scipy.ndimage.map_coordinates(x[b, :, :, c], [ys, xs], order=1)
            np.testing.assert_allclose(out[b, :, :, c], expected, atol=1e-5)


def test_same_size_changes_nothing():
    x = _ramp(5, 4)
    for align in (True, False):
        np.testing.assert_array_equal(resize_bilinear(x, (5, 4), align_corners=align), x)


def test_constants_stay_constant():
    out = resize_bilinear(np.full((1, 6, 5, 1), 3.0, "float32"), (31, 17), align_corners=False)
    np.testing.assert_allclose(ops.convert_to_numpy(out), 3.0, rtol=1e-6)


def test_average_pool_by_hand():
    out = adaptive_average_pool(_ramp(3, 3), 2)  # bins of rows 0-1 and 1-2 overlap, as in torch
    np.testing.assert_allclose(ops.convert_to_numpy(out)[0, :, :, 0], [[2, 3], [5, 6]])


@pytest.mark.parametrize("side", [60, 90])
@pytest.mark.parametrize("bins", [1, 2, 3, 6])
def test_average_pool_is_pspnets_fixed_kernels(side, bins):
    x = np.random.default_rng(1).normal(size=(1, side, side, 2)).astype("float32")
    kernel = side // bins
    expected = x.reshape(1, bins, kernel, bins, kernel, 2).mean((2, 4))
    out = ops.convert_to_numpy(adaptive_average_pool(x, bins))
    np.testing.assert_allclose(out, expected, atol=1e-5)


def test_average_pool_of_fewer_cells_than_bins():
    x = np.array([1.0, 2.0], "float32").reshape(1, 2, 1, 1)
    out = ops.convert_to_numpy(adaptive_average_pool(x, 3))
    np.testing.assert_allclose(out[0, :, 0, 0], [1, 1.5, 2])


def test_enlarge_bilinear_by_hand():
    """A quarter of the neighbour on either side; the border is repeated."""
    x = np.array([0.0, 4.0, 8.0], np.float32).reshape(1, 1, 3, 1)
    found = np.asarray(enlarge_bilinear(x, 2))
    assert found.shape == (1, 2, 6, 1)
    assert found[0, :, :, 0].tolist() == [[0, 1, 3, 5, 7, 8]] * 2


@pytest.mark.parametrize("factor", [1, 2, 3, 4])
def test_enlarge_bilinear_is_resize_bilinear(factor):
    x = np.random.default_rng(0).normal(size=(2, 5, 4, 3)).astype(np.float32)
    expected = resize_bilinear(x, (5 * factor, 4 * factor), align_corners=False)
    np.testing.assert_allclose(enlarge_bilinear(x, factor), expected, atol=1e-6)
