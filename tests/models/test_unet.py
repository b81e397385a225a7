import numpy as np
import pytest

import tfseg


@pytest.mark.parametrize(
    ("channels", "classes", "expected"),
    [(1, 2, 31_030_658), (3, 2, 31_031_810), (3, 21, 31_033_045)],
)
def test_parameters_of_figure_1(channels, classes, expected):
    assert tfseg.build("unet", classes, in_channels=channels).count_params() == expected


@pytest.mark.parametrize("side", [572, 188, 252])
def test_valid_sizes(side):
    model = tfseg.build("unet", base_filters=1)
    assert model(np.zeros((1, side, side, 1), "float32")).shape == (1, side - 184, side - 184, 2)


@pytest.mark.parametrize("size", [(64, 64), (65, 97), (17, 31)])
def test_same_padding_takes_any_size(size):
    model = tfseg.build("unet", base_filters=2, padding="same")
    assert model(np.zeros((1, *size, 1), "float32")).shape == (1, *size, 2)


def test_dropout_of_the_two_lowest_levels_reaches_the_skip():
    model = tfseg.build("unet", base_filters=2)
    names = [layer.name for layer in model.layers if "dropout" in layer.name]
    assert names == ["dropout_d3c", "dropout_d4c"]
    assert model.get_layer("crop_d3c").input[0] is model.get_layer("dropout_d3c").output


def test_valid_and_same_agree_far_from_the_border():
    kwargs = {"base_filters": 2, "num_classes": 2}
    valid = tfseg.build("unet", **kwargs)
    same = tfseg.build("unet", padding="same", **kwargs)
    same.set_weights(valid.get_weights())
    x = np.random.default_rng(0).normal(size=(1, 572, 572, 1)).astype("float32")
    # Two more rows and columns bring the pools of both networks onto one lattice.
    whole = same(np.pad(x, ((0, 0), (2, 0), (2, 0), (0, 0))))
    np.testing.assert_allclose(valid(x), whole[:, 94:482, 94:482], atol=1e-4)


@pytest.mark.parametrize("options", [{"padding": "reflect"}, {"in_channels": 2}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        tfseg.build("unet", **options)
