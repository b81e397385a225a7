"""Faster R-CNN's training in four steps, as its experiment file has it, on a narrow network."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from tfseg import config, experiment
from tfseg.backbones.resnet import RESNETS, ResNetLayout
from tfseg.cli import main

FILE = Path(__file__).parents[1] / "configs/faster_rcnn_resnet50_c4_alternating.yaml"
STAGES = ("rpn", "heads", "shared_rpn", "shared_heads")
PARTS = {"trunk": "backbone.", "rpn": "proposal_generator.", "heads": "roi_heads."}


def _small(root):
    """The shipped file with a few small images of COCO and two steps a stage."""
    tree = yaml.safe_load(FILE.read_text())
    for key in ("backbone_weights", "backbone_origin"):
        del tree["model"][key]
    tree["model"]["options"] |= {"anchor_sizes": [32, 64], "freeze_at": 1}
    options = {
        "images": str(root / "images"),
        "annotations": str(root / "instances.json"),
        "masks": False,
        "subset": [0, 2],
    }
    split = {"reader": "coco", "options": options}
    tree["data"] |= {"train": split, "transforms": [{"resize_short_side": {"sizes": [128]}}]}
    tree["detect"] = {"short_side": 128, "long_side": 256}
    tree["stages"][-1]["set"]["data.validation"] = split
    train = tree["train"]
    train |= {"steps": 2, "batch_size": 1, "checkpoint_every": 2, "schedule": {}}
    del train["reference_batch"]
    train["optimizer"]["learning_rate"] = 0.001
    train["rcnn"]["roi_samples"] = 16
    return tree


def _weights(run, stage):
    """The values of each part of the network after a stage."""
    parsed = config.load(run / stage / "config.yaml")
    model = experiment.build_model(parsed, run / stage / "last.weights.h5")
    return {
        part: [
            np.array(variable)
            for layer in model.layers
            if layer.name.startswith(prefix)
            for variable in layer.weights
        ]
        for part, prefix in PARTS.items()
    }


def _same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.slow
def test_four_steps(shared, tmp_path, monkeypatch):
    monkeypatch.setitem(RESNETS, "resnet50", ResNetLayout((1, 1, 1, 1), group_width=8))
    loaded = []
    load = experiment.load_weights
    monkeypatch.setattr(
        experiment,
        "load_weights",
        lambda model, path, *rest, **options: (
            loaded.append(str(Path(path).relative_to(tmp_path))),
            load(model, path, *rest, **options),
        ),
    )
    path, run = tmp_path / "steps.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(_small(shared("data/coco128"))))
    result = CliRunner().invoke(main, ["train", str(path), "--run-dir", str(run)])
    assert result.exit_code == 0, result.output
    # Each stage builds its network twice, to check it and to train it.
    assert loaded == [
        "run/rpn/last.weights.h5",  # the detector's proposer; it starts afresh itself
        *["run/heads/last.weights.h5"] * 2,
        *["run/shared_rpn/last.weights.h5"] * 2,
    ]

    rpn, heads, shared_rpn, shared_heads = (_weights(run, stage) for stage in STAGES)
    assert not _same(rpn["trunk"], heads["trunk"])
    assert not _same(rpn["rpn"], heads["rpn"])
    # The second half has the detector's trunk, and each step changes its own part alone.
    assert _same(heads["trunk"], shared_rpn["trunk"])
    assert _same(heads["heads"], shared_rpn["heads"])
    assert not _same(heads["rpn"], shared_rpn["rpn"])
    assert _same(heads["trunk"], shared_heads["trunk"])
    assert _same(shared_rpn["rpn"], shared_heads["rpn"])
    assert not _same(heads["heads"], shared_heads["heads"])

    logged = [(run / stage / "log.csv").read_text().splitlines()[0] for stage in STAGES]
    assert ["rpn_class" in head for head in logged] == [True, False, True, False]
    assert ["box_ap" in head for head in logged] == [False, False, False, True]
    assert json.loads((run / "shared_heads/best.json").read_text())["metric"] == "box_ap"

    again = CliRunner().invoke(main, ["train", str(path), "--run-dir", str(run), "--resume"])
    assert again.exit_code == 0, again.output
    assert again.output.count("is finished") == 4
