import keras
import numpy as np
import pytest
from scipy import ndimage

from tfseg.layers.pyramid import atrous_pyramid
from tfseg.layers.resize import Interp


@pytest.mark.parametrize(
    ("factor", "side", "expected"),
    [(8, 41, 321), (8, 65, 513), (0.75, 321, 241), (0.75, 513, 385), (0.5, 321, 161), (0.5, 4, 2)],
)
def test_sizes_of_the_released_networks(factor, side, expected):
    layer = Interp(factor)
    assert layer(np.zeros((1, side, 3, 1), "float32")).shape[1] == expected
    assert layer.compute_output_shape((None, side, None, 5)) == (None, expected, None, 5)


@pytest.mark.parametrize(("factor", "side"), [(8, 5), (0.75, 9), (0.5, 9)])
def test_corners_fall_on_corners(factor, side):
    x = np.random.default_rng(0).normal(size=(1, side, side, 2)).astype("float32")
    found = Interp(factor)(x)
    new = found.shape[1]
    expected = ndimage.zoom(x, (1, new / side, new / side, 1), order=1, grid_mode=False)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_interp_is_saved_with_its_factor():
    assert Interp.from_config(Interp(0.75).get_config()).factor == 0.75


def test_the_atrous_pyramid_sees_its_rates():
    """One cell, all weights 1: branches reach as far as their rates, the average everywhere."""
    inputs = keras.Input((None, None, 1))
    outputs = atrous_pyramid(
        inputs, 1, rates=(2, 3), norm=lambda x, name: x, dropout=0.5, name="aspp"
    )
    model = keras.Model(inputs, outputs)
    model.set_weights([np.ones(w.shape) for w in model.weights])
    x = np.zeros((1, 9, 9, 1), "float32")
    x[0, 4, 4] = 81.0
    found = model(x)[0, :, :, 0].numpy()
    expected = np.full((9, 9), 1.0)
    for rate in (2, 3):
        expected[4 - rate : 5 + rate : rate, 4 - rate : 5 + rate : rate] += 81
    expected[4, 4] += 81
    np.testing.assert_allclose(found, expected, rtol=1e-5)
