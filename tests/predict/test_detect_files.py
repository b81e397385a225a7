import json

import numpy as np
import pytest
from detector_stand_in import PLAIN, StandIn
from PIL import Image
from pycocotools import mask as coco_mask

from tfseg.data.sample import DataError
from tfseg.predict import DetectionPredictor, detect_files, draw_detections
from tfseg.predict.detections import Detections

CLASSES = ("cat", "dog", "bird")


def predictor(**options):
    model = StandIn(**options)
    return DetectionPredictor(
        model, PLAIN, short_side=40, long_side=60, divisor=8, batch_size=2, score_threshold=0.35
    )


def picture(path, size=(50, 70), seed=0):
    path.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def test_writes_overlays_instances_and_results(tmp_path):
    paths = [picture(tmp_path / "in/000042.png"), picture(tmp_path / "in/b.png", (60, 40), seed=1)]
    paths += [picture(tmp_path / "in/c.png", seed=2)]
    out = tmp_path / "out"
    written = detect_files(
        predictor(), paths, out, classes=CLASSES, category_ids=(7, 8, 9), progress=False
    )
    assert written == [out / f"overlays/{name}.png" for name in ("000042", "b", "c")]
    results = json.loads((out / "detections.json").read_text())
    assert [r["image_id"] for r in results] == [42, 42, "b", "b", "c", "c"]
    first, second = results[:2]
    assert (first["category"], first["category_id"], first["instance"]) == ("bird", 9, 1)
    assert (second["category"], second["category_id"], second["instance"]) == ("cat", 7, 2)
    assert second["score"] == pytest.approx(0.8 * first["score"])
    assert first["bbox"] == pytest.approx([17.5, 25, 35, 25])
    file = Image.open(out / "instances/000042.png")
    assert file.mode == "I;16"
    ids = np.array(file)
    masks = [coco_mask.decode(r["segmentation"]).astype(bool) for r in results[:2]]
    np.testing.assert_array_equal(ids == 1, masks[0])
    np.testing.assert_array_equal(ids == 2, masks[1] & ~masks[0])
    shown = np.asarray(Image.open(written[0])).astype(int)
    changed = (shown != np.asarray(Image.open(paths[0]))).any(-1)
    assert changed[masks[0] | masks[1]].mean() > 0.9
    assert not (out / "semantic").exists()


def test_boxes_keypoints_and_semantic_labels(tmp_path):
    path, out = picture(tmp_path / "in/a.png"), tmp_path / "out"
    model = predictor(masks=False, keypoints=True, semantic=True)
    detect_files(model, [path], out, classes=CLASSES, skeleton=((0, 1),), progress=False)
    assert not (out / "instances").exists()
    labels = np.array(Image.open(out / "semantic/a.png"))
    np.testing.assert_array_equal(labels, model(np.asarray(Image.open(path))).semantic)
    (result, _) = json.loads((out / "detections.json").read_text())
    assert "segmentation" not in result
    assert result["keypoints"] == pytest.approx([34.5, 37, 0.9] * 2)  # half a pixel off the centre


def test_nothing_found_and_an_unreadable_image(tmp_path):
    dark, out = tmp_path / "dark.png", tmp_path / "out"
    Image.fromarray(np.zeros((30, 40, 3), np.uint8)).save(dark)
    (tmp_path / "broken.png").write_bytes(dark.read_bytes()[:50])
    with pytest.raises(DataError, match=r"1 of 2 images .*\n.*broken\.png"):
        detect_files(predictor(dark=5.0), [tmp_path / "broken.png", dark], out, classes=CLASSES)
    assert json.loads((out / "detections.json").read_text()) == []
    assert not np.array(Image.open(out / "overlays/dark.png")).any()
    assert not np.array(Image.open(out / "instances/dark.png")).any()


def test_errors_before_any_work(tmp_path):
    out = tmp_path / "out"
    with pytest.raises(ValueError, match="no images"):
        detect_files(predictor(), [], out, classes=CLASSES)
    with pytest.raises(ValueError, match="2 category ids, but 3 classes"):
        detect_files(predictor(), [], out, classes=CLASSES, category_ids=(1, 2))
    assert not out.exists()


def test_weak_keypoints_are_not_drawn():
    image = np.full((90, 90, 3), 90, np.uint8)
    points = np.array([[[30.5, 40.5, 0.04], [60.5, 40.5, 0.06]]], np.float32)
    found = Detections(
        (90, 90),
        np.array([[10, 10, 80, 80]], np.float32),
        np.ones(1, np.float32),
        np.zeros(1, np.int32),
        keypoints=points,
    )
    drawn = draw_detections(image, found, ("person",), skeleton=((0, 1),))
    assert drawn[40, 60].tolist() == [255] * 3
    assert drawn[40, 30].tolist() == drawn[40, 45].tolist() == [90] * 3
