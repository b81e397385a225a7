"""The experiment files that ship are valid."""

import inspect
from pathlib import Path

import pytest

import tfseg
from tfseg import config, registry
from tfseg import experiment as experiments
from tfseg.data import list_readers, readers
from tfseg.data.transforms import make_transforms
from tfseg.detection import BEST_METRIC

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "configs").glob("*.yaml"))
TASKS = ("semantic", *BEST_METRIC)


def _splits(experiment):
    splits = (experiment.data.train, experiment.data.validation)
    return [split for split in splits if split is not None]


def _has_data(experiment):
    """Whether all files and folders that its readers and weights are of exist."""
    values = [value for split in _splits(experiment) for value in split.options.values()]
    paths = [Path(value) for value in values if isinstance(value, str) and "/" in value]
    model = experiment.model
    paths += [path for path in (model.weights, model.backbone_weights) if path is not None]
    return all(path.exists() for path in paths)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_config(path):
    head = path.read_text().split("name:")[0]
    assert f"tfseg train configs/{path.name}" in head
    assert "xpected" in head
    for experiment in config.load_stages(path):
        assert experiment.name.partition("/")[0] == path.stem
        assert experiment.model.name in tfseg.list_models()
        entry = registry.entry(experiment.model.name)
        assert entry.task in TASKS
        assert set(experiment.model.options) <= set(entry.options())
        make_transforms(experiment.data.transforms)
        for split in _splits(experiment):
            assert split.reader in list_readers()
            reader = inspect.signature(readers.base._READERS[split.reader])
            assert set(split.options) <= set(reader.parameters)
            required = {n for n, p in reader.parameters.items() if p.default is p.empty}
            assert required <= set(split.options)
            if entry.task != "semantic":
                assert hasattr(readers.base._READERS[split.reader], "truth")


def _detectors():
    """The experiments of networks that find objects, by file and stage."""
    for path in FILES:
        for experiment in config.load_stages(path):
            if experiments.is_detector(experiment):
                yield pytest.param(experiment, id=experiment.name)


@pytest.mark.parametrize("experiment", _detectors())
def test_detectors_have_what_they_learn_from(experiment):
    """Masks, keypoints and panoptic files, in training and in validation."""
    task = registry.entry(experiment.model.name).task
    for split in _splits(experiment):
        options = split.options
        if task in ("instance", "panoptic"):
            assert options.get("masks", True)
        assert options.get("keypoints", False) == (task == "keypoint")
        assert ("panoptic_masks" in options) == (task == "panoptic")
    if task == "keypoint":
        for transform in experiment.data.transforms:
            assert "flip" not in transform or len(transform["flip"]["pairs"]) == 8


@pytest.mark.slow
@pytest.mark.parametrize("experiment", _detectors())
def test_training_can_begin_where_the_data_are(experiment, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    if not _has_data(experiment):
        pytest.skip("the data are not here")
    kit = experiments._checked(experiment, tmp_path)
    batch = next(iter(kit.dataset(0)))
    assert len(batch["image"]) == experiment.train.batch_size
    assert kit.validate is not None


def _load(stem, *assignments):
    return config.load(ROOT / f"configs/{stem}.yaml", list(assignments))


@pytest.mark.parametrize(
    ("stem", "steps", "milestones"),
    [
        ("mask_rcnn_resnet50_fpn_1x", 90000, [60000, 80000]),
        ("mask_rcnn_resnet50_fpn_3x", 270000, [210000, 250000]),
    ],
)
def test_detectron2s_schedules(stem, steps, milestones):
    """And on two images a step, by the linear scaling rule."""
    train = _load(stem).train
    assert (train.steps, train.schedule.milestones) == (steps, milestones)
    assert train.optimizer.learning_rate == 0.02
    small = _load(stem, "train.batch_size=2").train
    assert (small.steps, small.schedule.milestones) == (8 * steps, [8 * m for m in milestones])
    assert small.schedule.warmup_steps == 8000
    assert small.optimizer.learning_rate == pytest.approx(0.0025)


MEGVII = {
    "mask_rcnn_resnet50_fpn_megvii2018": (
        "model.options.box_head=location_sensitive",
        "model.options.roi_fusion=max",
        "model.options.mask_convolutions=8",
        "train.rcnn.mask_edge_weight=1.0",
        "model.options.global_context=true",
        "model.backbone_partial=true",
    ),
    "mask_rcnn_shufflenet_v2_gap_fpn_megvii2018": (
        "train.batch_size=8",
        "model.options.norm=frozen_batch",
        "data.transforms=[{resize_short_side: {sizes: [800], max_size: 1333}}, {flip: {}}]",
        "model.options.box_head=fc",
        "model.options.roi_fusion=none",
        "model.options.mask_convolutions=4",
        "train.rcnn.mask_edge_weight=0",
    ),
}


@pytest.mark.parametrize("stem", MEGVII)
def test_the_rows_that_heads_name(stem):
    head = (ROOT / f"configs/{stem}.yaml").read_text().split("name:")[0]
    for assignment in MEGVII[stem]:
        key = assignment.partition("=")[0]
        assert f"{key.rpartition('.')[2]}=" in head
    experiment = _load(stem, *MEGVII[stem])
    assert set(experiment.model.options) <= set(registry.entry(experiment.model.name).options())


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*_sfpn.yaml")))
def test_the_semantic_branch_can_be_left_out(path):
    head = path.read_text()
    plain = path.stem.replace("sfpn", "fpn")
    assert f"--set model.name={plain}" in head
    found = _load(path.stem, f"model.name={plain}", "model.options={}", "data.semantic_labels=null")
    assert "semantic_classes" not in registry.entry(found.model.name).options()
