import keras
import numpy as np
import pytest
import tensorflow as tf
from detector_stand_in import PLAIN, StandIn

from tfseg.export import export
from tfseg.export_detector import export_detector
from tfseg.registry import Preprocessing
from tfseg.warmup import FILE, prediction_log

logs = pytest.importorskip("tensorflow_serving.apis.prediction_log_pb2")


def test_the_official_messages_are_the_same():
    image = np.arange(300, dtype=np.uint8).reshape(1, 10, 10, 3)  # lengths of one byte and of two
    sizes = np.array([[1.5, 2.5]], np.float32)
    data = prediction_log("road", "network", {"images": image, "sizes": sizes})
    expected = logs.PredictionLog()
    request = expected.predict_log.request
    request.model_spec.name, request.model_spec.signature_name = "road", "network"
    for name, value in (("images", image), ("sizes", sizes)):
        request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    found = logs.PredictionLog()
    found.ParseFromString(data)
    assert found == expected


def replay(path):
    """What a SavedModel answers to its warmup requests, by signature, as the server runs them."""
    signatures = tf.saved_model.load(str(path)).signatures
    answers = {}
    for record in tf.data.TFRecordDataset(str(path / "assets.extra" / FILE)):
        log = logs.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        assert request.model_spec.name == path.parent.name
        inputs = {k: tf.constant(tf.make_ndarray(v)) for k, v in request.inputs.items()}
        name = request.model_spec.signature_name
        answers[name] = signatures[name](**inputs)
    assert answers.keys() == signatures.keys()
    return answers


def test_a_semantic_model_answers_its_requests(tmp_path):
    x = keras.Input((None, None, 3))
    model = keras.Model(x, keras.layers.Conv2D(4, 3, padding="same")(x))
    plain = Preprocessing("rgb", (0.0, 0.0, 0.0), (255.0, 255.0, 255.0))
    answers = replay(export(model, tmp_path / "road", preprocessing=plain, png=True))
    gray = model(np.full((1, 64, 64, 3), 128 / 255, np.float32))
    for name in ("serving_default", "tensor", "tensor_uint8"):
        found = answers[name]["probabilities"]
        np.testing.assert_allclose(found, tf.nn.softmax(gray), atol=1e-5)
    assert answers["png"]["labels_png_bytes"].shape == (1,)


def test_a_valid_networks_requests_have_a_size_that_it_takes(tmp_path):
    x = keras.Input((None, None, 1))
    y = keras.layers.MaxPooling2D()(keras.layers.Conv2D(2, 5)(x))
    model = keras.Model(x, keras.layers.UpSampling2D()(y))
    gray = Preprocessing("gray", (0.0,), (255.0,))
    answers = replay(export(model, tmp_path / "valid", preprocessing=gray))
    assert answers["tensor"]["labels"].shape[1] > 64


def test_a_panoptic_model_answers_its_requests(tmp_path):
    sizes = {"short_side": 60, "long_side": 100, "divisor": 32}
    path = export_detector(
        StandIn(semantic=True), tmp_path / "things", preprocessing=PLAIN, png=True, **sizes
    )
    answers = replay(path)
    assert set(answers) == {
        *("serving_default", "tensor", "tensor_uint8", "network", "pasted", "png")
    }
    for name in ("serving_default", "tensor", "tensor_uint8", "pasted", "png"):
        assert answers[name]["num_detections"].numpy().tolist() == [3]
        np.testing.assert_allclose(
            answers[name]["scores"][0, :3], np.array([1, 0.8, 0.6]) * 128 / 255, rtol=1e-5
        )
    labels = tf.io.decode_png(answers["png"]["semantic_png_bytes"][0])[..., 0]
    np.testing.assert_array_equal(labels, answers["serving_default"]["semantic"][0])
