"""The sections of an experiment file that only detectors use."""

from pathlib import Path
from typing import Literal

from pydantic import Field, PositiveInt, ValidationInfo, field_validator

from tfseg.config.base import Section


class RCNNTraining(Section):
    """What an R-CNN learns from; see `tfseg.losses.RCNNLoss`.

    ``learn`` and ``proposer`` are for Faster R-CNN's training in four steps: what learns, and the
    weights file (of the same network), or the earlier stage, whose region proposals the heads
    learn from.
    """

    rpn_samples: int = Field(256, gt=0)
    rpn_positive_fraction: float = Field(0.5, gt=0, le=1)
    rpn_thresholds: tuple[float, float] = (0.3, 0.7)
    straddle: float = Field(-1.0, ge=-1)
    roi_samples: int = Field(512, gt=0)
    roi_positive_fraction: float = Field(0.25, gt=0, le=1)
    roi_threshold: float = Field(0.5, gt=0, lt=1)
    cascade_thresholds: tuple[float, ...] = (0.6, 0.7)
    crowd_threshold: float = Field(0.7, gt=0, le=1)
    mask_edge_weight: float = Field(0.0, ge=0)
    normalise_by_visible: bool = True
    keypoint_minimum: int = Field(0, ge=0)
    semantic_weight: float = Field(0.5, ge=0)
    learn: list[Literal["rpn", "heads"]] = ["rpn", "heads"]
    proposer: Path | None = None


class Combine(Section):
    """How a panoptic network's objects and labels become one map; see `tfseg.predict.panoptic`."""

    overlap_threshold: float = Field(0.5, ge=0, le=1)
    stuff_area_threshold: int = Field(4096, ge=0)
    score_threshold: float = Field(0.5, ge=0, le=1)


class Detect(Section):
    """How a detector looks at whole images, in validation, evaluation and on the command line.

    ``short_side`` and ``long_side`` are of the resized image: the short side becomes that long
    unless the long one would exceed its own. Detections that score less than ``score_threshold``
    are left out of pictures and files, but not of scores. ``combine`` is of panoptic networks.

    The others are used by ``tfseg evaluate`` and ``predict``, not by validation during training;
    exports have those of suppression. ``soft_nms`` lowers the scores of detections that overlap
    better ones ("gaussian" by ``soft_sigma``), ``vote`` makes each the mean of what overlaps it
    that much; see `tfseg.ops.soft_nms` and `tfseg.ops.box_voting`. ``scales`` are short sides
    that images are looked at with beside ``short_side``, up to ``scales_long_side`` (None:
    ``long_side``), and ``flip`` adds the mirror image of each size. ``boxes`` are run folders of
    detectors and files of COCO's results, whose boxes are taken instead of the network's own;
    see `tfseg.predict.AugmentedDetector`.
    """

    short_side: int = Field(800, gt=0)
    long_side: int = Field(1333, gt=0)
    batch_size: int = Field(1, gt=0)
    freeze: bool = False
    score_threshold: float = Field(0.5, ge=0, lt=1)
    combine: Combine = Combine()
    soft_nms: Literal["none", "linear", "gaussian"] = "none"
    soft_sigma: float = Field(0.5, gt=0)
    vote: float | None = Field(None, gt=0, le=1)
    scales: list[PositiveInt] = []
    scales_long_side: PositiveInt | None = None
    flip: bool = False
    boxes: list[Path] = []

    @field_validator("scales")
    @classmethod
    def _further(cls, scales: list[int], info: ValidationInfo) -> list[int]:
        if len({info.data.get("short_side"), *scales}) != 1 + len(scales):
            raise ValueError("scales are others than short_side, and each is there once")
        return scales
