"""The stuff challenge's scores: by hand, and on the released sample by another way."""

import json

import numpy as np
import pytest
from PIL import Image

from tfseg.data.readers.cocostuff_labels import CHALLENGE, SUPERCATEGORIES
from tfseg.metrics import ConfusionMatrix
from tfseg.metrics.cocostuff import stuff_scores


def test_by_hand():
    # sky, clouds | road, grass, sea; the sea is predicted but never true
    matrix = np.array(
        [
            [6, 2, 0, 0, 0],
            [1, 1, 0, 0, 0],
            [0, 0, 4, 0, 4],
            [0, 2, 0, 0, 0],
            [0, 0, 0, 0, 0],
        ]
    )
    found = stuff_scores(matrix, ["sky", "sky", "ground", "plant", "water"])
    # IoU 6/9, 1/6, 4/8, 0/2; accuracy 6/8, 1/2, 4/8, 0
    assert found["stuff_mean_iou"] == pytest.approx((6 / 9 + 1 / 6 + 4 / 8 + 0) / 4)
    weighted = (8 * 6 / 9 + 2 * 1 / 6 + 8 * 4 / 8) / 20
    assert found["stuff_frequency_weighted_iou"] == pytest.approx(weighted)
    assert found["stuff_mean_accuracy"] == pytest.approx((6 / 8 + 1 / 2 + 4 / 8 + 0) / 4)
    assert found["stuff_pixel_accuracy"] == pytest.approx(11 / 20)
    # sky 10 of 12, ground 4 of 8, plant 0 of 2
    assert found["stuff_super_mean_iou"] == pytest.approx((10 / 12 + 4 / 8 + 0) / 3)
    weighted = (10 * 10 / 12 + 8 * 4 / 8) / 20
    assert found["stuff_super_frequency_weighted_iou"] == pytest.approx(weighted)
    assert found["stuff_super_mean_accuracy"] == pytest.approx((1 + 4 / 8 + 0) / 3)
    assert found["stuff_super_pixel_accuracy"] == pytest.approx(14 / 20)
    assert len(found) == 8


def test_a_prediction_of_an_absent_class_costs_less_than_in_fcns_mean():
    confusion = ConfusionMatrix(3)
    confusion.update(np.array([0, 0, 0, 0, 1, 1]), np.array([0, 0, 0, 2, 1, 1]))
    found = stuff_scores(confusion.matrix, ["a", "a", "b"])
    assert found["stuff_mean_iou"] == pytest.approx((3 / 4 + 1) / 2)
    assert confusion.result()["mean_iou"] == pytest.approx((3 / 4 + 1 + 0) / 3)
    assert found["stuff_super_mean_iou"] == pytest.approx(5 / 6)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match="no pixel was scored"):
        stuff_scores(np.zeros((2, 2), int), ["a", "b"])
    with pytest.raises(ValueError, match=r"1 supercategories for a matrix \(2, 2\)"):
        stuff_scores(np.eye(2, dtype=int), ["a"])


def _intersections(true, predicted):
    """IoU, accuracy and pixels of the ids in ``true``, from sets of pixels."""
    for label in np.unique(true):
        a, b = true == label, predicted == label
        yield (a & b).sum() / (a | b).sum(), (a & b).sum() / a.sum(), a.sum()


def test_released_sample(shared):
    """The example result of cocostuffapi against its ground truth.

    The figures come from masks by pycocotools and pixel sets; no confusion matrix is made.
    """
    mask = pytest.importorskip("pycocotools.mask")
    folder = shared("data/cocostuff_sample")
    truth = json.loads((folder / "stuff_examples.json").read_text())
    true, predicted = [], []
    for image in truth["images"]:
        labels = np.zeros((image["height"], image["width"]), int)
        for region in truth["annotations"]:
            if region["image_id"] == image["id"]:
                labels += region["category_id"] * mask.decode(region["segmentation"]).astype(int)
        with Image.open(folder / image["file_name"].replace("jpg", "png")) as png:
            result = np.array(png).astype(int)
        true.append(labels[labels > 0])
        predicted.append(result[labels > 0])
    true, predicted = np.concatenate(true) - 92, np.concatenate(predicted) - 92

    confusion = ConfusionMatrix(len(CHALLENGE))
    confusion.update(true, predicted)
    found = stuff_scores(confusion.matrix, SUPERCATEGORIES)

    names = sorted(set(SUPERCATEGORIES))
    parent = np.array([names.index(s) for s in SUPERCATEGORIES])
    for prefix, a, b in (
        ("stuff", true, predicted),
        ("stuff_super", parent[true], parent[predicted]),
    ):
        iou, accuracy, pixels = np.array(list(_intersections(a, b))).T
        assert found[f"{prefix}_mean_iou"] == pytest.approx(iou.mean())
        weighted = (iou * pixels).sum() / pixels.sum()
        assert found[f"{prefix}_frequency_weighted_iou"] == pytest.approx(weighted)
        assert found[f"{prefix}_mean_accuracy"] == pytest.approx(accuracy.mean())
        assert found[f"{prefix}_pixel_accuracy"] == pytest.approx((a == b).mean())
    # what the steps of cocostuffeval.py give for these files, done apart from this package
    printed = [0.2409, 0.4830, 0.2978, 0.5450, 0.4468, 0.6636, 0.6044, 0.7486]
    assert [round(value, 4) for value in found.values()] == printed
