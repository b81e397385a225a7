"""DeconvNet's two stages, its batch statistics and its proposals, from an experiment file."""

import numpy as np
import pytest
import yaml
from PIL import Image

from tfseg import config, experiment
from tfseg.predict.proposals import ProposalPredictor, save_proposals
from tfseg.train.batch_statistics import estimate_batch_statistics

TREE = {
    "name": "tiny",
    "model": {
        "name": "deconvnet_vgg16",
        "num_classes": 21,
        "options": {"base_filters": 2, "fc_filters": 4},
    },
    "data": {
        "train": {"reader": "voc_objects"},
        "transforms": [{"resize": {"size": [200, 200]}}, {"crop": {"size": [193, 193]}}],
    },
    "train": {
        "steps": 2,
        "batch_size": 2,
        "optimizer": {"learning_rate": 0.01, "bias_multiplier": 2},
    },
}


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def voc(tmp_path):
    random = np.random.default_rng(0)
    for name in "ab":
        _save(tmp_path / f"JPEGImages/{name}.jpg", random.integers(0, 256, (60, 80, 3)))
        numbers = np.zeros((60, 80))
        numbers[10:40, 20:60] = 1
        _save(tmp_path / f"SegmentationObject/{name}.png", numbers)
        _save(tmp_path / f"SegmentationClass/{name}.png", numbers * 12)
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    return tmp_path


@pytest.mark.slow
def test_two_stages(voc, tmp_path):
    boxes = tmp_path / "boxes.npz"
    images = sorted((voc / "JPEGImages").glob("*.jpg"))
    save_proposals(images, lambda image: [[22, 8, 58, 41], [0, 0, 5, 5]], boxes, progress=False)
    options = {"root": str(voc)}
    second = {
        "data.train": {
            "reader": "voc_proposals",
            "options": {**options, "proposals": str(boxes)},
        },
        "train.batch_statistics": 3,
    }
    stages = [{"name": "objects"}, {"name": "proposals", "set": second}]
    tree = {**TREE, "stages": stages}
    tree["data"] = {**TREE["data"], "train": {"reader": "voc_objects", "options": options}}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(tree))
    parsed = config.load_stages(path)
    run = tmp_path / "run"
    outcome = experiment.train_stages(parsed, run)
    assert outcome.step == 2

    last = parsed[1]
    model = experiment.build_model(last, run / "proposals/last.weights.h5")
    saved = [np.array(v) for v in model.non_trainable_variables]
    reader = experiment.open_split(last, "train")
    data = experiment.make_dataset(last, reader, model.spec.preprocessing, run, 2)
    estimate_batch_statistics(model, (batch["image"] for batch in data), 3)
    for before, variable in zip(saved, model.non_trainable_variables, strict=True):
        np.testing.assert_allclose(before, variable, rtol=1e-4, atol=1e-6)
    # Resumed after its last step, the stage measures again.
    path = run / "proposals/last.weights.h5"
    path.unlink()
    experiment.train_stages(parsed, run, resume=True)
    again = experiment.build_model(last, path)
    for before, variable in zip(saved, again.non_trainable_variables, strict=True):
        np.testing.assert_allclose(before, variable, rtol=1e-4, atol=1e-6)
    # The first stage kept its moving averages, which hold their start.
    first = experiment.build_model(parsed[0], run / "objects/last.weights.h5")
    variance = first.get_layer("debn1_2").moving_variance
    assert np.abs(np.array(variance) - 0.9**2).max() < 0.19


def _parse(predict):
    data = {**TREE["data"], "train": {"reader": "voc_objects", "options": {"root": "."}}}
    return config.parse({**TREE, "data": data, "predict": predict})


def test_proposals_in_the_config(monkeypatch):
    section = _parse(
        {"proposals": {"edge_boxes": "model.yml.gz", "max_proposals": 7}, "batch_size": 4}
    ).predict
    assert config.Predict.model_validate(section.model_dump()) == section
    model = experiment.build_model(_parse({}))
    with pytest.raises((FileNotFoundError, ImportError)):
        experiment.make_predictor(model, section)
    monkeypatch.setattr(experiment, "edge_boxes", lambda path: lambda image: np.zeros((0, 4)))
    assert isinstance(experiment.make_predictor(model, section), ProposalPredictor)


def test_proposals_stand_alone():
    with pytest.raises(config.ConfigError, match="cannot be combined with scales, flip"):
        _parse({"proposals": {"edge_boxes": "x"}, "flip": True, "scales": [1.0, 2.0]})
    with pytest.raises(config.ConfigError, match=r"predict\.proposals\.edge_boxes: missing"):
        _parse({"proposals": {}})
