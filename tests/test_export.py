import io
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

import tfseg
from tfseg.export import check_export, export
from tfseg.predict import Predictor
from tfseg.predict.graph import decode
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
        loaded.signatures["tensors"](images=tf.constant(pictures, tf.float32)),
        loaded.signatures["tensors_uint8"](images=tf.constant(pictures)),
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
        answer = loaded.signatures["tensors_uint8"](images=tf.constant(image(*size)[None]))
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
    decoded = decode(tf.constant([file.read_bytes()])).numpy()[0]
    np.testing.assert_array_equal(decoded, np.asarray(Image.open(file)))


def test_decode_in_a_batch_of_formats():
    file = jpeg(image(9, 7))
    read = np.asarray(Image.open(io.BytesIO(file)))
    np.testing.assert_array_equal(decode([png(read), file, png(read)]), np.stack([read] * 3))
    gray = image(9, 7, channels=1)
    np.testing.assert_array_equal(decode([png(gray)])[0], np.repeat(gray, 3, axis=2))
    with pytest.raises(tf.errors.InvalidArgumentError):
        decode([png(gray)[:50]])


def test_images_of_two_sizes_in_a_batch(exported):
    files = tf.constant([png(image(9, 9)), png(image(9, 9)), png(image(9, 8))])
    with pytest.raises(tf.errors.InvalidArgumentError, match="one batch must have one size"):
        exported[2].signatures["serving_default"](image_bytes=files)


def test_facts_lie_beside_the_model(exported):
    facts = json.loads((exported[1] / "assets.extra/tfseg.json").read_text())
    assert facts["model"] == "small"
    assert facts["classes"] == ["sky", "road", "car", "tree"]
    assert facts["colors"][3] == [9, 10, 11]
    assert facts["preprocessing"]["channels"] == "bgr"
    assert facts["preprocessing"]["mean"] == list(BGR.mean)
    assert facts["tfseg"] == tfseg.__version__


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


def test_a_failed_export_leaves_nothing(tmp_path, monkeypatch):
    model = keras.Sequential([keras.Input((None, None, 1)), keras.layers.Conv2D(2, 1)])
    monkeypatch.setattr("tfseg.export._facts", lambda *_: {"not": object()})
    with pytest.raises(TypeError):
        export(model, tmp_path / "model", preprocessing=GRAY)
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


def test_mixed_precision_exports_float32(tmp_path):
    x = keras.Input((None, None, 1))
    model = keras.Model(x, keras.layers.Conv2D(2, 3, padding="same", dtype="mixed_bfloat16")(x))
    path = export(model, tmp_path / "mixed", preprocessing=GRAY)
    assert check_export(path, model, [image(10, 11, channels=1)], preprocessing=GRAY) < 1e-5
    answer = tf.saved_model.load(str(path)).signatures["tensors"](images=tf.zeros((1, 4, 5, 1)))
    assert answer["probabilities"].dtype == tf.float32


def test_valid_unet_exports_its_smaller_answer(tmp_path):
    model = tfseg.build("unet", num_classes=2, base_filters=2)
    path = export(model, tmp_path / "unet", preprocessing=model.spec.preprocessing)
    picture = image(204, 220, channels=1)
    assert check_export(path, model, [picture], preprocessing=model.spec.preprocessing) < 1e-5
    answer = tf.saved_model.load(str(path)).signatures["tensors_uint8"](images=picture[None])
    assert answer["labels"].shape == (1, 20, 36)
