"""Evaluation with the stuff challenge's scores, and with the boost of rare labels."""

import json

import numpy as np
import pytest

from tfseg import config, evaluation, experiment, runs
from tfseg.data.readers import cocostuff_labels

CONFIG = {
    "name": "tiny",
    "model": {
        "name": "unet",
        "num_classes": 5,
        "options": {"in_channels": 3, "base_filters": 2, "padding": "same"},
    },
    "data": {"train": {"reader": "shapes", "options": {"size": 32, "count": 3}}},
    "train": {"steps": 1, "batch_size": 1, "optimizer": {"learning_rate": 0.1}},
}


class Stuff:
    """Two images of the challenge's classes: banner and blanket, other and void."""

    classes = cocostuff_labels.CHALLENGE
    colors = None
    ignore_label = 255

    def __len__(self):
        return 2

    def __getitem__(self, index):
        mask = np.array([[[0, 0, 1]], [[91, 91, 255]]], np.int32)[index]
        return {"name": str(index), "image": np.full((1, 3, 3), index, np.uint8), "mask": mask}

    def keys(self):
        return ("name", "image", "mask")


def test_stuff_scores_are_reported():
    """Banner everywhere: right at 2 of 5 pixels, at 3 in supercategories (blanket is textile)."""

    def banner(image):
        return np.eye(92, dtype=np.float32)[np.zeros(image.shape[:2], int)]

    metrics = config.Metrics(cocostuff=True)
    found = evaluation.evaluate(banner, Stuff(), metrics, progress=False).summary()
    assert found["stuff_pixel_accuracy"] == pytest.approx(2 / 5)
    assert found["stuff_mean_iou"] == pytest.approx(2 / 5 / 3)
    assert found["stuff_super_pixel_accuracy"] == pytest.approx(3 / 5)
    assert found["stuff_super_mean_accuracy"] == pytest.approx(1 / 2)


def test_stuff_scores_need_the_challenges_classes():
    """Found on opening the validation split, before a training has begun."""
    tree = {**CONFIG, "metrics": {"cocostuff": True}}
    tree["data"] = {**tree["data"], "validation": tree["data"]["train"]}
    made = config.parse(tree)
    expected = r"cocostuff needs the 92 classes .*these are background, circle"
    with pytest.raises(config.ConfigError, match=expected):
        experiment.open_split(made, "validation")


def test_label_pixels_are_counted_once(tmp_path):
    made = config.parse(CONFIG)
    reader = experiment.open_split(made, "train")
    expected = np.bincount(np.ravel([s["mask"] for s in reader]), minlength=5)
    found = runs.label_pixels(tmp_path, made, progress=False)
    np.testing.assert_array_equal(found, expected)

    kept = json.loads((tmp_path / "label_pixels.json").read_text())
    assert kept["pixels"] == dict(zip(reader.classes, expected.tolist(), strict=True))
    kept["pixels"]["circle"] = 7
    (tmp_path / "label_pixels.json").write_text(json.dumps(kept))
    assert runs.label_pixels(tmp_path, made, progress=False)[1] == 7

    other = config.parse(config.override(CONFIG, ["data.train.options.count=2"]))
    found = runs.label_pixels(tmp_path, other, progress=False)
    assert found.sum() == 2 * 32 * 32


def test_predictor_with_boost():
    section = config.Predict(label_boost=0.5)
    model = experiment.build_model(config.parse(CONFIG))
    with pytest.raises(ValueError, match="label_boost needs the pixel counts"):
        experiment.make_predictor(model, section)
    pixels = np.array([1000, 10, 10, 10, 0])
    image = np.random.default_rng(0).integers(0, 256, (32, 32, 3)).astype(np.uint8)
    plain = experiment.make_predictor(model, config.Predict())(image)
    scores = plain * (np.array([1000, 10, 10, 10, 1030]) / 1030) ** -0.5
    boosted = experiment.make_predictor(model, section, pixels)(image)
    expected = scores / scores.sum(-1, keepdims=True)
    np.testing.assert_allclose(boosted, expected, rtol=1e-4)
