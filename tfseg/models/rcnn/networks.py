"""The registered R-CNNs: which families on which trunks, and their options."""

import inspect
from typing import Any

from tfseg.backbones import DEEP_SHUFFLENETS
from tfseg.models.classification import (
    DEEP_PREPROCESSING,
    IMAGENET_RGB,
    mobilenet_preprocessing,
    shufflenet_preprocessing,
)
from tfseg.models.rcnn.assembly import assemble, conventions
from tfseg.models.rcnn.conventions import CAFFE2_BGR, DETECTRON2_BGR, DETECTRON_BGR
from tfseg.models.rcnn.model import RCNN
from tfseg.models.rcnn.trunks import SINGLE, split
from tfseg.models.semantic_fpn import PAPER as PANOPTIC
from tfseg.registry import Preprocessing, register

FASTER = "Ren et al., Faster R-CNN, NIPS 2015; Lin et al., Feature Pyramid Networks, CVPR 2017"
MASK = "He et al., Mask R-CNN, ICCV 2017"
CASCADE = "Cai, Vasconcelos, Cascade R-CNN, CVPR 2018"
SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)


def _resnet_preprocessing(trunk: str) -> Any:
    def of(options: dict[str, Any]) -> Preprocessing:
        style = conventions(options["style"]).style
        if style == "torchvision":
            return IMAGENET_RGB
        if style == "detectron":
            return DETECTRON_BGR
        return CAFFE2_BGR if "32x8d" in trunk else DETECTRON2_BGR

    return of


def _shufflenet_preprocessing(options: dict[str, Any]) -> Preprocessing:
    layout = options["layout"]
    if layout in DEEP_SHUFFLENETS:
        return DEEP_PREPROCESSING[layout]
    return shufflenet_preprocessing(options)


#: options of all detectors and their defaults; what they mean stands in `_register_detector`
_COMMON: dict[str, Any] = {
    "style": "detectron2",
    "norm": "frozen_batch",
    "norm_epsilon": 1e-5,
    "freeze_at": 2,
    "anchor_sizes": SIZES,
    "roi_op": "align",
    "roi_reduce": "average",
    "sampling_ratio": None,
    "max_proposals": 1000,
    "score_threshold": 0.05,
    "nms_threshold": 0.5,
    "max_detections": 100,
}
#: of networks with a pyramid
_PYRAMID: dict[str, Any] = {"box_head": "fc", "roi_fusion": "none"}
_SEMANTIC: dict[str, Any] = {"semantic_classes": None, "head_norm": "group"}
_MASK: dict[str, Any] = {
    "mask_head": "fcn",
    "mask_convolutions": 4,
    "class_agnostic_mask": False,
    "mask_activation": "sigmoid",
}


def _options(trunk: str, own: dict[str, Any]) -> dict[str, Any]:
    """All options of a detector with their defaults."""
    kind = split(trunk)[1]
    options = {**_COMMON, **own}
    if kind not in SINGLE:
        options |= _PYRAMID
    if kind == "sfpn":
        options |= _SEMANTIC
    if kind == "c4":
        options.pop("mask_convolutions", None)
    if trunk.startswith("resnet") and kind not in SINGLE:
        options["global_context"] = False
    elif trunk.startswith("mobilenet"):
        del options["norm_epsilon"]
        options["style"] = "torchvision"
    elif trunk.startswith("shufflenet"):
        del options["norm_epsilon"]
        options |= {
            "style": "megvii",
            "layout": "shufflenet_v2_exlarge",
            "global_context": True,
        }
    return options


def _register_detector(
    family: str, trunk: str, task: str, paper: str, num_classes: int, own: dict[str, Any]
) -> None:
    """Registers one detector.

    Args:
        family: "faster_rcnn" and so on.
        trunk: as in "resnet50_fpn".
        num_classes: of the published weights, without the background.
        own: options of the family beside the common ones, with their defaults.
    """
    options = _options(trunk, own)
    # Panoptic FPN has its pyramid in its name.
    name = f"{family}_{split(trunk)[0] if family == 'panoptic_fpn' else trunk}"

    def build(num_classes: int, **given: Any) -> RCNN:
        """A detector.

        Args:
            num_classes: without the background.
            style: "detectron2", "torchvision" or "detectron": whose conventions and
                preprocessing, see `Conventions`; weights of one are wrong in another. On a
                MobileNetV2, "torchvision" or "keras", its padding; on a ShuffleNetV2,
                "megvii" or "torchvision", whose block.
            layout: of a ShuffleNetV2. Which one Megvii's detectors had is not public: ExLarge,
                the default, is what they released beside the paper's sizes.
            global_context: the image's average joins what each block of the trunk computes; see
                `tfseg.layers.context`.
            norm: of the trunk: "frozen_batch", "batch" or "sync_batch".
            norm_epsilon: of the trunk's norms; torchvision's published detectors need 0.
            freeze_at: how much of the trunk does not train: 0 nothing, 1 the stem, 2 the first
                stage too, and so on.
            anchor_sizes: sides of square anchors in pixels: of a pyramid one for each level,
                finest first; of a single map all of its own.
            roi_op: "align", "pool" or "warp" (Mask R-CNN, table 2c).
            roi_reduce: "average" or "max" of RoIAlign's samples.
            sampling_ratio: samples of a bin along a side, 0 as many as it has cells; None: the
                style's.
            max_proposals: of an image that the heads judge in use; in training they are as many
                as the code bases have.
            score_threshold: the least score of a detection.
            nms_threshold: the largest overlap of two detections of one class.
            max_detections: of an image.
            box_head: "fc", or "location_sensitive"; see `tfseg.models.rcnn.box_heads`.
            roi_fusion: "none", "max" or "sum" of all levels; see `Layout`.
            mask_head: "fcn" or "mlp" (table 2e).
            mask_convolutions: of the "fcn" head; Megvii's heavier header has more, we take 8.
            class_agnostic_mask: one mask for all classes (section 4.2).
            mask_activation: "sigmoid", or "softmax" over the classes (table 2b).
            keypoints: kinds of keypoints.
            mask: of a keypoint network: a mask head too (section 5, table 4).
            stuff_classes: of a panoptic network: classes of the semantic head.
            semantic_classes: of a semantic-guided pyramid: labels that its branch learns; None:
                the classes and a background, as masks flattened from objects have.
            head_norm: of the semantic head, "group" or "none".
        """
        return assemble(trunk, num_classes, family, given)

    parameters = [inspect.Parameter("num_classes", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default)
        for option, default in options.items()
    ]
    build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    preprocessing = _resnet_preprocessing(trunk)
    if trunk.startswith("mobilenet"):
        preprocessing = mobilenet_preprocessing
    elif trunk.startswith("shufflenet"):
        preprocessing = _shufflenet_preprocessing
    register(name, task=task, paper=paper, num_classes=num_classes, preprocessing=preprocessing)(
        build
    )


_PYRAMIDS = (
    "resnet50_fpn",
    "resnet101_fpn",
    "resnext101_32x8d_fpn",
    "resnext101_64x4d_fpn",
    "mobilenet_v2_fpn",
)
_GUIDED = ("resnet50_sfpn", "resnet101_sfpn", "mobilenet_v2_sfpn")

for _trunk in ("resnet50_c4", "resnet101_c4", "resnet50_c5", *_PYRAMIDS):
    _register_detector(
        "keypoint_rcnn", _trunk, "keypoint", MASK, 1, {"keypoints": 17, "mask": False, **_MASK}
    )
for _trunk in ("resnet50_c4", "resnet101_c4", "resnet50_c5", *_PYRAMIDS, *_GUIDED):
    _register_detector("faster_rcnn", _trunk, "detection", FASTER, 80, {})
    _register_detector("mask_rcnn", _trunk, "instance", MASK, 80, _MASK)
for _trunk in (*_PYRAMIDS, *_GUIDED):
    _register_detector("cascade_rcnn", _trunk, "detection", CASCADE, 80, {})
    _register_detector("cascade_mask_rcnn", _trunk, "instance", CASCADE, 80, _MASK)
_register_detector("mask_rcnn", "shufflenet_v2_gap_fpn", "instance", MASK, 80, _MASK)
for _trunk in ("resnet50_fpn", "resnet101_fpn", "mobilenet_v2_fpn"):
    _register_detector(
        "panoptic_fpn",
        _trunk,
        "panoptic",
        PANOPTIC,
        80,
        {"stuff_classes": 54, "head_norm": "group", **_MASK},
    )
