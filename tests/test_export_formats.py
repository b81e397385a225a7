import json
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfseg
from tfseg.data.io import read_image
from tfseg.export_formats import check_export_file, export_file
from tfseg.layers.resize import CropLike, PadToMultiple
from tfseg.layers.unpool import MaxUnpool2D
from tfseg.registry import Preprocessing
from tfseg.train.precision import building_in

BGR = Preprocessing("bgr", (103.939, 116.779, 123.68), (58.0, 57.0, 56.0))


def small():
    x = keras.Input((None, None, 3))
    model = keras.Model(x, keras.layers.Conv2D(4, 3, padding="same")(x))
    model.name = "small"
    return model


def test_a_tflite_file_answers_as_the_model(tmp_path):
    model = small()
    path = export_file(
        model, tmp_path / "phone", format="tflite", preprocessing=BGR, classes=("a", "b", "c", "d")
    )
    assert sorted(p.name for p in path.iterdir()) == ["model.tflite", "model_info.json"]
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((9, 12), (20, 7))]
    assert check_export_file(path, model, images, preprocessing=BGR) < 1e-5
    model.layers[-1].kernel.assign(model.layers[-1].kernel * 1.1)
    assert check_export_file(path, model, images, preprocessing=BGR) > 1e-3
    facts = json.loads((path / "model_info.json").read_text())
    assert facts["export"] == {"format": "tflite"}
    assert facts["inputs"]["images"] == {"dtype": "float32", "shape": [None, None, None, 3]}
    assert facts["outputs"]["labels"]["dtype"] == "int32"
    with pytest.raises(FileExistsError, match="1 exists"):
        export_file(model, tmp_path / "phone", format="tflite", preprocessing=BGR, version=1)


@pytest.mark.parametrize("format", ["tflite", "onnx"])
def test_padding_and_unpooling_are_written(tmp_path, format):
    x = keras.Input((None, None, 3))
    padded = PadToMultiple(8)(x)
    pooled = keras.layers.MaxPooling2D(padding="same")(padded)
    y = CropLike(0)([MaxUnpool2D()([pooled, padded]), x])
    model = keras.Model(x, keras.layers.Conv2D(4, 3, padding="same")(y), name="padding")
    path = export_file(model, tmp_path / "file", format=format, preprocessing=BGR)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 256, (*size, 3), dtype=np.uint8) for size in ((17, 16), (24, 23))]
    assert check_export_file(path, model, images, preprocessing=BGR) < 1e-5


def test_what_a_format_has_no_operators_for_is_named(tmp_path):
    class Bessel(keras.layers.Layer):
        def call(self, x):
            return tf.math.bessel_i0(x)

    x = keras.Input((None, None, 3))
    model = keras.Model(x, Bessel()(x), name="odd")
    with pytest.raises(ValueError, match=r"'odd' cannot be written as tflite: .*BesselI0"):
        export_file(model, tmp_path / "odd", format="tflite", preprocessing=BGR)
    assert list((tmp_path / "odd").iterdir()) == []


def test_other_dtypes_and_formats_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown format 'coreml'; there are tflite, onnx"):
        export_file(small(), tmp_path, format="coreml", preprocessing=BGR)
    with building_in("bfloat16"):
        model = small()
    with pytest.raises(ValueError, match="tflite files are of float32"):
        export_file(model, tmp_path, format="tflite", preprocessing=BGR)


def test_onnx_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ImportError, match=r"pip install 'tfseg\[onnx\]'"):
        export_file(small(), tmp_path / "m", format="onnx", preprocessing=BGR)
    assert not (tmp_path / "m").exists()


UNET = ("unet", {"in_channels": 3, "padding": "same", "base_filters": 4})
FCN = ("fcn8s_vgg16", {"base_filters": 4, "fc_filters": 16})
DEEPLAB = ("deeplab_largefov_vgg16", {"base_filters": 4, "fc_filters": 16})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "name", "options"),
    [
        ("tflite", *UNET),
        ("tflite", *FCN),
        ("tflite", *DEEPLAB),
        ("onnx", *UNET),
        ("onnx", *FCN),
        ("onnx", *DEEPLAB),
    ],
)
def test_networks_answer_as_the_model_on_a_photograph(tmp_path, shared, format, name, options):
    pytest.importorskip("tf2onnx" if format == "onnx" else "tensorflow")
    keras.utils.set_random_seed(0)
    model = tfseg.build(name, num_classes=5, **options)
    rng = np.random.default_rng(1)
    for weight in model.weights:  # scores start at zero
        if weight.shape.rank == 4 and not weight.numpy().any():
            weight.assign(rng.normal(0, 0.1, weight.shape))
    preprocessing = model.spec.preprocessing
    path = export_file(model, tmp_path / name, format=format, preprocessing=preprocessing)
    photograph = read_image(min(shared("data/camvid/train").glob("*.jpg")))
    images = [photograph[:112, :128], photograph[100:201, 60:156]]
    assert check_export_file(path, model, images, preprocessing=preprocessing) < 1e-4
