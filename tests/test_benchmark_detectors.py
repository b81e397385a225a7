"""The script that measures Mask R-CNN beside torchvision's: inputs, agreement and its report."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import benchmark_detectors
import numpy as np
import pytest
from click.testing import CliRunner
from detector_contenders import inputs, report
from detector_contenders.inputs import DetectorJob

FOUND = {
    "boxes": [[0.0, 0.0, 10.0, 10.0], [20.0, 20.0, 40.0, 30.0], [50.0, 50.0, 60.0, 60.0]],
    "scores": [0.9, 0.8, 0.7],
    "classes": [3, 3, 5],
}


def row(name, **facts):
    return {"name": name, "parts": {}, **facts}


def test_detections_are_compared_with_the_nearest_of_their_class():
    other = {
        "boxes": [[50.0, 50.0, 60.0, 60.0], [20.0, 20.0, 40.5, 30.0], [0.0, 0.0, 10.0, 10.0]],
        "scores": [0.7, 0.75, 0.9],
        "classes": [6, 3, 3],
    }
    assert report.compare(FOUND, other) == {
        "matched": pytest.approx(2 / 3),
        "box_pixels": pytest.approx(0.5),
        "score": pytest.approx(0.05),
    }
    nothing = {"boxes": [], "scores": [], "classes": []}
    assert report.compare(FOUND, nothing)["matched"] == 0


def test_agreement_of_inference_keeps_numbers_of_detections():
    rows = [row("ours", detections=FOUND), row("theirs", detections=FOUND)]
    assert report.agreement(rows) == {"theirs": {"matched": 1.0, "box_pixels": 0.0, "score": 0.0}}
    assert [r["detections"] for r in rows] == [3, 3]


def test_agreement_of_training_is_of_losses():
    rows = [row("ours", losses={"box": 1.1, "mask": 2.0}), row("b", losses={"box": 1, "mask": 2})]
    assert report.agreement(rows) == {"b": {"box": pytest.approx(0.1), "mask": 0.0}}


def test_table_has_a_line_a_part():
    rows = [
        row("ours", detections=100, proposals=990) | {"parts": {"trunk": 0.5, "pasting": 0.0625}},
        row("theirs", detections=99, proposals=991) | {"parts": {"trunk": 1.0, "pasting": 0.25}},
    ]
    differences = {"theirs": {"matched": 0.99, "box_pixels": 0.001, "score": 1e-6}}
    lines = report.table({"contenders": rows, "agreement": differences}).splitlines()
    assert "ours: 100 detections from 990 proposals" in lines
    assert "ours beside theirs: matched 0.99, box_pixels 0.001, score 1e-06" in lines
    assert lines[-1].split() == ["pasting", "62.5", "250.0"]


def test_objects_are_the_same_as_outlines_and_as_masks():
    job = DetectorJob("mask_rcnn_resnet50_fpn", 90, 96, 160, 1, "train", "", 4, split=False)
    batch = inputs.objects(job)
    assert batch["size"].tolist() == [[96, 160]]
    boxes, masks, edges = batch["boxes"][0], batch["masks"][0], batch["edges"][0]
    assert edges.shape == (4, 32, 4)
    np.testing.assert_array_equal(edges[:, :, 2:], np.roll(edges[:, :, :2], -1, axis=1))
    for box, mask in zip(boxes, masks, strict=True):
        (x1, y1, x2, y2), (rows, columns) = box, np.nonzero(mask)
        assert (box >= 0).all()
        assert x2 <= 160
        assert y2 <= 96
        inside = math.pi / 4 * (x2 - x1) * (y2 - y1)
        assert mask.sum() == pytest.approx(inside, rel=0.25)
        assert abs(columns.min() - x1) < 1.5
        assert abs(rows.max() + 1 - y2) < 1.5


def test_missing_framework_is_named(monkeypatch):
    monkeypatch.setattr(benchmark_detectors.importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(benchmark_detectors.main, ["--size", "64", "64"])
    assert result.exit_code == 2
    assert "not installed: torch, torchvision, tensorflow" in result.output


def test_jax_contender_needs_no_tensorflow():
    pytest.importorskip("jax")
    code = (
        "import sys\n"
        "sys.modules['tensorflow'] = None\n"
        "import detector_contenders.jax_contender\n"
        "assert 'torch' not in sys.modules"
    )
    scripts = Path(benchmark_detectors.__file__).parent
    environment = os.environ | {"KERAS_BACKEND": "jax", "PYTHONPATH": str(scripts)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_both_do_the_same_work(mode, tmp_path):
    pytest.importorskip("torch")
    vision = pytest.importorskip("torchvision")
    if not vision.extension._has_ops():
        pytest.skip("torchvision's operations do not fit this torch")
    out = tmp_path / "figures.json"
    arguments = ["--size", "64", "64", "--runs", "1", "--no-freeze", "--objects", "3"]
    result = CliRunner().invoke(
        benchmark_detectors.main, [*arguments, "--mode", mode, "--json", str(out)]
    )
    assert result.exit_code == 0, result.output
    figures = json.loads(out.read_text())
    ours, theirs = figures["contenders"]
    assert ours["parameters"] == theirs["parameters"]
    assert set(figures["ratios"]) == {"torchvision"}
    if mode == "train":
        assert ours["losses"].keys() == theirs["losses"].keys()
        assert figures["agreement"]["torchvision"]["rpn_class"] < 0.3
        return
    assert ours["parts"].keys() == theirs["parts"].keys()
    assert abs(ours["proposals"] - theirs["proposals"]) < 5
    assert figures["agreement"]["torchvision"]["matched"] > 0.9
    assert figures["agreement"]["torchvision"]["score"] < 1e-2
