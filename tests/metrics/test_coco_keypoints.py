"""COCO's scores of keypoints: the truth itself, against a small OKS, by hand."""

import json

import numpy as np
import pytest

from tfseg.metrics import CocoScores
from tfseg.metrics.coco import COCO_SIGMAS
from tfseg.predict.detections import Detections


def _people(shared):
    truth = json.loads((shared("data/coco_keypoints") / "test_coco.json").read_text())
    labelled = [a for a in truth["annotations"] if a["num_keypoints"]]
    return truth, labelled


def _detections(annotations, keypoints, scores):
    """Detections whose keypoints are in continuous coordinates, and the annotations' boxes."""
    boxes = np.array([a["bbox"] for a in annotations], np.float32)
    boxes[:, 2:] += boxes[:, :2]
    shape = (len(boxes), 17, 3)
    classes = np.zeros(len(boxes), np.int32)
    found = np.asarray(keypoints, np.float32).reshape(shape)
    return Detections((1, 1), boxes, np.asarray(scores, np.float32), classes, keypoints=found)


def test_true_keypoints_score_1(shared, evaluator):
    truth, labelled = _people(shared)
    scores = CocoScores(truth, [1], ["person"], ["bbox", "keypoints"], evaluator=evaluator)
    for image in truth["images"]:
        own = [a for a in labelled if a["image_id"] == image["id"]]
        points = np.array([a["keypoints"] for a in own], np.float32).reshape(-1, 17, 3)
        points[..., :2] += 0.5
        found = _detections(own, points, [0.9] * len(own))
        scores.update(image["id"], found.to_coco(image["id"], [1]))
    result = scores.result()
    keypoints = {name: value for name, value in result.items() if name.startswith("keypoint")}
    assert keypoints == pytest.approx(dict.fromkeys(keypoints, 1.0))
    assert len(keypoints) == 10
    # people without a labelled keypoint are objects to the score of boxes
    assert 0.8 < result["box_ap"] < 1


def _oks(found, true, area):
    """Object keypoint similarity: cocodataset.org/#keypoints-eval."""
    found, true = (np.reshape(points, (17, 3)) for points in (found, true))
    distance = ((found - true)[:, :2] ** 2).sum(1)
    similarity = np.exp(-distance / (2 * area * (2 * np.array(COCO_SIGMAS)) ** 2))
    return similarity[true[:, 2] > 0].mean()


def _average_precision(oks, images, order, threshold):
    """Of one detection for each object: ``oks[detection, object]``, best detections first."""
    taken, hits = set(), []
    for found in order:
        free = [j for j in range(len(images)) if images[j] == images[found] and j not in taken]
        best = max(free, key=lambda j: oks[found, j], default=None)
        hits.append(best is not None and oks[found, best] >= threshold)
        taken |= {best} if hits[-1] else set()
    true = np.cumsum(hits)
    recall, precision = true / len(images), true / np.arange(1, len(hits) + 1)
    best = [precision[recall >= r].max(initial=0) for r in np.linspace(0, 1, 101)]
    return np.mean(best)


def test_shifted_keypoints_against_a_small_oks(shared, evaluator):
    truth, labelled = _people(shared)
    truth["annotations"] = labelled
    rng = np.random.default_rng(0)
    shift = rng.normal(size=(len(labelled), 17, 2)) * rng.uniform(0, 6, (len(labelled), 1, 1))
    points = np.array([a["keypoints"] for a in labelled], float).reshape(-1, 17, 3)
    points[..., :2] += shift
    values = rng.permutation(len(labelled)) / 100
    scores = CocoScores(truth, [1], ["person"], ["keypoints"], evaluator=evaluator)
    for image in truth["images"]:
        own = [n for n, a in enumerate(labelled) if a["image_id"] == image["id"]]
        results = [
            {"category_id": 1, "score": values[n], "keypoints": points[n].ravel().tolist()}
            for n in own
        ]
        scores.update(image["id"], results)
    oks = np.array([[_oks(p, a["keypoints"], a["area"]) for a in labelled] for p in points])
    images, order = [a["image_id"] for a in labelled], np.argsort(-values)
    levels = np.linspace(0.5, 0.95, 10)
    expected = [_average_precision(oks, images, order, level) for level in levels]
    found = scores.result()
    assert found["keypoint_ap"] == pytest.approx(np.mean(expected))
    assert found["keypoint_ap50"] == pytest.approx(expected[0])
    assert found["keypoint_ap75"] == pytest.approx(expected[5])
    assert 0.2 < found["keypoint_ap"] < 0.9
    assert scores.per_class()[0]["keypoint_ap"] == pytest.approx(np.mean(expected))


def test_other_keypoints_need_their_sigmas(evaluator):
    person = {"image_id": 7, "category_id": 1, "bbox": [10, 10, 40, 40], "area": 1600, "id": 1}
    truth = {
        "images": [{"id": 7, "height": 100, "width": 200}],
        "categories": [{"id": 1}],
        "annotations": [{**person, "keypoints": [20, 20, 2, 30, 30, 1]}],
    }
    with pytest.raises(ValueError, match="annotation 1: has 6 keypoint numbers, but 17 OKS sigmas"):
        CocoScores(truth, [1], ["thing"], ["keypoints"])
    scores = CocoScores(
        truth, [1], ["thing"], ["keypoints"], oks_sigmas=[0.05, 0.1], evaluator=evaluator
    )
    # 4 pixels off, area 1600: exp(-16 / (2 * 1600 * 0.01)) = 0.607, and 0.882
    scores.update(7, [{"category_id": 1, "score": 0.5, "keypoints": [24, 20, 1, 34, 30, 1]}])
    found = scores.result()  # OKS 0.7445
    assert (found["keypoint_ap50"], found["keypoint_ap75"]) == pytest.approx((1, 0))
    assert found["keypoint_ap"] == pytest.approx(0.5)
