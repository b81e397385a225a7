import keras
import numpy as np
import pytest

import tfseg

V1 = "deeplab_largefov_vgg16"
MSC = "deeplab_msc_largefov_vgg16"
NARROW = {"base_filters": 4, "fc_filters": 8}


def _image(height, width, seed=0):
    shape = (1, height, width, 3)
    return np.random.default_rng(seed).normal(0, 60, size=shape).astype("float32")


def _randomised(model):
    """Weights that bring every path to the same order of magnitude, zero fillers too."""
    rng = np.random.default_rng(0)
    for weight in model.trainable_variables:
        variance = 2 / np.prod(weight.shape[:-1]) if weight.name == "kernel" else 0.01
        weight.assign(rng.normal(0, variance**0.5, weight.shape))
    return model


def _parts(model, *layers):
    return keras.Model(model.input, [model.get_layer(name).output for name in layers])


@pytest.mark.parametrize(
    ("name", "fc6", "expected"),
    [
        (V1, "4x4r4", 65_140_565),
        (V1, "4x4r8", 65_140_565),
        (V1, "7x7r4", 134_346_581),
        (MSC, "4x4r4", 66_346_686),
    ],
)
@pytest.mark.slow
def test_published_parameter_counts(name, fc6, expected):
    assert tfseg.build(name, fc6=fc6).count_params() == expected


@pytest.mark.parametrize("fc6", ["3x3r12", "7x7r4", "4x4r8"])
def test_scores_at_the_papers_crops(fc6):
    model = tfseg.build(V1, 5, fc6=fc6, **NARROW)
    inner = _parts(model, "backbone.features.16", "fc8")
    for side, cells in ((321, 41), (513, 65)):
        pool3, scores = inner(np.zeros((1, side, side, 3), "float32"))
        assert pool3.shape[1:3] == scores.shape[1:3] == (cells, cells)


@pytest.mark.parametrize("name", [V1, MSC])
@pytest.mark.parametrize("fc6", ["3x3r12", "4x4r4"])
@pytest.mark.parametrize("size", [(1, 1), (16, 31), (65, 97), (66, 100)])
def test_any_size(name, fc6, size):
    model = tfseg.build(name, 3, fc6=fc6, **NARROW)
    out = model(_image(*size))
    assert out.shape == (1, *size, 3)
    assert np.isfinite(out).all()


@pytest.mark.parametrize("size", [(65, 97), (70, 60)])
def test_every_eighth_logit_is_a_score(size):
    model = _randomised(tfseg.build(V1, 3, **NARROW))
    x = _image(*size)
    scores = _parts(model, "fc8")(x)
    kept = model(x)[:, ::8, ::8]
    assert np.std(kept) > 1
    np.testing.assert_allclose(kept, scores[:, : kept.shape[1], : kept.shape[2]], atol=1e-4)


def test_the_first_release_has_even_pools():
    """DeepLab/{train,test}.prototxt: 306 -> 154, 78, 40; scores on pixels 1, 9, 17, ..."""
    model = _randomised(tfseg.build(V1, 3, fc6="4x4r4", **NARROW))
    pools = [f"backbone.features.{i}" for i in (4, 9, 16, 23, 30)]
    x = _image(306, 58)
    *maps, scores = _parts(model, *pools, "fc8")(x)
    assert [m.shape[1] for m in maps] == [154, 78, 40, 41, 41]
    # The training network leaves out pool4's first row and column, which lie outside the image.
    kept = model(x)[:, 1::8, 1::8]
    np.testing.assert_allclose(kept, scores[:, 1:40, 1:9], atol=1e-4)


def test_the_average_pool_counts_the_padding():
    model = tfseg.build(V1, 3, **NARROW)
    x = np.ones((1, 4, 5, 32), "float32")
    for name in ("backbone.pool5a.pad", "backbone.pool5a"):
        x = model.get_layer(name)(x)
    assert x.shape[1:3] == (4, 5)
    np.testing.assert_allclose(x[0, 0, :3, 0], [4 / 9, 6 / 9, 6 / 9], rtol=1e-6)
    np.testing.assert_allclose(x[0, 1, 1, 0], 1, rtol=1e-6)
    names = [layer.name for layer in tfseg.build(V1, 3, fc6="4x4r8", **NARROW).layers]
    assert "backbone.pool5a" not in names


def test_every_eighth_logit_is_what_the_strided_branches_give():
    """MSc/train.prototxt strides each branch's first convolution down to the common eighth."""
    model = _randomised(tfseg.build(MSC, 3, **NARROW))
    x = _image(65, 81)
    sources = {"data": 8, "pool1": 4, "pool2": 2, "pool3": 1, "pool4": 1}
    maps = dict(zip(("pool1", "pool2", "pool3", "pool4"), (4, 9, 16, 23), strict=True))
    inner = _parts(model, *(f"backbone.features.{i}" for i in maps.values()), "fc8")
    *pools, total = inner(x)
    inputs = {"data": x, **dict(zip(maps, pools, strict=True))}
    assert total.shape[1:3] == (9, 11)
    for source, stride in sources.items():
        kernel, bias = model.get_layer(f"{source}_conv").get_weights()
        y = np.pad(inputs[source], ((0, 0), (1, 1), (1, 1), (0, 0)))
        y = keras.ops.relu(keras.ops.conv(y, kernel, stride, "valid") + bias)
        y = keras.ops.relu(model.get_layer(f"{source}_fc")(y))
        total += model.get_layer(f"{source}_ms")(y)
    np.testing.assert_allclose(model(x)[:, ::8, ::8], total, atol=1e-3)


def test_the_released_fillers():
    keras.utils.set_random_seed(0)
    model = tfseg.build(MSC, 50, base_filters=4, fc_filters=200)
    stds = {
        "fc8": 0.01,
        "data_conv": 0.001,
        "pool3_fc": 0.001,
        "pool4_fc": 0.005,
        "pool4_ms": 0.01,
        "pool3_ms": 0,
    }
    for name, expected in stds.items():
        kernel, bias = model.get_layer(name).get_weights()
        np.testing.assert_allclose(kernel.std(), expected, rtol=0.05)
        assert not bias.any()


def test_styles_and_errors():
    assert tfseg.build(V1, 3, **NARROW).spec.preprocessing.mean == (104.008, 116.669, 122.675)
    torch = tfseg.build(V1, 3, style="torchvision", **NARROW)
    assert torch.spec.preprocessing.channels == "rgb"
    with pytest.raises(ValueError, match="'pytorch'"):
        tfseg.build(V1, 3, style="pytorch", **NARROW)
    with pytest.raises(ValueError, match="'3x3'"):
        tfseg.build(V1, 3, fc6="3x3", **NARROW)
