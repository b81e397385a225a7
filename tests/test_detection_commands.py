"""A detector from its experiment file to its export, on the command line."""

import json

import numpy as np
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from PIL import Image, ImageDraw

from tfseg import config
from tfseg import experiment as experiments
from tfseg.cli import main
from tfseg.experiment import with_best_metric

NAMES = ("square", "disc")
NETWORK = {"anchor_sizes": [8, 16, 32, 64, 128], "max_detections": 20, "freeze_at": 0}


def _draw(folder):
    """Four images of squares and discs, and their annotations in COCO's format."""
    images, annotations = [], []
    for number in range(1, 5):
        size = (96, 80 + 8 * number)
        picture = Image.new("RGB", size[::-1], (30, 40, 50))
        draw, random = ImageDraw.Draw(picture), np.random.RandomState(number)
        for place in range(2):
            x, y, side = 5 + 45 * place, int(random.randint(5, 40)), int(random.randint(24, 36))
            box = [x, y, x + side, y + side]
            kind = int(random.randint(2))
            if kind:
                draw.ellipse(box, fill=(220, 60, 40))
                turns = np.linspace(0, 2 * np.pi, 24, endpoint=False)
                points = np.stack([np.cos(turns), np.sin(turns)], 1) * side / 2
                polygon = (points + np.array([x, y]) + side / 2).ravel().tolist()
            else:
                draw.rectangle(box, fill=(40, 200, 60))
                polygon = [x, y, x + side, y, x + side, y + side, x, y + side]
            annotations.append(
                {
                    "id": 10 * number + place,
                    "image_id": number,
                    "category_id": 3 + 4 * kind,
                    "bbox": [x, y, side, side],
                    "area": side * side,
                    "iscrowd": 0,
                    "segmentation": [polygon],
                }
            )
        picture.save(folder / f"{number}.png")
        images.append(
            {"id": number, "file_name": f"{number}.png", "height": size[0], "width": size[1]}
        )
    categories = [{"id": i, "name": n} for i, n in zip((3, 7), NAMES, strict=True)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "objects.json").write_text(json.dumps(content))
    options = {"images": str(folder), "annotations": str(folder / "objects.json")}
    return {"reader": "coco", "options": options}


def _experiment(split, **changes):
    tree = {
        "name": "drawn",
        "model": {"name": "mask_rcnn_mobilenet_v2_fpn", "num_classes": 2, "options": NETWORK},
        "data": {
            "train": split,
            "validation": split,
            "transforms": [{"resize_short_side": {"sizes": [64, 96]}}, {"flip": {}}],
        },
        "train": {
            "steps": 2,
            "batch_size": 2,
            "validate_every": 2,
            "optimizer": {"learning_rate": 0.001},
            "rcnn": {"roi_samples": 16},
        },
        # Untrained, nothing scores much.
        "detect": {"short_side": 64, "long_side": 128, "score_threshold": 0.0},
    }
    for key, value in changes.items():
        section, _, name = key.partition("__")
        tree[section][name] = value
    return tree


def _run(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    return _draw(tmp_path_factory.mktemp("drawn"))


@pytest.fixture(scope="module")
def run(split, tmp_path_factory):
    """A finished run folder."""
    folder = tmp_path_factory.mktemp("detection")
    path = folder / "drawn.yaml"
    path.write_text(yaml.safe_dump(_experiment(split)))
    assert "best mask_ap" in _run("train", path, "--run-dir", folder / "run")
    return folder / "run"


@pytest.mark.slow
def test_training_logs_the_losses_of_both_splits_and_average_precision(run):
    rows = [line.split(",") for line in (run / "log.csv").read_text().splitlines()]
    table = [dict(zip(rows[0], row, strict=True)) for row in rows[1:]]
    learnt, checked = (
        [row for row in table if row["split"] == split][-1] for split in ("train", "validation")
    )
    parts = ("rpn_class", "rpn_box", "class", "box", "mask")
    assert float(learnt["loss"]) == pytest.approx(sum(float(learnt[p]) for p in parts), rel=1e-4)
    own = [float(checked[f"loss_{part}"]) for part in parts]
    assert float(checked["loss"]) == pytest.approx(sum(own), rel=1e-4)
    assert 0 <= float(checked["mask_ap"]) <= 1
    best = json.loads((run / "best.json").read_text())
    assert best["metric"] == "mask_ap"


@pytest.mark.slow
def test_evaluate_writes_scores_results_and_pictures(run):
    out = _run("evaluate", run, "--no-progress")
    assert "box_ap75" in out
    assert "square" in out
    scores = json.loads((run / "evaluation-validation.json").read_text())
    assert scores["images"] == 4
    assert [row["name"] for row in scores["per_class"]] == list(NAMES)
    results = json.loads((run / "evaluation-validation-results.json").read_text())
    assert {result["category_id"] for result in results} <= {3, 7}
    assert {"bbox", "score", "segmentation"} <= results[0].keys()
    with Image.open(run / "evaluation-validation.png") as picture:
        assert picture.width > 300


@pytest.mark.slow
def test_predict_and_the_export_find_the_same(run, split, tmp_path):
    files = [f"{split['options']['images']}/{n}.png" for n in (1, 2)]
    _run("predict", run, *files, "--out", tmp_path / "out", "--no-progress")
    results = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert {result["image_id"] for result in results} == {1, 2}
    with Image.open(tmp_path / "out" / "instances" / "1.png") as ids:
        assert ids.size == (88, 96)
    out = _run("export", run, "--to", tmp_path / "served")
    assert "SavedModel" in out
    serve = tf.saved_model.load(str(tmp_path / "served" / "1")).signatures["serving_default"]
    # The images differ in size.
    answer = serve(image_bytes=tf.stack([tf.io.read_file(file) for file in files]))
    own = [r for r in results if r["image_id"] == 1]
    count = int(answer["num_detections"][0])
    assert count == len(own)
    boxes = answer["boxes"][0, :count].numpy()
    expected = np.array([r["bbox"] for r in own])
    np.testing.assert_allclose(boxes[:, 2:] - boxes[:, :2], expected[:, 2:], atol=1e-3)
    np.testing.assert_allclose(boxes[:, :2], expected[:, :2], atol=1e-3)


@pytest.mark.slow
def test_probabilities_are_for_semantic_networks(run, split, tmp_path):
    image = f"{split['options']['images']}/1.png"
    out = _run("predict", run, image, "--out", tmp_path, "--probabilities", code=1)
    assert "for semantic networks" in out


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model__num_classes": 3},
            "num_classes is 3, but data.train has 2 classes of objects: square",
        ),
        (
            {"data__train": {"reader": "shapes", "options": {"size": 32, "count": 2}}},
            "data.train has no objects, which 'mask_rcnn_mobilenet_v2_fpn' finds",
        ),
        (
            {"model__name": "keypoint_rcnn_mobilenet_v2_fpn"},
            "have no keypoints to train on",
        ),
        (
            {"model__options": {"anchor_sizes": [8, 16]}},
            "anchor_sizes must be 5 positive numbers",
        ),
        ({"model__options": {"roi_op": "crop"}}, "op must be align, pool or warp"),
    ],
)
def test_what_cannot_be_trained_is_said_before_it_is_tried(split, tmp_path, changes, message):
    experiment = config.parse(_experiment(split, **changes))
    with pytest.raises(ValueError, match=message):
        experiments.train(experiment, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("faster_rcnn_resnet50_fpn", "box_ap"),
        ("mask_rcnn_resnet50_fpn", "mask_ap"),
        ("keypoint_rcnn_resnet50_fpn", "keypoint_ap"),
        ("unet", "mean_iou"),
    ],
)
def test_the_best_weights_are_chosen_by_the_tasks_score(split, name, metric):
    tree = _experiment(split)
    tree["model"] = {"name": name, "num_classes": 2}
    assert with_best_metric(config.parse(tree)).train.best_metric == metric
    tree["train"]["best_metric"] = "box_ap50"
    assert with_best_metric(config.parse(tree)).train.best_metric == "box_ap50"
