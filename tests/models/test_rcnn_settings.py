"""What the code bases' own configs set beside their defaults."""

import pytest

import tfseg
from tfseg.models.rcnn.assembly import _thresholds
from tfseg.models.rcnn.conventions import CONVENTIONS


@pytest.mark.parametrize(
    ("style", "kind", "family", "proposals"),
    [
        ("detectron2", "fpn", "mask_rcnn", 1000),
        ("detectron2", "fpn", "keypoint_rcnn", 1500),
        ("detectron2", "fpn", "cascade_mask_rcnn", 2000),  # configs/Misc/cascade_mask_rcnn_*
        ("detectron2", "c4", "mask_rcnn", 2000),
        ("torchvision", "fpn", "mask_rcnn", 2000),
        ("torchvision", "fpn", "keypoint_rcnn", 2000),
        ("detectron", "fpn", "mask_rcnn", 1000),  # 2000 of a GPU's two images
        ("detectron", "c4", "mask_rcnn", 2000),
    ],
)
def test_proposals_of_an_image_in_training(style, kind, family, proposals):
    given = {
        "max_proposals": 300,
        "score_threshold": 0.05,
        "nms_threshold": 0.5,
        "max_detections": 100,
    }
    found = _thresholds(kind, family, CONVENTIONS[style], given)
    assert found.post_nms == (proposals, 300)


def test_keypoints_have_a_loss_of_boxes_of_their_own():
    """configs/COCO-Keypoints/Base-Keypoint-RCNN-FPN.yaml: SMOOTH_L1_BETA of the box head."""
    keypoint = tfseg.build("keypoint_rcnn_mobilenet_v2_fpn")
    assert (keypoint.conventions.box_beta, keypoint.conventions.rpn_beta) == (0.5, 0.0)
    assert keypoint.thresholds.post_nms == (1500, 1000)
    assert CONVENTIONS["detectron2"].box_beta == 0.0


@pytest.mark.slow
@pytest.mark.parametrize(("style", "beta"), [("torchvision", 1 / 9), ("detectron", 1.0)])
def test_other_styles_keep_theirs(style, beta):
    model = tfseg.build("keypoint_rcnn_resnet50_fpn", style=style)
    assert model.conventions.box_beta == beta
