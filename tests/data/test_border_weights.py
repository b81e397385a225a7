import numpy as np
import pytest

from tfseg.data.border_weights import unet_weight_map


def _brute_force(instances, w0, sigma):
    """Equation 2 of the paper, pixel by pixel."""
    share = (instances > 0).mean()
    cells = [np.argwhere(instances == i) for i in np.unique(instances[instances > 0])]
    out = np.zeros(instances.shape)
    for y, x in np.ndindex(instances.shape):
        inside = instances[y, x] > 0
        out[y, x] = 0.5 / share if inside else 0.5 / (1 - share)
        if not inside and len(cells) > 1:
            d = sorted(np.sqrt(((cell - [y, x]) ** 2).sum(1)).min() for cell in cells)
            out[y, x] += w0 * np.exp(-((d[0] + d[1]) ** 2) / (2 * sigma**2))
    return out


@pytest.mark.parametrize("ids", [(1, 2, 3), (2, 7, 40)])
def test_against_brute_force(ids):
    instances = np.zeros((24, 30), np.int32)
    instances[2:9, 3:11] = ids[0]
    instances[2:9, 13:20] = ids[1]
    instances[14:22, 5:25] = ids[2]
    expected = _brute_force(instances, 10.0, 5.0)
    np.testing.assert_allclose(unet_weight_map(instances), expected, rtol=1e-4)


def test_far_cells_do_not_meet():
    instances = np.zeros((20, 200), np.int32)
    instances[:, :10], instances[:, 190:] = 1, 2
    expected = _brute_force(instances, 10.0, 5.0)
    np.testing.assert_allclose(unet_weight_map(instances), expected, atol=1e-5)


def test_a_one_pixel_gap_weighs_most():
    instances = np.ones((9, 9), np.int32)
    instances[:, 4], instances[:, 5:] = 0, 2
    weights = unet_weight_map(instances, w0=10, sigma=5)
    assert weights[4, 4] == pytest.approx(0.5 / (1 / 9) + 10 * np.exp(-4 / 50), rel=1e-5)
    assert weights[4, 0] == pytest.approx(0.5 / (8 / 9))


@pytest.mark.parametrize("cells", [0, 1])
def test_fewer_than_two_cells_have_no_border(cells):
    instances = np.zeros((8, 8), np.int32)
    instances[:2, :2] = cells
    weights = unet_weight_map(instances)
    assert weights.mean() == pytest.approx(1)
    assert len(np.unique(weights)) == 1 + cells


def test_classes_balance():
    instances = np.zeros((10, 10), np.int32)
    instances[:2] = 1
    weights = unet_weight_map(instances)
    assert weights[instances > 0].sum() == pytest.approx(weights[instances == 0].sum(), rel=1e-5)
