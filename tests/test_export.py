import io
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image
from tensorflow.core.protobuf import saved_model_pb2

import tfseg
from tfseg.export import check_export, export
from tfseg.predict import Predictor
from tfseg.predict.decode import decode_one
from tfseg.registry import Preprocessing

BGR = Preprocessing("bgr", (103.939, 116.779, 123.68), (58.0, 57.0, 56.0))
GRAY = Preprocessing("gray", (127.5,), (255.0,))


def image(height, width, channels=3, seed=0):
    """A smooth picture, as JPEG likes them."""
    rng = np.random.default_rng(seed)
    small = tf.constant(rng.uniform(0, 255, (4, 5, channels)), tf.float32)
    return tf.cast(tf.image.resize(small, (height, width)), tf.uint8).numpy()


def png(picture):
    return tf.io.encode_png(picture).numpy()


def jpeg(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=85)
    return file.getvalue()


def network(channels=3, classes=4):
    """A strided trunk with batch norm, an upsampled head and an auxiliary one."""
    x = keras.Input((None, None, channels))
    y = keras.layers.Conv2D(8, 3, padding="same")(x)
    y = keras.layers.Dropout(0.5)(keras.layers.BatchNormalization()(y))
    logits = keras.layers.Conv2D(classes, 3, padding="same")(y)
    model = keras.Model(x, {"logits": logits, "aux": keras.layers.Conv2D(classes, 1)(y)})
    model.name = "small"
    rng = np.random.default_rng(1)
    model.set_weights([rng.uniform(0.1, 0.9, w.shape) - 0.4 * (w.ndim > 1) for w in model.weights])
    return model


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    model = network()
    path = export(
        model,
        tmp_path_factory.mktemp("saved") / "small",
        preprocessing=BGR,
        classes=("sky", "road", "car", "tree"),
        colors=np.arange(12).reshape(4, 3),
    )
    return model, path, tf.saved_model.load(str(path))


def test_all_signatures_equal_the_eager_model(exported):
    model, path, loaded = exported
    assert path.name == "1"
    pictures = np.stack([image(21, 34, seed=s) for s in range(3)])
    prepared = (pictures[..., ::-1] - np.array(BGR.mean)) / np.array(BGR.std)
    expected = tf.nn.softmax(model(prepared.astype(np.float32), training=False)["logits"]).numpy()
    files = tf.constant([png(p) for p in pictures])
    answers = [
        loaded.signatures["serving_default"](image_bytes=files),
        loaded.signatures["tensor"](images=tf.constant(pictures, tf.float32)),
        loaded.signatures["tensor_uint8"](images=tf.constant(pictures)),
    ]
    for answer in answers:
        assert answer["probabilities"].dtype == tf.float32
        assert answer["labels"].dtype == tf.int32
        np.testing.assert_allclose(answer["probabilities"], expected, atol=1e-5)
        np.testing.assert_array_equal(answer["labels"], expected.argmax(-1))
    assert len(np.unique(expected.argmax(-1))) > 1


def test_other_sizes_and_batches_equal_the_predictor(exported):
    model, _, loaded = exported
    predictor = Predictor(model, BGR)
    for size in ((21, 34), (40, 17)):
        answer = loaded.signatures["tensor_uint8"](images=tf.constant(image(*size)[None]))
        np.testing.assert_allclose(answer["probabilities"][0], predictor(image(*size)), atol=1e-5)


def test_jpeg_is_served_as_it_is_read_from_disk(exported):
    model, _, loaded = exported
    file = jpeg(image(48, 64))
    read = np.asarray(Image.open(io.BytesIO(file)))
    answer = loaded.signatures["serving_default"](image_bytes=tf.constant([file, png(read)]))
    expected = Predictor(model, BGR)(read)
    np.testing.assert_allclose(answer["probabilities"][0], expected, atol=1e-5)
    np.testing.assert_allclose(answer["probabilities"][1], expected, atol=1e-5)


def test_decode_equals_pillow_on_a_photograph(shared):
    file = min(shared("data/camvid/train").glob("*.jpg"))
    np.testing.assert_array_equal(decode_one(file.read_bytes()), np.asarray(Image.open(file)))


def test_images_of_mixed_sizes_and_formats_in_a_batch(exported):
    model, _, loaded = exported
    pictures = [image(9, 7), image(12, 5, channels=1), image(6, 11)]
    read = np.asarray(Image.open(io.BytesIO(jpeg(pictures[2]))))
    files = tf.constant([png(pictures[0]), png(pictures[1]), jpeg(pictures[2])])
    answer = loaded.signatures["serving_default"](image_bytes=files)
    assert answer["sizes"].numpy().tolist() == [[9, 7], [12, 5], [6, 11]]
    assert answer["labels"].shape == (3, 12, 11)
    predictor = Predictor(model, BGR)
    for index, picture in enumerate([*pictures[:2], read]):
        height, width = picture.shape[:2]
        labels, values = (answer[k][index].numpy() for k in ("labels", "probabilities"))
        expected = predictor(picture)
        np.testing.assert_allclose(values[:height, :width], expected, atol=1e-5)
        np.testing.assert_array_equal(labels[:height, :width], expected.argmax(-1))
        assert (labels[height:] == -1).all()
        assert (labels[:, width:] == -1).all()
        assert not values[height:].any()
        assert not values[:, width:].any()
    one_size = loaded.signatures["serving_default"](image_bytes=files[:1])
    assert one_size["sizes"].numpy().tolist() == [[9, 7]]


@pytest.mark.parametrize("files", [[b""], [b"no image"], [png(np.zeros((9, 9, 3), "u1"))[:40]]])
def test_damaged_files_are_invalid_arguments(exported, files):
    serve = exported[2].signatures["serving_default"]
    with pytest.raises(tf.errors.InvalidArgumentError):
        serve(image_bytes=tf.constant([png(image(5, 5)), *files]))
    with pytest.raises(tf.errors.InvalidArgumentError, match="one image or more"):
        serve(image_bytes=tf.constant([], tf.string))
    assert serve(image_bytes=tf.constant([png(image(5, 5))]))["labels"].shape == (1, 5, 5)


def test_labels_as_pngs_of_the_images_sizes(tmp_path):
    model = network()
    path = export(model, tmp_path / "small", preprocessing=BGR, png=True)
    pictures = [image(9, 7), image(12, 5, seed=2)]
    serve = tf.saved_model.load(str(path)).signatures["png"]
    answer = serve(image_bytes=tf.constant([png(p) for p in pictures]))
    assert list(answer) == ["labels_png_bytes"]  # the suffix makes REST answer in base64
    for file, picture in zip(answer["labels_png_bytes"].numpy(), pictures, strict=True):
        labels = Image.open(io.BytesIO(file))
        assert labels.mode == "L"
        np.testing.assert_array_equal(labels, Predictor(model, BGR)(picture).argmax(-1))


def test_labels_of_many_classes_are_pngs_of_16_bits(tmp_path):
    x = keras.Input((None, None, 1))
    places = keras.initializers.Constant(np.arange(300) / 300)
    model = keras.Model(x, keras.layers.Conv2D(300, 1, bias_initializer=places)(x))
    model.layers[-1].kernel.assign(tf.zeros((1, 1, 1, 300)))
    path = export(model, tmp_path / "many", preprocessing=GRAY, png=True)
    serve = tf.saved_model.load(str(path)).signatures["png"]
    (file,) = serve(image_bytes=tf.constant([png(image(4, 6))]))["labels_png_bytes"].numpy()
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(file))), np.full((4, 6), 299))


def test_facts_lie_beside_the_model(exported):
    facts = json.loads((exported[1] / "assets.extra/model_info.json").read_text())
    assert (facts["network"], facts["name"]) == ("small", "small")
    assert facts["classes"] == ["sky", "road", "car", "tree"]
    assert facts["colors"][3] == [9, 10, 11]
    assert facts["preprocessing"]["channels"] == "bgr"
    assert facts["preprocessing"]["mean"] == list(BGR.mean)
    assert facts["versions"]["tfseg"] == tfseg.__version__
    assert facts["export"] == {
        "format": "savedmodel",
        "png": False,
        "xla": False,
        "freeze": False,
    }
    labels = facts["signatures"]["tensor"]["outputs"]["labels"]
    assert labels == {"dtype": "int32", "shape": [None, None, None]}


def test_weights_are_saved_once(exported):
    model, path, _ = exported
    saved = tf.train.list_variables(str(path / "variables/variables"))
    values = sum(np.prod(shape, dtype=int) for _, shape in saved if shape)
    # Without the head that no signature computes, and without what folding takes in.
    assert 0 < values < model.count_params()


def test_loads_where_there_is_no_tfseg(exported, tmp_path):
    model, path, _ = exported
    np.save(tmp_path / "image.npy", image(12, 13))
    program = f"""
import sys
sys.modules["tfseg"] = None
import numpy as np
import tensorflow as tf
loaded = tf.saved_model.load({str(path)!r})
image = np.load("image.npy")
answer = loaded.signatures["serving_default"](image_bytes=tf.io.encode_png(image)[None])
np.save("probabilities.npy", answer["probabilities"].numpy())
"""
    subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, timeout=120)
    served = np.load(tmp_path / "probabilities.npy")[0]
    np.testing.assert_allclose(served, Predictor(model, BGR)(image(12, 13)), atol=1e-5)


def test_check_export_measures_the_difference(exported):
    model, path, _ = exported
    pictures = [image(12, 13), image(9, 20, channels=1)]
    assert check_export(path, model, pictures, preprocessing=BGR) < 1e-5
    changed = network()
    changed.set_weights([w * 1.1 for w in changed.get_weights()])
    assert check_export(path, changed, pictures, preprocessing=BGR) > 1e-3
    with pytest.raises(ValueError, match="no images"):
        check_export(path, model, [], preprocessing=BGR)


def test_versions(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(2, 1)])
    folder = tmp_path / "model"
    assert export(model, folder, preprocessing=GRAY).name == "1"
    assert export(model, folder, preprocessing=GRAY, version=7).name == "7"
    assert export(model, folder, preprocessing=GRAY).name == "8"
    with pytest.raises(FileExistsError, match="7 exists"):
        export(model, folder, preprocessing=GRAY, version=7)
    with pytest.raises(ValueError, match="positive integer"):
        export(model, folder, preprocessing=GRAY, version=0)
    with pytest.raises(ValueError, match="classes has 3 entries, the model 2"):
        export(model, folder, preprocessing=GRAY, classes=("a", "b", "c"))
    assert sorted(p.name for p in folder.iterdir()) == ["1", "7", "8"]


def test_a_failed_export_leaves_nothing(tmp_path):
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(2, 1)])
    with pytest.raises(TypeError):
        export(model, tmp_path / "model", preprocessing=GRAY, info={"not": object()})
    assert list((tmp_path / "model").iterdir()) == []


def test_gray_network_takes_gray_and_colour_files(tmp_path):
    model = network(channels=1)
    path = export(model, tmp_path / "gray", preprocessing=GRAY)
    pictures = [image(10, 11, channels=1), image(10, 11)]
    assert check_export(path, model, pictures, preprocessing=GRAY) < 1e-5
    signatures = tf.saved_model.load(str(path)).signatures
    answer = signatures["serving_default"](image_bytes=tf.constant([png(p) for p in pictures]))
    for index, picture in enumerate(pictures):
        expected = Predictor(model, GRAY)(picture)
        np.testing.assert_allclose(answer["probabilities"][index], expected, atol=1e-5)


def test_a_network_compiled_by_xla(tmp_path):
    model = network()
    path = export(model, tmp_path / "compiled", preprocessing=BGR, xla=True)
    assert json.loads((path / "assets.extra/model_info.json").read_text())["export"]["xla"]
    assert check_export(path, model, [image(12, 13), image(9, 20)], preprocessing=BGR) < 1e-5
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    compiled = [f for f in functions if f.attr["_XlaMustCompile"].b]
    assert any("Conv2D" in (node.op for node in f.node_def) for f in compiled)
    assert not any("Decode" in node.op for f in compiled for node in f.node_def)


def test_weights_as_constants(tmp_path):
    model = network()
    path = export(model, tmp_path / "constant", preprocessing=BGR, freeze=True)
    assert json.loads((path / "assets.extra/model_info.json").read_text())["export"]["freeze"]
    assert check_export(path, model, [image(12, 13), image(9, 20)], preprocessing=BGR) < 1e-5
    saved = tf.train.list_variables(str(path / "variables/variables"))
    assert not any(shape for _, shape in saved)
    with pytest.raises(ValueError, match="xla and freeze do not go together"):
        export(model, tmp_path / "both", preprocessing=BGR, freeze=True, xla=True)


@pytest.mark.parametrize("freeze", [False, True])
def test_large_convolutions_are_packed(tmp_path, monkeypatch, freeze):
    monkeypatch.setattr("tfseg.layers.fold.LARGE", 0)
    model = network()
    path = export(model, tmp_path / "packed", preprocessing=BGR, freeze=freeze)
    saved = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    functions = saved.meta_graphs[0].graph_def.library.function
    assert freeze != any("Conv3D" in (node.op for node in f.node_def) for f in functions)
    assert check_export(path, model, [image(12, 13), image(20, 21)], preprocessing=BGR) < 1e-5


def test_mixed_precision_exports_float32(tmp_path):
    x = keras.Input((None, None, 1))
    model = keras.Model(x, keras.layers.Conv2D(2, 3, padding="same", dtype="mixed_bfloat16")(x))
    path = export(model, tmp_path / "mixed", preprocessing=GRAY)
    assert check_export(path, model, [image(10, 11, channels=1)], preprocessing=GRAY) < 1e-5
    answer = tf.saved_model.load(str(path)).signatures["tensor"](images=tf.zeros((1, 4, 5, 1)))
    assert answer["probabilities"].dtype == tf.float32


def test_valid_unet_exports_its_smaller_answer(tmp_path):
    model = tfseg.build("unet", num_classes=2, base_filters=2)
    path = export(model, tmp_path / "unet", preprocessing=model.spec.preprocessing)
    picture = image(204, 220, channels=1)
    assert check_export(path, model, [picture], preprocessing=model.spec.preprocessing) < 1e-5
    answer = tf.saved_model.load(str(path)).signatures["tensor_uint8"](images=picture[None])
    assert answer["labels"].shape == (1, 20, 36)
