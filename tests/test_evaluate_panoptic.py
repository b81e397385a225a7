"""The truth of COCO's published examples as what a network found, and wrong versions of it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from panoptic_split import panoptic_examples
from PIL import Image

from tfseg import config, detection_commands, runs
from tfseg.data import open_reader
from tfseg.data.readers.coco_panoptic import PanopticMasks
from tfseg.detection import check_classes, make_panoptic_scores
from tfseg.metrics import PanopticQuality
from tfseg.ops.panoptic import ids_from_rgb
from tfseg.predict.detections import Detections


@pytest.fixture(scope="module")
def split(shared, tmp_path_factory):
    root = shared("data/panoptic_sample/sample_data")
    return panoptic_examples(root, tmp_path_factory.mktemp("panoptic"))


def _experiment(split, **options):
    return config.parse(
        {
            "name": "examples",
            "model": {"name": "panoptic_fpn_resnet50", "num_classes": 80, "options": options},
            "data": {"train": split},
            "train": {"steps": 1, "batch_size": 1, "optimizer": {"learning_rate": 0.1}},
        }
    )


@pytest.fixture(scope="module")
def reader(split):
    return open_reader(split["reader"], **split["options"])


def truth_as_found(reader, index):
    """A sample's segments as detections, whose grids of cells are the image's own pixels."""
    sample = reader[index]
    height, width = sample["image"].shape[:2]
    ids, segments = reader.semantic.segments(reader.image_id(index), (height, width))
    place = {number: label for label, number in enumerate(reader.category_ids)}
    things = [s for s in segments if s["category_id"] in place and not s["iscrowd"]]
    side = max(height, width)
    masks = np.zeros((len(things), side, side), np.float32)
    for mask, thing in zip(masks, things, strict=True):
        mask[:height, :width] = ids == thing["id"]
    return Detections(
        (height, width),
        np.tile(np.array([0, 0, side, side], np.float32), (len(things), 1)),
        np.linspace(1, 0.6, len(things), dtype=np.float32),
        np.array([place[thing["category_id"]] for thing in things], np.int32),
        masks=masks,
        # A network gives every pixel some label.
        semantic=np.where(sample["mask"] == reader.ignore_label, 0, sample["mask"]),
    )


class Network:
    """What the scores ask a model for: which heads it has."""

    mask_head, keypoint_head, semantic_head, panoptic = True, None, True, True


class Truthful:
    """A predictor that gives the images of a split, in order, their truth."""

    batch_size = 1

    def __init__(self, reader, change=lambda found: found):
        self._found = (change(truth_as_found(reader, index)) for index in range(len(reader)))

    def predict(self, images, keys=None):
        return [next(self._found) for _ in images]


def _scores(split, reader, change=lambda found: found):
    scores = make_panoptic_scores(_experiment(split), reader, Network())
    for index in range(len(reader)):
        scores(reader[index], change(truth_as_found(reader, index)))
    return scores


def test_the_truth_scores_one(split, reader):
    result = _scores(split, reader).result()
    for part in ("", "_things", "_stuff"):
        assert [result[f"{name}{part}"] for name in ("pq", "sq", "rq")] == [1.0, 1.0, 1.0]
    assert result["semantic_mean_iou"] == 1.0


def test_what_is_not_found_is_missed(split, reader):
    """Without its objects the things' quality is 0; the labels stay perfect, and the stuff."""
    result = _scores(split, reader, lambda found: found[:0]).result()
    assert result["pq_things"] == 0
    assert result["pq_stuff"] == result["semantic_mean_iou"] == 1.0
    # Without stuff, the other way round: all pixels have label 0.
    nothing = _scores(
        split, reader, lambda found: replace(found, semantic=np.zeros_like(found.semantic))
    ).result()
    assert nothing["pq_things"] == 1.0
    assert nothing["pq_stuff"] == 0
    truth = np.concatenate([reader[i]["mask"].ravel() for i in range(len(reader))])
    labels, counts = np.unique(truth[truth != reader.ignore_label], return_counts=True)
    assert labels[0] == 0
    iou = counts[0] / counts.sum()
    assert nothing["semantic_mean_iou"] == pytest.approx(iou / len(labels))


def test_unsure_objects_are_left_out(split, reader):
    """A score of 0.5 is enough."""
    tree = _experiment(split).model_dump(mode="json")
    tree["detect"]["combine"]["score_threshold"] = 0.9
    scores = make_panoptic_scores(config.parse(tree), reader, Network())
    found = truth_as_found(reader, 0)
    scores(reader[0], found)
    rows = [row for row in scores.per_class()["panoptic"] if row["thing"]]
    hits = sum(row["true_positives"] for row in rows)
    assert hits == (found.scores >= 0.9).sum() > 0
    assert sum(row["false_negatives"] for row in rows) == len(found) - hits
    assert sum(row["false_positives"] for row in rows) == 0


def test_evaluate_writes_what_panopticapi_reads(split, reader, tmp_path, monkeypatch, capsys):
    experiment = _experiment(split)
    monkeypatch.setattr(detection_commands, "make_test_predictor", lambda *_: Truthful(reader))
    detection_commands.evaluate(
        experiment, Network(), reader, tmp_path, facts={}, name="e", pictures=1, progress=False
    )
    out = capsys.readouterr().out
    assert "PQ %" in out
    assert "semantic_mean_iou" in out
    scores = json.loads((tmp_path / "e.json").read_text())
    assert scores["pq"] == scores["pq_stuff"] == scores["semantic_mean_iou"] == 1.0
    # COCO's masks of these objects are those of the panoptic map.
    assert scores["mask_ap"] == pytest.approx(1)
    assert len(scores["per_class_panoptic"]) == 133
    assert scores["per_class_semantic"][0]["name"] == "things"
    assert (tmp_path / "e.png").exists()

    # The files by themselves, with panopticapi's own names.
    results = json.loads((tmp_path / "e-panoptic.json").read_text())
    truth = json.loads(Path(split["options"]["panoptic_annotations"]).read_text())
    kinds = sorted(truth["categories"], key=lambda kind: kind["id"])
    quality = PanopticQuality(
        [kind["id"] for kind in kinds],
        [kind["name"] for kind in kinds],
        [bool(kind["isthing"]) for kind in kinds],
    )
    predicted = {a["image_id"]: a for a in results["annotations"]}
    for annotation in truth["annotations"]:
        found = predicted.pop(annotation["image_id"])
        assert found["file_name"] == annotation["file_name"]
        files = (Path(split["options"]["panoptic_masks"]), tmp_path / "e-panoptic")
        images = [np.asarray(Image.open(f / found["file_name"]).convert("RGB")) for f in files]
        maps = [ids_from_rgb(image) for image in images]
        quality.update(maps[0], annotation["segments_info"], maps[1], found["segments_info"])
        for segment in found["segments_info"]:
            assert segment["area"] == (maps[1] == segment["id"]).sum()
            assert ("score" in segment) == bool(segment["isthing"])
    assert not predicted
    assert quality.result()["pq"] == 1.0
    assert {c["id"]: c["isthing"] for c in results["categories"]} == {
        c["id"]: c["isthing"] for c in kinds
    }
    # They are a panoptic data set themselves.
    again = PanopticMasks(tmp_path / "e-panoptic", tmp_path / "e-panoptic.json", 255)
    assert again.stuff == reader.semantic.stuff
    size = reader[0]["image"].shape[:2]
    labels, truth = (masks.read(reader.image_id(0), size) for masks in (again, reader.semantic))
    # All but the crowd, which no network finds.
    crowds = [
        s["area"] for s in reader.semantic.segments(reader.image_id(0), size)[1] if s["iscrowd"]
    ]
    assert (labels != truth).sum() == sum(crowds) > 0
    assert (labels[labels != truth] == 255).all()


def test_predict_writes_maps_and_pictures(split, reader, tmp_path, monkeypatch):
    experiment = _experiment(split)
    runs.save(tmp_path, experiment, reader)
    assert runs.labels(tmp_path).stuff == reader.semantic.stuff
    monkeypatch.setattr(
        detection_commands,
        "make_test_predictor",
        lambda *_, **__: Truthful(reader),
    )
    root, out = Path(split["options"]["images"]), tmp_path / "out"
    files = [root / f"{reader[i]['name']}.jpg" for i in range(len(reader))]
    detection_commands.predict(experiment, Network(), tmp_path, files, out, progress=False)
    results = json.loads((out / "panoptic.json").read_text())
    assert [a["image_id"] for a in results["annotations"]] == [142238, 439180]
    name = files[0].stem
    ids = ids_from_rgb(np.asarray(Image.open(out / f"panoptic/{name}.png")))
    picture, image = (np.asarray(Image.open(p)) for p in (out / f"overlays/{name}.png", files[0]))
    changed = (picture != image).any(-1)
    assert changed[ids > 0].mean() > 0.95
    # Labels and lines apart, what is of no segment is left as it was.
    assert changed[ids == 0].mean() < 0.5
    assert (out / "legend.png").exists()


def test_classes_are_checked(split, reader, shared):
    check_classes(_experiment(split), reader, "train")
    with pytest.raises(config.ConfigError, match=r"stuff_classes is 7, but data\.train has 54 sem"):
        check_classes(_experiment(split, stuff_classes=7), reader, "train")
    plain = {k: v for k, v in split["options"].items() if not k.startswith("panoptic")}
    with pytest.raises(config.ConfigError, match=r"data\.train has no panoptic masks"):
        check_classes(_experiment(split), open_reader("coco", **plain), "train")
    root = shared("data/panoptic_sample/sample_data")
    every = open_reader(
        "coco",
        **split["options"] | {"annotations": str(root / "panoptic_coco_detection_format.json")},
    )
    tree = _experiment(split).model_dump(mode="json")
    tree["model"]["num_classes"] = 133
    with pytest.raises(config.ConfigError, match=r"must be the things of .* alone are \[92, 93"):
        check_classes(config.parse(tree), every, "train")
