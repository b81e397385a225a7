import json

import numpy as np
import pytest

from tfseg.metrics import ConfusionMatrix


def filled(labels, predictions, classes=3, **options):
    matrix = ConfusionMatrix(classes, **options)
    matrix.update(np.array(labels), np.array(predictions))
    return matrix


def test_scores_of_a_hand_computed_table():
    # true 0: 3 hit, 1 as 1; true 1: 2 hit, 1 as 2; true 2: 1 hit; one ignored pixel
    labels = [[0, 0, 0, 0], [1, 1, 1, 255], [2, 255, 255, 255]]
    predictions = [[0, 0, 0, 1], [1, 1, 2, 0], [2, 2, 1, 0]]
    matrix = filled(labels, predictions)
    np.testing.assert_array_equal(matrix.matrix, [[3, 1, 0], [0, 2, 1], [0, 0, 1]])
    result = matrix.result()
    ious = [3 / 4, 2 / 4, 1 / 2]
    assert [c["iou"] for c in result["per_class"]] == pytest.approx(ious)
    assert [c["accuracy"] for c in result["per_class"]] == pytest.approx([3 / 4, 2 / 3, 1])
    assert [c["pixels"] for c in result["per_class"]] == [4, 3, 1]
    assert result["mean_iou"] == pytest.approx(np.mean(ious))
    assert result["mean_accuracy"] == pytest.approx((3 / 4 + 2 / 3 + 1) / 3)
    assert result["pixel_accuracy"] == pytest.approx(6 / 8)
    assert result["frequency_weighted_iou"] == pytest.approx((4 * 0.75 + 3 * 0.5 + 1 * 0.5) / 8)


def test_class_that_is_never_true_nor_predicted_is_left_out():
    result = filled([[0, 0, 1]], [[0, 0, 1]], classes=4).result()
    assert result["mean_iou"] == result["mean_accuracy"] == 1
    assert np.isnan(result["per_class"][3]["iou"])


def test_class_that_is_only_predicted_counts_zero_in_iou_and_not_in_accuracy():
    result = filled([[0, 0, 0, 0]], [[0, 0, 0, 1]], classes=2).result()
    assert result["mean_iou"] == pytest.approx((3 / 4 + 0) / 2)
    assert result["mean_accuracy"] == pytest.approx(3 / 4)
    assert np.isnan(result["per_class"][1]["accuracy"])


def test_agrees_with_the_released_formulas_on_random_counts():
    rng = np.random.default_rng(0)
    labels, predictions = rng.integers(0, 7, (2, 50, 40))
    labels[labels == 5] = 255
    result = filled(labels, predictions, classes=7).result()
    keep = labels != 255
    hist = np.zeros((7, 7))
    for t, p in zip(labels[keep], predictions[keep], strict=True):
        hist[t, p] += 1
    with np.errstate(invalid="ignore"):
        iou = np.diag(hist) / (hist.sum(1) + hist.sum(0) - np.diag(hist))
        accuracy = np.diag(hist) / hist.sum(1)
    share = hist.sum(1) / hist.sum()
    assert result["mean_iou"] == pytest.approx(np.nanmean(iou))
    assert result["mean_accuracy"] == pytest.approx(np.nanmean(accuracy))
    assert result["frequency_weighted_iou"] == pytest.approx((share * iou)[share > 0].sum())
    assert result["pixel_accuracy"] == pytest.approx(np.diag(hist).sum() / hist.sum())


def test_counts_of_parts_add_up_to_those_of_the_whole():
    rng = np.random.default_rng(1)
    labels, predictions = rng.integers(0, 3, (2, 8, 8))
    first, second = filled(labels[:3], predictions[:3]), filled(labels[3:], predictions[3:])
    whole = filled(labels, predictions)
    np.testing.assert_array_equal((first + second).matrix, whole.matrix)
    assert first.matrix.sum() == 24  # `+` left its operands alone
    first += second
    np.testing.assert_array_equal(first.matrix, whole.matrix)
    with pytest.raises(ValueError, match="ignore label"):
        first += ConfusionMatrix(3, ignore_label=0)


def test_narrow_dtypes_do_not_overflow():
    labels = np.full((20, 20), 254, np.uint8)
    matrix = ConfusionMatrix(255)
    matrix.update(labels, labels)
    assert matrix.matrix[254, 254] == 400


def test_nothing_scored_gives_nan_not_an_exception():
    result = filled([[255]], [[0]]).result()
    assert np.isnan([result["mean_iou"], result["pixel_accuracy"]]).all()


@pytest.mark.parametrize(
    ("labels", "predictions", "message"),
    [
        ([[0, 7]], [[0, 0]], "label id 7 .*0..2 or the ignore label 255"),
        ([[0, -1]], [[0, 0]], "label id -1"),
        ([[0, 255]], [[0, 3]], "prediction id 3 .*0..2"),
        ([[0, 1]], [[0], [1]], r"\(1, 2\) but predictions \(2, 1\)"),
        ([[0, 1]], [[0.0, 1.0]], "predictions must be integers, not float64"),
    ],
)
def test_wrong_input_is_named_and_counts_nothing(labels, predictions, message):
    matrix = ConfusionMatrix(3)
    with pytest.raises(ValueError, match=message):
        matrix.update(np.array(labels), np.array(predictions))
    assert matrix.matrix.sum() == 0


def test_table_and_json():
    matrix = filled([[0, 0, 1]], [[0, 1, 1]])
    table = matrix.table(("sky", "tree", "car"))
    assert [line.split()[0] for line in table.splitlines()[2:6]] == ["sky", "tree", "car", "mean"]
    assert "50.00" in table.splitlines()[2]
    assert "pixel accuracy 66.67 %" in table
    loaded = json.loads(json.dumps(matrix.to_dict(("sky", "tree", "car")), allow_nan=False))
    assert loaded["per_class"][2] == {"name": "car", "iou": None, "accuracy": None, "pixels": 0}
    assert loaded["mean_iou"] == pytest.approx(0.5)
    with pytest.raises(ValueError, match="2 class names for 3 classes"):
        matrix.table(("a", "b"))
