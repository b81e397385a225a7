"""What three code bases that hold the same R-CNNs do differently."""

from dataclasses import dataclass

from tfseg.ops.anchors import AnchorStyle
from tfseg.registry import Preprocessing

STYLES = ("detectron2", "torchvision", "detectron")


@dataclass(frozen=True)
class Conventions:
    """The rules that weights were trained under.

    Attributes:
        style: one of STYLES.
        background_first: the background is class 0 of the class logits, and has boxes and masks
            of its own; else it is the last class logit and has none.
        aligned: cell i of a map has its centre at i + 0.5; see `tfseg.ops.roi.pool_regions`.
        sampling_ratio: of RoIAlign.
        level_epsilon: see `tfseg.ops.roi.pyramid_levels`.
        inclusive: RoIAlign is given x2 - 1 and y2 - 1: Detectron's boxes end with their last
            pixel.
        anchors: see `tfseg.ops.anchors.cell_anchors`.
        min_proposal_size: proposals with a smaller side are dropped; with 0 those without area.
        min_detection_size: detections with a smaller side are dropped.
        rpn_beta: where the smooth L1 loss of the RPN's boxes turns from a square to a line;
            0: it is the absolute error.
        box_beta: the same of the box head.
        box_weights: of x, y, width and height in the box head's offsets.
    """

    style: str
    background_first: bool
    aligned: bool
    sampling_ratio: int
    level_epsilon: float
    inclusive: bool
    anchors: AnchorStyle
    min_proposal_size: float
    min_detection_size: float
    rpn_beta: float
    box_beta: float
    box_weights: tuple[float, float, float, float] = (10.0, 10.0, 5.0, 5.0)


#: config/defaults.py; models/detection/{faster_rcnn,rpn,roi_heads}.py; core/config.py
CONVENTIONS = {
    "detectron2": Conventions(
        style="detectron2",
        background_first=False,
        aligned=True,
        sampling_ratio=0,
        level_epsilon=1e-8,
        inclusive=False,
        anchors="detectron2",
        min_proposal_size=0.0,
        min_detection_size=0.0,
        rpn_beta=0.0,
        box_beta=0.0,
    ),
    "torchvision": Conventions(
        style="torchvision",
        background_first=True,
        aligned=False,
        sampling_ratio=2,
        level_epsilon=1e-6,
        inclusive=False,
        anchors="torchvision",
        min_proposal_size=1e-3,
        min_detection_size=1e-2,
        rpn_beta=1 / 9,
        box_beta=1 / 9,
    ),
    "detectron": Conventions(
        style="detectron",
        background_first=True,
        aligned=False,
        sampling_ratio=2,
        level_epsilon=1e-8,
        inclusive=True,
        anchors="detectron",
        min_proposal_size=0.0,
        min_detection_size=0.0,
        rpn_beta=1 / 9,
        box_beta=1.0,
    ),
}

#: of ResNets converted from MSRA's Caffe models; Detectron's default, and detectron2's
DETECTRON_BGR = Preprocessing("bgr", (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0))
DETECTRON2_BGR = Preprocessing("bgr", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
#: of the ResNeXt-101-32x8d trained in Caffe2, as detectron2 has it; Detectron divides by nothing
CAFFE2_BGR = Preprocessing("bgr", (103.53, 116.28, 123.675), (57.375, 57.12, 58.395))
