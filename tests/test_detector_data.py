"""Semantic labels and proposals from the experiment file to a detector's batches and losses."""

import csv
import json

import numpy as np
import pytest

from tfseg import config, experiment
from tfseg.data import DataError
from tfseg.detection import make_detection_dataset


def _tree(shared, name="mask_rcnn_mobilenet_v2_sfpn", **data):
    root = shared("data/coco128")
    options = {
        "images": str(root / "images"),
        "annotations": str(root / "instances.json"),
        "subset": [0, 4],
    }
    split = {"reader": "coco", "options": options}
    return {
        "name": "sfpn",
        "model": {"name": name, "num_classes": 80},
        "data": {
            "train": split,
            "transforms": [{"resize_short_side": {"sizes": [96]}}, {"flip": {}}],
            **data,
        },
        "train": {"steps": 2, "batch_size": 2, "optimizer": {"learning_rate": 0.001}},
        "detect": {"short_side": 96, "long_side": 192},
    }


def _open(tree, change=lambda tree: None):
    change(tree)
    return experiment.open_split(config.parse(tree), "train")


@pytest.fixture
def proposals(tmp_path, shared):
    """A file of the true boxes, shifted by a pixel."""
    content = json.loads((shared("data/coco128") / "instances.json").read_text())
    results = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": bbox, "score": 0.5}
        for a in content["annotations"]
        for bbox in ([a["bbox"][0] + 1, *a["bbox"][1:]],)
    ]
    path = tmp_path / "results.json"
    path.write_text(json.dumps(results))
    return path


def test_labels_of_a_semantic_branch(shared):
    tree = _tree(shared, semantic_labels="instances")
    reader = _open(tree)
    assert len(reader.semantic_classes) == 81
    assert "mask" in reader.keys()  # noqa: SIM118 (not a mapping)
    assert reader.image_id(3)

    def other(tree):
        tree["model"]["options"] = {"semantic_classes": 171}

    message = (
        r"model\.options\.semantic_classes is 171, but with data\.semantic_labels 'instances' "
        r"data\.train has 81 semantic classes: background, person, "
    )
    with pytest.raises(config.ConfigError, match=message):
        _open(tree, other)


def test_labels_from_pixel_maps(shared, tmp_path):
    tree = _tree(shared, semantic_labels="masks")
    with pytest.raises(config.ConfigError, match=r"'masks', data\.train: the reader has no masks;"):
        _open(tree)
    plain = _open(_tree(shared, "mask_rcnn_mobilenet_v2_fpn"))
    height, width = plain[0]["image"].shape[:2]
    from PIL import Image

    Image.fromarray(np.zeros((height, width), np.uint8)).save(tmp_path / f"{plain[0]['name']}.png")

    def mapped(tree):
        tree["data"]["train"]["options"]["semantic_masks"] = str(tmp_path)

    message = r"model\.num_classes \+ 1 is 81, but .*'masks' data\.train has 171 semantic classes: "
    with pytest.raises(config.ConfigError, match=message):
        _open(tree, mapped)
    tree["model"]["options"] = {"semantic_classes": 171}
    reader = _open(tree)
    assert not reader[0]["mask"].any()
    assert (reader[1]["mask"] == 255).all()


def test_labels_and_branches_go_together(shared):
    message = r"'mask_rcnn_mobilenet_v2_sfpn' has a semantic branch: set data\.semantic_labels"
    with pytest.raises(config.ConfigError, match=message):
        _open(_tree(shared))
    message = r"is 'instances', but 'mask_rcnn_mobilenet_v2_fpn' has no semantic branch"
    with pytest.raises(config.ConfigError, match=message):
        _open(_tree(shared, "mask_rcnn_mobilenet_v2_fpn", semantic_labels="instances"))
    with pytest.raises(config.ConfigError, match="semantic_labels"):
        _open(_tree(shared, semantic_labels="things"))


def test_proposals_are_checked(shared, proposals):
    tree = _tree(shared, "mask_rcnn_mobilenet_v2_fpn")
    tree["data"]["train"] |= {"proposals": str(proposals), "max_proposals": 3}
    reader = _open(tree)
    assert max(len(reader[i]["proposals"]) for i in range(len(reader))) == 3

    tree["train"]["rcnn"] = {"learn": ["rpn"]}
    with pytest.raises(config.ConfigError, match=r"proposals are for heads, but .* is \['rpn'\]"):
        _open(tree)
    tree["train"]["rcnn"] = {"proposer": "a.weights.h5"}
    message = r"from data\.train\.proposals or from train\.rcnn\.proposer, not both"
    with pytest.raises(config.ConfigError, match=message):
        _open(tree)
    tree["train"]["rcnn"] = {}
    proposals.write_text("[]")
    with pytest.raises(DataError, match="has no boxes"):
        _open(tree)


@pytest.mark.parametrize("key", ["semantic_labels", "proposals"])
def test_both_are_for_detectors(shared, key):
    tree = _tree(shared, "unet")
    tree["model"]["num_classes"] = 4
    tree["data"]["train"] = {"reader": "shapes"}
    where = tree["data"] if key == "semantic_labels" else tree["data"]["train"]
    where[key] = "instances"
    message = r"semantic_labels and data\.train\.proposals are for detectors, which 'unet' is not"
    with pytest.raises(config.ConfigError, match=message):
        _open(tree)


def test_batches_have_what_the_network_learns(shared, proposals, tmp_path):
    tree = _tree(shared, semantic_labels="instances")
    tree["data"]["train"]["proposals"] = str(proposals)
    for name, keys in (
        ("mask_rcnn_mobilenet_v2_sfpn", {"mask", "proposals", "proposed"}),
        ("mask_rcnn_mobilenet_v2_fpn", set()),
    ):
        if not keys:
            tree = _tree(shared, name)
        parsed = config.parse(tree)
        model = experiment.build_model(parsed)
        reader = experiment.open_split(parsed, "train")
        spec = make_detection_dataset(parsed, reader, model, tmp_path).element_spec
        assert {"mask", "proposals", "proposed"} & set(spec) == keys


@pytest.mark.slow
def test_a_semantic_guided_network_learns_from_labels_and_proposals(shared, proposals, tmp_path):
    tree = _tree(shared, semantic_labels="instances")
    tree["model"]["options"] = {"max_detections": 10}
    tree["data"]["train"]["options"]["subset"] = [0, 2]
    tree["data"]["train"]["proposals"] = str(proposals)
    tree["data"]["validation"] = tree["data"]["train"]
    tree["train"] |= {"validate_every": 2, "rcnn": {"roi_samples": 16, "learn": ["heads"]}}
    outcome = experiment.train(config.parse(tree), tmp_path / "run")
    assert outcome.step == 2
    with (tmp_path / "run/log.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    assert np.isfinite([float(rows[0][f"loss_{name}"]) for name in ("semantic", "mask")]).all()
    assert not rows[0].get("loss_rpn_class")
