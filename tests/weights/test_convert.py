"""tfseg convert, on checkpoints of the released names and shapes."""

import json

import keras
import numpy as np
import pytest
from click.testing import CliRunner

import tfseg
from tfseg.cli import main
from tfseg.weights.convert import convert
from tfseg.weights.goldens import synthetic_array

SMALL = ("--set", "base_filters=2", "--set", "fc_filters=8")


@pytest.fixture(scope="module")
def checkpoint(shared):
    """torchvision's names, shapes and made-up values of MobileNetV2."""
    with np.load(shared("goldens/torchvision__mobilenet_v2.npz"), allow_pickle=False) as file:
        params = json.loads(str(file["meta"]))["params"]
    return {name: synthetic_array(name, tuple(s), 0, 2.0) for name, s in params.items()}


def _write(path, arrays):
    """An .npz under any name: the content decides the format."""
    with path.open("wb") as file:
        np.savez(file, **arrays)
    return path


def _run(*words, code=0):
    result = CliRunner().invoke(main, ["convert", *map(str, words)])
    assert result.exit_code == code, result.output
    return result.output


def test_a_released_file_needs_no_more_than_its_name(tmp_path, checkpoint):
    source = _write(tmp_path / "mobilenet_v2-b0353104.pth", checkpoint)
    out = tmp_path / "mobilenet_v2-b0353104.safetensors"
    said = _run(source, "--to", "native")
    assert f"mobilenet_v2, 1000 classes, {3504872 + 34112:,} values" in said
    assert str(out) in said
    arrays, origin = tfseg.weights.read_weights(out)
    assert origin == "tfseg"
    model = tfseg.build("mobilenet_v2", weights=source)
    for layer in model.layers:
        for variable in layer.weights:
            expected = keras.ops.convert_to_numpy(variable)
            np.testing.assert_array_equal(arrays.pop(f"{layer.name}/{variable.name}"), expected)
    assert not arrays
    assert "exists" in _run(source, code=1)


def test_other_files_need_the_network(tmp_path, checkpoint):
    head = {"classifier.1.weight": np.ones((5, 1280), np.float32), "classifier.1.bias": np.ones(5)}
    source = _write(tmp_path / "mine.npz", {**checkpoint, **head})
    out = tmp_path / "sub" / "mine.safetensors"
    assert "name the network" in _run(source, code=1)
    said = _run(source, "--model", "mobilenet_v2", "--out", out, code=1)
    assert "classifier.1.weight is (5, 1280), the model's is (1000, 1280)" in said
    assert not out.parent.exists()
    network, path = convert(
        source, out, model="mobilenet_v2", num_classes=5, options={"dropout": 0.5}
    )
    assert path == out
    assert network.spec.num_classes == 5
    assert network.spec.options["dropout"] == 0.5
    network.get_layer("classifier.1").kernel.assign(np.zeros((1280, 5)))
    tfseg.load_weights(network, out)
    assert keras.ops.convert_to_numpy(network.get_layer("classifier.1").kernel).min() == 1


@pytest.mark.parametrize(
    ("name", "words", "message"),
    [
        ("x.npz", (), "no released file is called 'x.npz'; known: DeconvNet_trainval"),
        ("resnet50.pth", (), "did you mean"),
        ("train2_iter_20000.caffemodel", (), "name the model, of deeplab_aspp_vgg16, deeplab_"),
        ("vgg_conv.caffemodel", (), "fills the trunk of dilated*_vgg16 and no whole network"),
        ("x.npz", ("--model", "mobilenet"), "unknown model 'mobilenet'; did you mean"),
        ("x.npz", ("--model", "unet", "--set", "paddin=same"), "did you mean 'padding'"),
        ("x.npz", ("--model", "unet", "--set", "padding"), "expected key=value"),
        ("x.npz", ("--out", "x.h5"), "saved as .safetensors, not as 'x.h5'"),
        ("fcn8s-heavy-pascal.caffemodel", SMALL, "cut off"),
    ],
)
def test_mistakes_are_named(tmp_path, name, words, message):
    path = tmp_path / name
    path.write_bytes(b"PK\x03\x04")
    said = _run(path, *words, code=1)
    assert said.startswith("Error: ")
    assert message in said
    assert list(tmp_path.iterdir()) == [path]


def test_formats_are_a_closed_set(tmp_path):
    path = _write(tmp_path / "x.npz", {"a": np.ones(1)})
    assert "'native'" in _run(path, "--to", "onnx", code=2)
