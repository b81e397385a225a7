"""How a detector looks at its images, and how much it keeps."""

from dataclasses import dataclass

from tfseg.ops.soft_nms import SoftNms

ROI_FUSIONS = ("none", "max", "sum")


@dataclass(frozen=True)
class Layout:
    """How a detector looks at its images.

    Attributes:
        levels: the maps that the RPN looks at, finest first.
        strides: pixels of a cell of each.
        anchor_sizes: sides of each level's square anchors, in pixels.
        roi_levels: how many of the levels, from the first, regions are read from.
        box_size: bins of a region for the box head.
        mask_size: bins of a region for the mask and keypoint heads.
        roi_op: see `tfseg.ops.roi.pool_regions`.
        roi_reduce: see there.
        sampling_ratio: see there.
        roi_fusion: "none": a region is read from the level of its size (FPN, section 4.2); "max"
            or "sum": from all levels, and the greatest or the sum is taken of each bin.
    """

    levels: tuple[str, ...]
    strides: tuple[int, ...]
    anchor_sizes: tuple[tuple[float, ...], ...]
    roi_levels: int
    box_size: int = 7
    mask_size: int = 14
    roi_op: str = "align"
    roi_reduce: str = "average"
    sampling_ratio: int = 0
    roi_fusion: str = "none"


@dataclass(frozen=True)
class Thresholds:
    """What is kept between the stages and at the end.

    Attributes:
        pre_nms: proposals of a level before suppression, in (training, inference).
        post_nms: proposals of an image after it, in (training, inference).
        proposal_nms: the largest overlap of two proposals of one level.
        score: the least score of a detection.
        nms: the largest overlap of two detections of one class.
        detections: of an image.
        soft_nms: how detections that overlap are treated; see `tfseg.ops.soft_nms.soft_nms`.
        soft_sigma: see there.
        soft_floor: see there.
        vote: the least overlap of the boxes that a detection becomes the mean of; see
            `tfseg.ops.box_voting.vote`. None: it stays.
    """

    pre_nms: tuple[int, int]
    post_nms: tuple[int, int]
    proposal_nms: float = 0.7
    score: float = 0.05
    nms: float = 0.5
    detections: int = 100
    soft_nms: SoftNms = "none"
    soft_sigma: float = 0.5
    soft_floor: float = 1e-4
    vote: float | None = None
