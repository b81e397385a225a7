"""How detections are compared with a golden's, without one."""

import numpy as np
import pytest

from tfseg.weights import detector_goldens
from tfseg.weights.detector_goldens import counts, network, set_errors


@pytest.mark.parametrize(
    ("reference", "name", "options"),
    [
        ("mask_rcnn_R_50_FPN", "mask_rcnn_resnet50_fpn", {}),
        ("mask_rcnn_R_101_C4", "mask_rcnn_resnet101_c4", {}),
        ("mask_rcnn_X_101_32x8d_FPN", "mask_rcnn_resnext101_32x8d_fpn", {}),
        ("panoptic_fpn_R_101", "panoptic_fpn_resnet101", {}),
        ("cascade_mask_rcnn_R_50_FPN", "cascade_mask_rcnn_resnet50_fpn", {}),
        (
            "keypointrcnn_resnet50_fpn",
            "keypoint_rcnn_resnet50_fpn",
            {"style": "torchvision"},
        ),
    ],
)
def test_names(reference, name, options):
    assert network(reference) == (name, options)


@pytest.mark.parametrize("name", ["resnet50", "resnext101_32x8d", "pspnet50_ADE20K_473"])
def test_no_detector(name):
    assert network(name) is None


def test_counts_of_a_checkpoint():
    params = {"roi_heads.box_predictor.cls_score.bias": [6], "sem_seg_head.predictor.bias": [9]}
    assert counts(params) == (5, {"stuff_classes": 9})
    params = {
        "roi_heads.box_predictor.cls_score.bias": [2],
        "roi_heads.keypoint_predictor.kps_score_lowres.bias": [4],
    }
    assert counts(params) == (1, {"keypoints": 4})
    params["roi_heads.mask_predictor.mask_fcn_logits.bias"] = [2]
    assert counts(params) == (1, {"keypoints": 4, "mask": True})
    assert counts({"roi_heads.box_predictor.0.cls_score.bias": [6]}) == (5, {})


class _Detector:
    """Finds what it is told to."""

    box_stages = (None,)

    def __init__(self, anchors, proposals, detections):
        self._anchors, self._proposals, self._detections = anchors, proposals, detections

    def features(self, images):
        return {}

    def rpn_outputs(self, features):
        return [], []

    def anchors(self, features):
        return [self._anchors]

    def scored_proposals(self, logits, deltas, anchors, sizes):
        boxes, logits = self._proposals
        return boxes[None], np.ones((1, len(boxes)), bool), logits[None]

    def __call__(self, images, training):
        return {key: value[None] for key, value in self._detections.items()}


class _Cascade(_Detector):
    """Remembers the proposals that it was given."""

    box_stages, seen = (None,) * 3, None

    def candidates(self, features, proposals, valid, sizes):
        assert valid.all()
        assert sizes.tolist() == [[64, 96]]
        self.seen = proposals

    def detections(self, candidates):
        return self(None, False)


def _boxes(number, seed=0):
    corners = np.random.default_rng(seed).uniform(0, 100, (number, 2))
    return np.concatenate([corners, corners + 30], 1).astype("float32")


@pytest.fixture
def golden():
    """Of 40 detections one has no width, and is found a little beside it."""
    boxes = _boxes(40)
    boxes[0, 2] = boxes[0, 0]
    return {
        "anchors_head": _boxes(200, 1)[:64],
        "anchors_tail": _boxes(200, 1)[-64:],
        "proposals": _boxes(50, 2),
        "proposal_logits": np.linspace(3, -3, 50, dtype="float32"),
        "det_boxes": boxes,
        "det_scores": np.linspace(1, 0, 40, dtype="float32"),
        "det_labels": np.arange(40) % 5 + 1,
        "det_keypoints": np.full((10, 17, 3), 7, "float32"),
    }


@pytest.fixture
def found(golden):
    """What equals the golden: in another order, and with places that are not valid."""
    order = np.random.default_rng(3).permutation(40)
    detections = {
        "boxes": golden["det_boxes"] + np.float32(0.01),
        "scores": golden["det_scores"] + np.float32(0.001),
        "classes": golden["det_labels"] - 1,
        "keypoints": np.full((40, 17, 3), 7.1, "float32"),
    }
    detections = {key: value[order] for key, value in detections.items()}
    valid = np.ones(40, bool)
    for key, value in detections.items():
        detections[key] = np.concatenate([value, value[:3] * 0])
    detections["valid"] = np.concatenate([valid, np.zeros(3, bool)])
    return _Detector(_boxes(200, 1), (golden["proposals"], golden["proposal_logits"]), detections)


def _errors(found, golden):
    return set_errors(found, np.zeros((1, 64, 96, 3), np.float32), golden)


def test_equal_sets(found, golden):
    assert set(_errors(found, golden).values()) == {0.0}


def test_a_cascade_starts_from_the_goldens_proposals(found, golden):
    """If these are all: of the first 300 of more the detections would be others."""
    cascade = _Cascade(found._anchors, found._proposals, found._detections)
    assert _errors(cascade, golden)["det_boxes"] == 0
    np.testing.assert_array_equal(cascade.seen, golden["proposals"][None])
    cascade.seen = None
    golden |= {"proposals": _boxes(300), "proposal_logits": np.zeros(300, "float32")}
    assert _errors(cascade, golden)["det_boxes"] == 0
    assert cascade.seen is None


def test_another_anchor(found, golden):
    golden["anchors_tail"] = golden["anchors_tail"] + np.float32(1e-4)
    errors = _errors(found, golden)
    assert errors["anchors_tail"] == np.inf
    assert errors["anchors_head"] == 0


def test_two_of_forty_may_be_missing_and_three_not(found, golden):
    golden["det_boxes"][:2] += 50
    assert _errors(found, golden)["det_boxes"] == 0
    golden["det_boxes"][2] += 50
    assert _errors(found, golden)["det_boxes"] == pytest.approx(3 / 40)


@pytest.mark.parametrize(
    ("key", "change"), [("det_scores", 0.02), ("det_labels", 1), ("det_boxes", 1.0)]
)
def test_other_scores_classes_and_boxes(found, golden, key, change):
    """A pixel is 6 % of these boxes."""
    golden[key] = golden[key] + change
    assert _errors(found, golden)["det_boxes"] > 0.5


def test_detections_where_there_are_none(found, golden):
    for key in ("det_boxes", "det_scores", "det_labels"):
        golden[key] = golden[key][:0]
    del golden["det_keypoints"]
    assert _errors(found, golden)["det_boxes"] == 1


def test_other_keypoints_and_proposals(found, golden):
    golden["det_keypoints"][:, :2, 0] += 1
    golden["proposal_logits"] = golden["proposal_logits"] + 0.02
    errors = _errors(found, golden)
    assert errors["det_keypoints"] == pytest.approx(2 / 17)
    assert errors["proposals"] == 1
    assert detector_goldens.PROPOSALS == 300
