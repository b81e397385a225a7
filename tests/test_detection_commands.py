"""A detector from its experiment file to its export, on the command line."""

import json
from shutil import copytree

import numpy as np
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from detector_parts import Parts
from PIL import Image, ImageDraw

from tfseg import config
from tfseg import experiment as experiments
from tfseg.cli import main
from tfseg.detection_inference import make_test_predictor
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


def _found(run):
    return json.loads((run / "evaluation-validation-results.json").read_text())


@pytest.mark.slow
def test_what_is_for_tests_alone(run, tmp_path):
    """Further views, voting and soft suppression; ensembles of the run with itself."""
    evaluate = ("evaluate", run, "--no-progress", "--pictures", 0)
    _run(*evaluate)
    plain = _found(run)
    copy = tmp_path / "copy"
    copytree(run, copy)
    _run(*evaluate, "--set", f"detect.boxes=[{run}, {copy}]")
    assert _found(run) == plain
    # Its own results, as another detector's.
    given = tmp_path / "given.json"
    given.write_text(json.dumps(plain))
    _run(*evaluate, "--set", f"detect.boxes=[{given}]", "--set", "detect.soft_nms=linear")
    again = _found(run)
    assert [r["category_id"] for r in again] == [r["category_id"] for r in plain]
    for one, other in zip(again, plain, strict=True):
        assert one["score"] == pytest.approx(other["score"])
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)

    words = (
        "soft_nms=gaussian",
        "vote=0.8",
        "flip=true",
        "scales=[48, 80]",
        "scales_long_side=150",
    )
    _run(*evaluate, *(word for option in words for word in ("--set", f"detect.{option}")))
    used = json.loads((run / "evaluation-validation.json").read_text())["detect"]
    assert used["scales"] == [48, 80]
    assert (used["soft_nms"], used["vote"], used["flip"]) == ("gaussian", 0.8, True)
    assert _found(run) != plain


@pytest.mark.slow
def test_predict_takes_boxes_of_files_by_the_images_names(run, split, tmp_path):
    files = [f"{split['options']['images']}/{n}.png" for n in (1, 2)]
    boxes = [
        {"image_id": n, "category_id": 7, "bbox": [5, 6 * n, 40, 50], "score": 0.25 * n}
        for n in (1, 2, 3)
    ]
    path = tmp_path / "boxes.json"
    path.write_text(json.dumps(boxes))
    words = ("predict", run, *files, "--no-progress", "--set", f"detect.boxes=[{path}]")
    _run(*words, "--out", tmp_path / "out")
    found = json.loads((tmp_path / "out" / "detections.json").read_text())
    assert [(r["image_id"], r["category"], r["score"]) for r in found] == [
        (1, "disc", 0.25),
        (2, "disc", 0.5),
    ]
    for result, given in zip(found, boxes, strict=False):
        assert result["bbox"] == pytest.approx(given["bbox"], abs=1e-3)
        assert "segmentation" in result

    path.write_text(json.dumps(boxes[2:]))
    out = _run(*words, "--out", tmp_path / "none", code=1)
    assert "has no boxes of the 2 images to look at (as 1); it has those of image_id 3" in out
    path.write_text(json.dumps([boxes[0] | {"category_id": 8}]))
    out = _run(*words, "--out", tmp_path / "none", code=1)
    assert "1 results are of none of the 2 categories: 0 (category 8)" in out


@pytest.mark.slow
def test_detectors_of_other_classes_are_no_ensemble(run, tmp_path):
    other = tmp_path / "other"
    copytree(run, other)
    facts = json.loads((other / "environment.json").read_text())
    (other / "environment.json").write_text(json.dumps(facts | {"classes": ["square", "ring"]}))
    out = _run("evaluate", run, "--set", f"detect.boxes=[{other}]", code=1)
    assert f"{other} finds square (3), ring (7), but {run} square (3), disc (7)" in out
    out = _run("evaluate", run, "--set", f"detect.boxes=[{tmp_path}]", code=1)
    assert f"detect.boxes: {tmp_path} is no run folder" in out
    out = _run("evaluate", run, "--set", f"detect.boxes=[{tmp_path / 'x'}]", code=1)
    assert f"detect.boxes: {tmp_path / 'x'} is missing" in out
    out = _run("evaluate", run, "--set", "detect.scales=[64]", code=1)
    assert "scales are others than short_side" in out


def test_views_and_boxes_of_others_are_for_objects_alone(split, tmp_path):
    tree = _experiment(split)
    tree["detect"]["flip"] = True
    experiment = config.parse(tree)
    model = Parts()
    model.panoptic = True
    with pytest.raises(config.ConfigError, match="labels whole images too, of one view"):
        make_test_predictor(experiment, model, tmp_path, [1])


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
