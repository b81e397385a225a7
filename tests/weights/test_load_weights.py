"""Layouts, strictness and parts, through a name map of two small networks."""

import logging
from pathlib import Path

import keras
import numpy as np
import pytest

from tfseg.weights import WeightsError, load_weights, maps, read_weights, save_weights
from tfseg.weights.maps.common import convolution_of

FILES = Path(__file__).parent / "files"


def _network(classes=3, prefix=""):
    """The layers of files/make.py."""
    layers = keras.layers
    image = keras.Input((None, None, 4))
    x = layers.Conv2D(6, 3, padding="same", groups=2, name=f"{prefix}conv")(image)
    x = layers.BatchNormalization(epsilon=1e-5, name=f"{prefix}bn")(x)
    name = f"{prefix}depthwise"
    x = layers.DepthwiseConv2D(3, 1, "same", depth_multiplier=2, use_bias=False, name=name)(x)
    x = layers.Conv2DTranspose(6, (2, 3), (2, 3), name=f"{prefix}up")(x)
    features = layers.GroupNormalization(3, epsilon=1e-5, name=f"{prefix}gn")(x)
    x = layers.GlobalAveragePooling2D(name="pool")(features)
    x = layers.Dropout(0.5, name="dropout")(x)
    return keras.Model(image, [features, layers.Dense(classes, name="fc")(x)], name="network")


def _names(model, origin):
    if origin not in ("torchvision", "detectron2", "caffe", "keras", "tfseg"):
        raise ValueError(f"unknown origin {origin!r}")
    return {layer.name: layer.name for layer in model.layers if layer.weights}


def _backbone_names(model, origin):
    names = [n for n in _names(model, origin) if n.startswith("backbone.")]
    return {n: n.removeprefix("backbone.") for n in names}, ("fc.",)


@pytest.fixture(autouse=True)
def _maps(monkeypatch):
    monkeypatch.setattr(maps, "layer_names", _names)
    monkeypatch.setattr(maps, "backbone_layer_names", _backbone_names)
    monkeypatch.setattr(maps, "unused", lambda model, origin: ())
    monkeypatch.setattr(maps, "heads", lambda model: {"fc"})
    monkeypatch.setattr(maps, "check", lambda *_: None)


@pytest.fixture(scope="module")
def torch_arrays():
    return read_weights(FILES / "layers.pth")[0]


def _assert_computes_what_torch_did(model):
    with np.load(FILES / "layers.npz") as expected:
        features, output = model(expected["input"], training=False)
        np.testing.assert_allclose(features, expected["maps"], atol=1e-5)
        np.testing.assert_allclose(output, expected["output"], atol=1e-5)


def _values(model):
    return {f"{v.path}": v.numpy() for layer in model.layers for v in layer.weights}


def _assert_same(model, before):
    for path, value in _values(model).items():
        np.testing.assert_array_equal(value, before[path], err_msg=path)


@pytest.mark.parametrize("origin", [None, "torchvision", "detectron2"])
def test_every_kind_of_layer_computes_what_torch_did(origin):
    model = _network()
    load_weights(model, FILES / "layers.pth", origin)
    _assert_computes_what_torch_did(model)


def _caffe_name(name):
    layer, _, leaf = name.partition(".")
    norms = {
        "weight": "gamma",
        "bias": "beta",
        "running_mean": "mean",
        "running_var": "var",
    }
    return f"{layer}/{norms[leaf] if layer in ('bn', 'gn') else ['weight', 'bias'].index(leaf)}"


def test_caffe_has_the_same_layouts(torch_arrays):
    counter = "bn.num_batches_tracked"
    arrays = {_caffe_name(n): a for n, a in torch_arrays.items() if n != counter}
    model = _network()
    load_weights(model, arrays)
    _assert_computes_what_torch_did(model)


def test_keras_names_of_both_generations(torch_arrays):
    source = _network()
    load_weights(source, torch_arrays)
    arrays = _values(source)
    arrays["depthwise/depthwise_kernel"] = arrays.pop("depthwise/kernel")
    model = _network()
    load_weights(model, arrays, "keras")
    _assert_computes_what_torch_did(model)


@pytest.mark.parametrize("extension", ["weights.h5", "safetensors"])
def test_own_files_come_back(tmp_path, torch_arrays, extension):
    source, path = _network(), tmp_path / f"own.{extension}"
    load_weights(source, torch_arrays)
    source.save_weights(path) if extension == "weights.h5" else save_weights(source, path)
    model = _network()
    load_weights(model, path)
    _assert_same(model, _values(source))
    assert not list(tmp_path.glob("*.part"))


def test_numbered_variables_of_layers_that_no_reader_knows(tmp_path):
    def build():
        image = keras.Input((None, None, 4))
        x = keras.layers.BatchNormalization(scale=False, name="bn")(image)
        return keras.Model(image, keras.layers.PReLU(shared_axes=(1, 2), name="prelu")(x))

    source = build()
    for index, weight in enumerate(source.weights):
        weight.assign(np.full(weight.shape, index))
    source.save_weights(tmp_path / "own.weights.h5")
    model = build()
    load_weights(model, tmp_path / "own.weights.h5", "tfseg")
    _assert_same(model, _values(source))


def test_save_refuses_other_formats(tmp_path):
    with pytest.raises(ValueError, match=r"saved as \.safetensors, not as 'x\.h5'"):
        save_weights(_network(), tmp_path / "x.h5")


def test_all_that_does_not_fit_is_listed_and_nothing_assigned(torch_arrays):
    arrays = dict(torch_arrays)
    del arrays["conv.bias"], arrays["bn.running_var"]
    arrays["extra.weight"] = np.ones(3, np.float32)
    arrays["depthwise.weight"] = np.ones((6, 2, 3, 3), np.float32)
    arrays["up.weight"] = arrays["up.weight"].transpose(1, 0, 2, 3)
    arrays["gn.bias"] = np.array([0, 1, np.nan, 3, 4, 5], np.float32)
    arrays["gn.weight"] = np.arange(6)
    arrays["fc.bias"] = np.array([1e300, 0, 0])
    model = _network()
    before = _values(model)
    with pytest.raises(WeightsError) as error:
        load_weights(model, arrays, "torchvision")
    assert str(error.value).splitlines() == [
        "the given arrays, read as of origin 'torchvision', does not fit network:",
        "  missing (2): conv.bias, bn.running_var",
        "  unexpected (1): extra.weight",
        "  wrong shape (2): depthwise.weight is (6, 2, 3, 3), the model's is (12, 1, 3, 3), "
        "up.weight is (6, 12, 2, 3), the model's is (12, 6, 2, 3)",
        "  unusable (3): gn.weight is int64, not floating point, "
        "gn.bias has values that are not finite, fc.bias has values that are not finite",
    ]
    _assert_same(model, before)


def test_long_lists_are_cut_short(torch_arrays):
    extra = {f"x{n}.weight": np.ones(1, np.float32) for n in range(200)}
    with pytest.raises(WeightsError, match=r"unexpected \(200\): x0.weight, .*, \.\.\. 190 more$"):
        load_weights(_network(), torch_arrays | extra)


def test_another_class_count_needs_skip_heads(torch_arrays, caplog):
    model = _network(classes=5)
    before = _values(model)
    wrong = r"fc\.weight is \(3, 6\), the model's is \(5, 6\)(?s:.*)\(skip_heads=True leaves fc as"
    with pytest.raises(WeightsError, match=wrong):
        load_weights(model, torch_arrays)
    with caplog.at_level(logging.WARNING):
        load_weights(model, torch_arrays, skip_heads=True)
    assert "left at their initialisation: fc" in caplog.text
    after = _values(model)
    np.testing.assert_array_equal(after["fc/kernel"], before["fc/kernel"])
    np.testing.assert_array_equal(after["bn/gamma"], torch_arrays["bn.weight"])


def test_skip_heads_loads_heads_that_fit_and_skips_no_other_layer(torch_arrays, caplog):
    model = _network()
    load_weights(model, torch_arrays, skip_heads=True)
    assert not caplog.text
    _assert_computes_what_torch_did(model)
    wrong = torch_arrays | {"conv.bias": np.ones(5, np.float32)}
    with pytest.raises(WeightsError, match=r"conv\.bias is \(5,\), the model's is \(6,\)"):
        load_weights(model, wrong, skip_heads=True)


def test_the_backbone_alone(torch_arrays):
    model = _network(classes=5, prefix="backbone.")
    before = _values(model)
    load_weights(model, torch_arrays, part="backbone")
    after = _values(model)
    np.testing.assert_array_equal(after["fc/kernel"], before["fc/kernel"])
    np.testing.assert_array_equal(after["backbone.gn/gamma"], torch_arrays["gn.weight"])
    with pytest.raises(WeightsError, match=r"unexpected \(1\): other\.weight"):
        load_weights(model, torch_arrays | {"other.weight": np.ones(1)}, part="backbone")
    with pytest.raises(ValueError, match=r"no layers whose name starts with 'backbone\.'"):
        load_weights(_network(), torch_arrays, part="backbone")


def test_a_map_may_change_a_kernels_layout(torch_arrays, monkeypatch):
    """A fully connected layer (out, in) as a convolution, as FCN's fc6 and VGG16's are."""
    image = keras.Input((1, 1, 6))
    model = keras.Model(image, keras.layers.Conv2D(3, 1, name="fc")(image))
    target = maps.Target("fc", convert={"kernel": convolution_of})
    monkeypatch.setattr(maps, "layer_names", lambda model, origin: {"fc": target})
    arrays = {n: a for n, a in torch_arrays.items() if n.startswith("fc.")}
    load_weights(model, arrays)
    kernel = model.get_layer("fc").get_weights()[0]
    np.testing.assert_array_equal(kernel[0, 0], arrays["fc.weight"].T)
    arrays["fc.weight"] = np.ones((4, 6), np.float32)
    with pytest.raises(WeightsError, match=r"is \(4, 6\), 24 values for a kernel \(1, 1, 6, 3\)"):
        load_weights(model, arrays)


def test_the_origin_must_be_told_where_names_do_not(torch_arrays):
    with pytest.raises(WeightsError, match="pass origin=, one of torchvision, detectron2, caffe"):
        load_weights(_network(), {"a": np.ones(1)})
    with pytest.raises(ValueError, match="unknown origin 'torch'"):
        load_weights(_network(), torch_arrays, "torch")
    with pytest.raises(ValueError, match="part must be one of"):
        load_weights(_network(), torch_arrays, part="head")


def test_a_network_may_start_from_another(torch_arrays, caplog):
    """As FCN-16s from FCN-32s: layers of its own stay, what is left over is left."""
    model = _network()
    before = _values(model)
    arrays = {n: a for n, a in torch_arrays.items() if not n.startswith(("fc.", "bn."))}
    arrays["upscore.weight"] = np.ones((3, 3), np.float32)
    with pytest.raises(WeightsError, match=r"missing \(6\)"):
        load_weights(model, arrays)
    with caplog.at_level(logging.WARNING):
        load_weights(model, arrays, partial=True)
    assert "left at their initialisation: bn, fc" in caplog.text
    after = _values(model)
    np.testing.assert_array_equal(after["bn/gamma"], before["bn/gamma"])
    np.testing.assert_array_equal(after["gn/gamma"], arrays["gn.weight"])
    with pytest.raises(WeightsError, match=r"missing \(1\): conv\.bias"):
        load_weights(model, {n: a for n, a in arrays.items() if n != "conv.bias"}, partial=True)
    with pytest.raises(WeightsError, match=r"unexpected \(1\): other\.weight"):
        load_weights(model, {"other.weight": np.ones((2, 2), np.float32)}, partial=True)


def test_a_layer_may_have_another_name(torch_arrays, monkeypatch):
    names = {layer: layer for layer in ("bn", "depthwise", "up", "gn", "fc")}
    names["conv"] = maps.Target("blocks.0.conv", alternative="conv")
    monkeypatch.setattr(maps, "layer_names", lambda model, origin: names)
    model = _network()
    load_weights(model, torch_arrays)
    _assert_computes_what_torch_did(model)
    arrays = {f"blocks.0.{n}" if n.startswith("conv") else n: a for n, a in torch_arrays.items()}
    load_weights(model, arrays)
    _assert_computes_what_torch_did(model)
    del arrays["blocks.0.conv.bias"]
    with pytest.raises(WeightsError, match=r"missing \(1\): blocks\.0\.conv\.bias"):
        load_weights(model, arrays)
