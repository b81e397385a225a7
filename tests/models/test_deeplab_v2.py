import keras
import numpy as np
import pytest
from scipy import ndimage

import tfseg

VGG = "deeplab_aspp_vgg16"
RESNET = "deeplab_aspp_resnet101"
NARROW = {"base_filters": 2, "fc_filters": 4}


def _image(height, width):
    shape = (1, height, width, 3)
    return np.random.default_rng(0).normal(0, 60, size=shape).astype("float32")


@pytest.mark.slow
def test_published_parameter_counts():
    assert tfseg.build(VGG, 182).count_params() == 38_537_752
    model = tfseg.build(RESNET, 182)
    trained = sum(int(np.prod(w.shape)) for w in model.trainable_variables)
    assert trained == 55_814_040
    # Frozen: scale, offset and two statistics.
    assert model.count_params() == trained + 2 * 105_344


@pytest.mark.parametrize(("aspp", "rates"), [("L", (6, 12, 18, 24)), ("S", (2, 4, 8, 12))])
def test_rates(aspp, rates):
    model = tfseg.build(VGG, 3, aspp=aspp, **NARROW)
    found = [model.get_layer(f"backbone.fc6_{i}").dilation_rate for i in (1, 2, 3, 4)]
    assert found == [(rate, rate) for rate in rates]
    names = [layer.name for layer in model.layers]
    assert "backbone.pool5a" not in names


@pytest.mark.parametrize("multiscale", [False, True])
@pytest.mark.parametrize("size", [(65, 97), (50, 60)])
def test_any_size(multiscale, size):
    out = tfseg.build(VGG, 3, multiscale=multiscale, **NARROW)(_image(*size))
    outputs = out if multiscale else {"logits": out}
    assert all(x.shape == (1, *size, 3) for x in outputs.values())
    if multiscale:
        assert sorted(outputs) == ["aux_0.50", "aux_0.75", "aux_1.00", "logits"]


def _bilinear(x, height, width):
    """With aligned corners."""
    zoom = (1, height / x.shape[1], width / x.shape[2], 1)
    return ndimage.zoom(x, zoom, order=1, grid_mode=False)


def test_scales_share_weights_and_fuse_by_their_maximum():
    keras.utils.set_random_seed(0)
    single = tfseg.build(VGG, 3, **NARROW)
    model = tfseg.build(VGG, 3, multiscale=True, **NARROW)
    assert [w.path for w in model.weights] == [w.path for w in single.weights]
    model.set_weights([10 * w for w in single.get_weights()])
    single.set_weights(model.get_weights())
    scores = keras.Model(single.input, single.get_layer("fc8").output)
    x = _image(65, 97)
    out = {name: value.numpy() for name, value in model(x).items()}
    np.testing.assert_allclose(out["aux_1.00"], single(x), rtol=1e-4)
    maps = [scores(x).numpy()]
    assert maps[0].shape == (1, 9, 13, 3)
    for name, height, width in (("aux_0.75", 49, 73), ("aux_0.50", 33, 49)):
        maps.append(_bilinear(scores(_bilinear(x, height, width)).numpy(), 9, 13))
        scale = np.abs(maps[-1]).max()
        np.testing.assert_allclose(out[name][:, ::8, ::8], maps[-1], atol=1e-4 * scale)
    fused = np.max(maps, axis=0)
    assert not np.allclose(fused, maps[0], atol=1e-2 * scale)
    np.testing.assert_allclose(out["logits"], _bilinear(fused, 65, 97), atol=1e-4 * scale)


def test_multiscale_networks_are_saved(tmp_path):
    model = tfseg.build(VGG, 3, multiscale=True, **NARROW)
    x = _image(33, 41)
    model.save(tmp_path / "model.keras")
    again = keras.models.load_model(tmp_path / "model.keras")
    assert len(again.weights) == len(model.weights)
    for name, expected in model(x).items():
        np.testing.assert_allclose(again(x)[name], expected, atol=1e-5)


def test_bfloat16_logits_are_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tfseg.build(VGG, 2, multiscale=True, **NARROW)
    finally:
        keras.config.set_dtype_policy("float32")
    assert {x.dtype for x in model.output.values()} == {"float32"}


def test_bad_options():
    with pytest.raises(ValueError, match="aspp must be one of"):
        tfseg.build(VGG, 3, aspp="M", **NARROW)
    with pytest.raises(ValueError, match="style must be one of"):
        tfseg.build(RESNET, 3, style="msra")
