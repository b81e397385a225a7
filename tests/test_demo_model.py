import io
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from detector_stand_in import PLAIN, StandIn
from PIL import Image

from tfseg import config, runs
from tfseg import experiment as experiments
from tfseg.data import DataError, open_reader
from tfseg.demo_model import SemanticFound, open_model
from tfseg.export import export
from tfseg.export_detector import export_detector
from tfseg.predict import DetectionPredictor, Predictor, draw_detections
from tfseg.predict.panoptic import Combiner
from tfseg.predict.panoptic_files import draw_panoptic
from tfseg.registry import Preprocessing
from tfseg.visualize import overlay

COLORS = np.array([[9, 9, 9], [200, 30, 40], [30, 200, 50]], np.uint8)
NAMES = ("sky", "road", "car")
GRAY = Preprocessing("gray", (100.0,), (80.0,))
SIZES = {"short_side": 60, "long_side": 100, "divisor": 32}


def image(height, width, channels=3, seed=0):
    """A smooth picture, as JPEG likes them."""
    small = np.random.default_rng(seed).uniform(0, 255, (4, 5, channels)).astype(np.float32)
    return tf.cast(tf.image.resize(small, (height, width)), tf.uint8).numpy()


def encoded(picture, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(picture.squeeze()).save(file, kind, **options)
    return file.getvalue()


@pytest.fixture(scope="module")
def gray(tmp_path_factory):
    """A gray network of three classes, and its export."""
    x = keras.Input((None, None, 1))
    model = keras.Model(x, {"logits": keras.layers.Conv2D(3, 3, padding="same")(x)}, name="small")
    weights = np.random.default_rng(3).uniform(-1, 1, (3, 3, 1, 3))
    model.set_weights([weights.astype(np.float32), np.zeros(3, np.float32)])
    folder = tmp_path_factory.mktemp("saved") / "gray"
    export(model, folder, preprocessing=GRAY, classes=NAMES, colors=COLORS)
    return model, folder


def test_the_newest_version_is_taken(gray, tmp_path):
    for version in ("1", "9", "10"):
        shutil.copytree(gray[1] / "1", tmp_path / version)
    (tmp_path / ".partial-11").mkdir()
    assert open_model(tmp_path).name == "gray, version 10"
    assert open_model(tmp_path / "9").name == "gray, version 9"


def test_a_semantic_export_shows_the_predictors_labels(gray):
    model, folder = gray
    shown = open_model(folder)
    assert shown.threshold is None
    assert shown.facts == ("network small", "3 classes", "30 parameters")
    picture = image(40, 60)
    read, found = shown.look(encoded(picture), "a.png")
    np.testing.assert_array_equal(read, picture)
    drawn, rows = found.show(0.0)
    probabilities = Predictor(model, GRAY)(picture)
    labels = probabilities.argmax(-1)
    np.testing.assert_array_equal(drawn, overlay(picture, labels, COLORS))
    shares = {NAMES[c]: (labels == c).mean() for c in np.unique(labels)}
    assert len(shares) > 1
    assert {row.name: row.share for row in rows} == pytest.approx(shares)
    assert [row.share for row in rows] == sorted(shares.values(), reverse=True)
    for row in rows:
        label = NAMES.index(row.name)
        np.testing.assert_array_equal(row.color, COLORS[label])
        assert row.score == pytest.approx(probabilities[..., label][labels == label].mean(), 1e-4)


def test_files_are_read_as_the_library_reads_them(gray):
    shown = open_model(gray[1])
    deep = (np.arange(30 * 40).reshape(30, 40) * 50).astype(np.uint16)
    read, _ = shown.look(encoded(deep), "deep.png")
    np.testing.assert_array_equal(read, (deep >> 8)[..., None])
    turned = Image.Exif()
    turned[0x0112] = 6
    read, found = shown.look(encoded(image(30, 40), "JPEG", exif=turned), "turned.jpg")
    assert read.shape == found.show(0)[0].shape == (40, 30, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "a.png is empty"),
        (b"junk", "a.png is damaged or none of the formats"),
        (encoded(image(30, 40))[:200], "a.png cannot be decoded, it is damaged or truncated"),
    ],
)
def test_what_is_wrong_with_a_file(gray, data, message):
    with pytest.raises(DataError, match=message):
        open_model(gray[1]).look(data, "a.png")


def test_the_largest_image(gray, monkeypatch):
    monkeypatch.setattr("tfseg.demo_model.MAX_PIXELS", 1199)
    with pytest.raises(DataError, match=r"a.png is 40 x 30 = 1,200 pixels, the limit is 1,199"):
        open_model(gray[1]).look(encoded(image(30, 40)), "a.png")


def test_a_size_that_a_network_does_not_take(tmp_path):
    x = keras.Input((None, None, 1))
    y = keras.layers.Conv2D(2, 21)(x)
    model = keras.Model(x, {"logits": y}, name="valid")
    shown = open_model(export(model, tmp_path / "valid", preprocessing=GRAY))
    with pytest.raises(DataError, match="read, but the model fails on images of 30 x 12 pix"):
        shown.look(encoded(image(12, 30)), "a.png")
    _, found = shown.look(encoded(image(40, 30)), "a.png")
    assert found.labels.shape == (20, 10)
    assert found.show(0)[0].shape == (40, 30, 3)


def test_labels_of_the_centre_leave_the_border_as_it_is():
    picture = image(6, 8)
    labels = np.ones((2, 4), int)
    found = SemanticFound(picture, labels, np.full((2, 4), 0.5, np.float32), NAMES, COLORS)
    drawn, rows = found.show(0)
    inside = np.zeros((6, 8), bool)
    inside[2:4, 2:6] = True
    assert (drawn != picture).any(-1)[inside].all()
    # a border is drawn on the pixels before it, of which those without a label stay as they are
    np.testing.assert_array_equal(drawn[~inside], picture[~inside])
    assert [(row.name, row.share, row.score) for row in rows] == [("road", 1.0, 0.5)]


@pytest.fixture(scope="module")
def detector(tmp_path_factory):
    """A panoptic detector with keypoints, and its export."""
    model = StandIn(keypoints=True, semantic=True)
    path = export_detector(
        model,
        tmp_path_factory.mktemp("saved") / "found",
        preprocessing=PLAIN,
        classes=("cat", "dog", "bird"),
        keypoints=("nose", "tail"),
        skeleton=((0, 1),),
        info={"category_ids": [7, 5, 3], "stuff": {9: "sky"}},
        **SIZES,
    )
    return model, path


def test_objects_above_the_threshold(detector, tmp_path):
    model, path = detector
    shutil.copytree(path, tmp_path / "1")
    file = tmp_path / "1/assets.extra/model_info.json"
    facts = json.loads(file.read_text()) | {"stuff": None, "task": "keypoint"}
    file.write_text(json.dumps(facts))
    shown = open_model(tmp_path)
    assert shown.threshold == 0.5
    assert shown.facts[0] == "keypoint network stand_in"
    picture = image(40, 60)
    _, found = shown.look(encoded(picture), "a.png")
    expected = DetectionPredictor(model, PLAIN, **SIZES)(picture)
    for threshold, count in ((0.0, 3), (float(expected.scores[1]), 1), (1.0, 0)):
        drawn, rows = found.show(threshold)
        sure = expected.above(threshold)
        wanted = draw_detections(picture, sure, ("cat", "dog", "bird"), skeleton=[(0, 1)])
        np.testing.assert_array_equal(drawn, wanted)
        assert [row.name for row in rows] == ["bird", "cat", "dog"][:count]
        assert [row.score for row in rows] == pytest.approx(sure.scores.tolist(), 1e-5)
        assert all((drawn == row.color).all(-1).any() for row in rows)


def test_a_panoptic_map(detector):
    model, path = detector
    shown = open_model(path)
    assert shown.threshold == 0.5
    picture = np.ascontiguousarray(image(120, 160, seed=2))
    _, found = shown.look(encoded(picture), "a.png")
    objects = DetectionPredictor(model, PLAIN, **SIZES)(picture)
    for threshold in (0.0, 0.99):
        combiner = Combiner({7: "cat", 5: "dog", 3: "bird"}, {9: "sky"}, score_threshold=threshold)
        ids, segments = combiner(objects)
        drawn, rows = found.show(threshold)
        np.testing.assert_array_equal(
            drawn, draw_panoptic(picture, objects, ids, segments, combiner)
        )
        assert len(rows) == len(segments)
        for row, segment in zip(rows, segments, strict=True):
            kind = combiner.things if segment["isthing"] else combiner.stuff
            assert row.name == kind[segment["category_id"]]
            assert row.share == pytest.approx((ids == segment["id"]).mean())
            assert (row.score is None) == (not segment["isthing"])
            assert (drawn[ids == segment["id"]] == row.color).all(-1).any()
    assert [row.name for row in found.show(0.99)[1]] == ["sky"]


def test_a_run_folder(tmp_path):
    data = {"reader": "shapes", "options": {"size": 32, "count": 2}}
    options = {"in_channels": 3, "base_filters": 2, "padding": "same"}
    tree = {
        "name": "tiny",
        "model": {"name": "unet", "num_classes": 5, "options": options},
        "data": {"train": data},
        "train": {"steps": 1, "batch_size": 1, "optimizer": {"learning_rate": 0.1}},
        "predict": {"flip": True},
    }
    experiment = config.Experiment.model_validate(tree)
    reader = open_reader("shapes", 255, **data["options"])
    runs.save(tmp_path / "run", experiment, reader)
    keras.utils.set_random_seed(1)
    model = experiments.build_model(experiment)
    model.save_weights(tmp_path / "run/best.weights.h5")
    shown = open_model(tmp_path / "run")
    assert (shown.name, shown.facts[0]) == ("tiny", "semantic network unet")
    picture = reader[0]["image"]
    _, found = shown.look(encoded(picture), "a.png")
    labels = experiments.make_predictor(model, experiment.predict, None)(picture).argmax(-1)
    drawn, rows = found.show(0.0)
    np.testing.assert_array_equal(drawn, overlay(picture, labels, reader.colors))
    assert {row.name for row in rows} == {reader.classes[c] for c in np.unique(labels)}


@pytest.mark.parametrize("files", [(), ("1/model.onnx",), ("1/saved_model.pb",)])
def test_what_is_no_model_is_named(tmp_path, files):
    for file in files:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()
    with pytest.raises(FileNotFoundError, match="is missing: give the folder of a SavedModel"):
        open_model(tmp_path)
