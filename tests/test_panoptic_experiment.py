"""A panoptic network from its experiment file to its maps, on the command line."""

import csv
import json

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from panoptic_split import panoptic_examples
from PIL import Image

from tfseg.cli import main
from tfseg.ops.panoptic import ids_from_rgb


def _run(*words):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.slow
def test_a_panoptic_network(shared, tmp_path):
    root = shared("data/panoptic_sample/sample_data")
    split = panoptic_examples(root, tmp_path)
    options = {"anchor_sizes": [8, 16, 32, 64, 128], "max_detections": 10}
    tree = {
        "name": "panoptic",
        "model": {"name": "panoptic_fpn_mobilenet_v2", "num_classes": 80, "options": options},
        "data": {
            "train": split,
            "validation": split,
            "transforms": [{"resize_short_side": {"sizes": [96]}}, {"flip": {}}],
        },
        "train": {
            "steps": 3,
            "batch_size": 2,
            "validate_every": 3,
            "optimizer": {"learning_rate": 0.001},
            "rcnn": {"roi_samples": 16},
        },
        # Untrained, nothing scores much.
        "detect": {
            "short_side": 96,
            "long_side": 192,
            "score_threshold": 0.0,
            "combine": {"score_threshold": 0.0, "stuff_area_threshold": 0},
        },
    }
    path, run, out = tmp_path / "panoptic.yaml", tmp_path / "run", tmp_path / "out"
    path.write_text(yaml.safe_dump(tree))
    assert "best pq" in _run("train", path, "--run-dir", run)
    with (run / "log.csv").open() as file:
        (checked,) = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    for name in ("pq", "pq_stuff", "semantic_mean_iou"):
        assert 0 <= float(checked[name]) <= 1
    assert np.isfinite(float(checked["loss_semantic"]))

    assert "PQ %" in _run("evaluate", run, "--weights", "last", "--no-progress")
    scores = json.loads((run / "evaluation-validation.json").read_text())
    for name in ("pq", "semantic_mean_iou"):
        assert scores[name] == pytest.approx(float(checked[name]), abs=1e-4)
    results = json.loads((run / "evaluation-validation-panoptic.json").read_text())
    assert [a["image_id"] for a in results["annotations"]] == [142238, 439180]

    image = root / "input_images/000000142238.jpg"
    _run("predict", run, image, "--out", out, "--weights", "last", "--no-progress")
    (written,) = json.loads((out / "panoptic.json").read_text())["annotations"]
    ids = ids_from_rgb(np.asarray(Image.open(out / "panoptic" / written["file_name"])))
    assert ids.shape == (427, 640)
    listed = {segment["id"]: segment["area"] for segment in written["segments_info"]}
    found, counts = np.unique(ids[ids > 0], return_counts=True)
    assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == listed
    assert written["segments_info"] == results["annotations"][0]["segments_info"]
