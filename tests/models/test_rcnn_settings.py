"""What the code bases' own configs set beside their defaults."""

import pytest

import tfseg
from tfseg.models.rcnn.conventions import CONVENTIONS
from tfseg.models.rcnn.networks import _training_proposals


@pytest.mark.parametrize(
    ("style", "single", "keypoints", "proposals"),
    [
        ("detectron2", False, None, 1000),
        ("detectron2", False, 17, 1500),
        ("detectron2", True, None, 2000),
        ("torchvision", False, None, 2000),
        ("torchvision", False, 17, 2000),
        ("detectron", False, None, 1000),  # 2000 of a GPU's two images
        ("detectron", True, None, 2000),
    ],
)
def test_proposals_of_an_image_in_training(style, single, keypoints, proposals):
    assert _training_proposals(single, keypoints, CONVENTIONS[style]) == proposals


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
