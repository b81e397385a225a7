"""The registered R-CNNs: which trunk, which heads, which settings.

Settings are those of detectron2's configs/COCO-*/, which are Detectron's and the papers'.
"""

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from tfseg.backbones import mobilenet_v2, resnet
from tfseg.backbones.mobilenet_v2 import style_norm
from tfseg.layers.conv import batch_norm
from tfseg.layers.fpn import feature_pyramid
from tfseg.layers.resize import PadToMultiple
from tfseg.models.classification import IMAGENET_RGB, mobilenet_preprocessing
from tfseg.models.rcnn import heads as parts
from tfseg.models.rcnn.conventions import (
    CAFFE2_BGR,
    CONVENTIONS,
    DETECTRON2_BGR,
    DETECTRON_BGR,
    STYLES,
    Conventions,
)
from tfseg.models.rcnn.layout import Layout, Thresholds
from tfseg.models.rcnn.model import RCNN
from tfseg.models.semantic_fpn import PAPER as PANOPTIC
from tfseg.models.semantic_fpn import semantic_branch
from tfseg.ops.roi import check_rule
from tfseg.registry import Preprocessing, register

FASTER = "Ren et al., Faster R-CNN, NIPS 2015; Lin et al., Feature Pyramid Networks, CVPR 2017"
MASK = "He et al., Mask R-CNN, ICCV 2017"
SIZES = (32.0, 64.0, 128.0, 256.0, 512.0)
#: trunks without a pyramid: the map that all is read from, its stride and its channels
_SINGLE = {"c4": ("c4", 16, 1024), "c5": ("c5", 32, 2048)}
_PYRAMID = ("p2", "p3", "p4", "p5", "p6")
_MOBILENET_STAGES = ((0,), range(1, 4), range(4, 7), range(7, 14), range(14, 18))


def _conventions(style: str) -> Conventions:
    if style not in STYLES:
        raise ValueError(f"style must be one of {STYLES}, not {style!r}")
    return CONVENTIONS[style]


def _split(trunk: str) -> tuple[str, str]:
    """ "resnet50_fpn" as ("resnet50", "fpn")."""
    layout, _, kind = trunk.rpartition("_")
    return layout, kind


def _resnet_preprocessing(trunk: str) -> Any:
    def of(options: dict[str, Any]) -> Preprocessing:
        style = _conventions(options["style"]).style
        if style == "torchvision":
            return IMAGENET_RGB
        if style == "detectron":
            return DETECTRON_BGR
        return CAFFE2_BGR if "32x8d" in trunk else DETECTRON2_BGR

    return of


def _resnet_trunk(
    trunk: str, style: str, norm: Any, freeze_at: int
) -> tuple[keras.Model, str, Any]:
    """The images' maps; and where the ResNet strides, which its fifth stage needs to know."""
    layout, kind = _split(trunk)
    # MSRA's ResNets, which Detectron and detectron2 start from, stride in the 1x1.
    in_1x1 = style != "torchvision" and not layout.startswith("resnext")
    stride_in = "1x1" if in_1x1 else "3x3"
    image = keras.Input((None, None, 3), name="image")
    features = resnet(
        PadToMultiple(32, name="pad")(image) if kind == "fpn" else image,
        layout,
        stages=3 if kind == "c4" else 4,
        stride_in=stride_in,
        norm=norm,
        prefix="backbone.",
    )
    model = _finished_trunk(image, features, kind)
    frozen = ["conv1", "bn1"] if freeze_at > 0 else []
    frozen += [f"layer{number}." for number in range(1, freeze_at)]
    for layer in model.layers:
        if layer.name.startswith(tuple(f"backbone.{name}" for name in frozen)):
            layer.trainable = False
    return model, stride_in, norm


def _mobilenet_trunk(style: str, norm: Any, freeze_at: int) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    padded = PadToMultiple(32, name="pad")(image)
    features = mobilenet_v2(padded, style=style, norm=norm, prefix="backbone.")
    model = _finished_trunk(image, features, "fpn")
    frozen = {f"features.{n}" for stage in _MOBILENET_STAGES[:freeze_at] for n in stage}
    for layer in model.layers:
        if ".".join(layer.name.split(".")[1:3]) in frozen:
            layer.trainable = False
    return model


def _finished_trunk(image: Any, features: dict[str, Any], kind: str) -> keras.Model:
    if kind != "fpn":
        level, _, _ = _SINGLE[kind]
        return keras.Model(image, {level: features[level]}, name="trunk")
    pyramid = feature_pyramid(features)
    # Every other cell of p5 (FPN, footnote 1).
    pyramid["p6"] = keras.layers.MaxPooling2D(1, strides=2, name="p6")(pyramid["p5"])
    return keras.Model(image, pyramid, name="trunk")


def _layout(kind: str, sizes: Sequence[float], regions: dict[str, Any]) -> Layout:
    if not sizes or min(sizes) <= 0 or (kind == "fpn" and len(sizes) != len(_PYRAMID)):
        wanted = f"{len(_PYRAMID)} positive numbers" if kind == "fpn" else "positive numbers"
        raise ValueError(f"anchor_sizes must be {wanted}, not {tuple(sizes)}")
    if kind == "fpn":
        strides = tuple(2**level for level in range(2, 7))
        return Layout(_PYRAMID, strides, tuple((s,) for s in sizes), roi_levels=4, **regions)
    level, stride, _ = _SINGLE[kind]
    box_size = 14 if kind == "c4" else 7
    return Layout((level,), (stride,), (tuple(sizes),), roi_levels=1, box_size=box_size, **regions)


def _assemble(
    kind: str,
    trunk: keras.Model,
    num_classes: int,
    rules: Conventions,
    options: dict[str, Any],
    *,
    res5: keras.Model | None = None,
    mask: bool = False,
    keypoints: int | None = None,
    semantic: keras.Model | None = None,
) -> RCNN:
    """The detector on a trunk. ``options`` are the builder's."""
    regions = {key: options[key] for key in ("roi_op", "roi_reduce", "sampling_ratio")}
    if regions["sampling_ratio"] is None:
        regions["sampling_ratio"] = rules.sampling_ratio
    check_rule(*regions.values())
    layout = _layout(kind, options["anchor_sizes"], regions)
    channels = trunk.output[layout.levels[0]].shape[-1]
    own = num_classes + 1 if rules.background_first else num_classes
    heads = {"rpn": parts.rpn_head(channels, len(layout.anchor_sizes[0]) * 3)}
    if res5 is not None:
        heads["res5"] = res5
    else:
        heads["box"] = parts.fully_connected(layout.box_size, channels)
    heads["box_predictor"] = parts.box_predictor(
        2048 if res5 is not None else 1024, num_classes + 1, own
    )
    if mask:
        # Classes that compete for a cell have the background among them.
        masks = num_classes + 1 if options["mask_activation"] == "softmax" else own
        masks = 1 if options["class_agnostic_mask"] else masks
        heads["mask"] = _mask_head(layout, channels, masks, options, res5)
    if keypoints is not None:
        heads["keypoint"] = parts.keypoint_head(
            layout.mask_size, channels, keypoints, zero_border=rules.style == "detectron"
        )
    if semantic is not None:
        heads["semantic"] = semantic
    many = kind != "fpn"
    return RCNN(
        trunk,
        heads,
        num_classes=num_classes,
        layout=layout,
        conventions=rules,
        thresholds=Thresholds(
            pre_nms=(12000, 6000) if many else (2000, 1000),
            post_nms=(_training_proposals(many, keypoints, rules), 1000),
            score=options["score_threshold"],
            nms=options["nms_threshold"],
            detections=options["max_detections"],
        ),
        mask_activation=options.get("mask_activation", "sigmoid"),
    )


def _training_proposals(many: bool, keypoints: int | None, rules: Conventions) -> int:
    """Proposals of an image in training, from the code bases' own configs."""
    if many or rules.style == "torchvision":
        return 2000
    # Detectron takes 2000 from a GPU's two images together.
    return 1500 if keypoints is not None and rules.style == "detectron2" else 1000


def _mask_head(
    layout: Layout, channels: int, masks: int, options: dict[str, Any], res5: keras.Model | None
) -> keras.Model:
    kind, activation = options["mask_head"], options["mask_activation"]
    if kind not in parts.MASK_HEADS:
        raise ValueError(f"mask_head must be one of {parts.MASK_HEADS}, not {kind!r}")
    if activation not in ("sigmoid", "softmax"):
        raise ValueError(f"mask_activation must be 'sigmoid' or 'softmax', not {activation!r}")
    if activation == "softmax" and options["class_agnostic_mask"]:
        raise ValueError("mask_activation 'softmax' needs a mask for each class")
    if res5 is not None:
        size, channels = res5.output.shape[1], 2048
    else:
        size = layout.mask_size
    if kind == "mlp":
        return parts.mask_mlp(size, channels, masks)
    return parts.mask_head(size, channels, masks, convolutions=0 if res5 is not None else 4)


def _detector(trunk: str, num_classes: int, family: str, options: dict[str, Any]) -> RCNN:
    """A detector of a family on one of the trunks by name."""
    if not 0 <= options["freeze_at"] <= 5:
        raise ValueError(f"freeze_at must lie in 0..5, not {options['freeze_at']!r}")
    layout, kind = _split(trunk)
    res5 = None
    if layout == "mobilenet_v2":
        rules = CONVENTIONS["detectron2"]
        norm = style_norm(options["style"], options["norm"])
        maps = _mobilenet_trunk(options["style"], norm, options["freeze_at"])
    else:
        rules = _conventions(options["style"])
        norm = batch_norm(options["norm"], epsilon=options["norm_epsilon"])
        maps, stride_in, _ = _resnet_trunk(trunk, rules.style, norm, options["freeze_at"])
        if kind == "c4":
            res5 = parts.fifth_stage(layout, 14, stride_in, norm)
    if family == "keypoint_rcnn" and rules.style == "detectron2":
        # configs/COCO-Keypoints/Base-Keypoint-RCNN-FPN.yaml: keypoints lose by a plain L1 loss.
        rules = replace(rules, box_beta=0.5)
    semantic = None
    if family == "panoptic_fpn":
        semantic = _semantic_head(maps, options["stuff_classes"], options["head_norm"])
    return _assemble(
        kind,
        maps,
        num_classes,
        rules,
        options,
        res5=res5,
        mask=family in ("mask_rcnn", "panoptic_fpn") or options.get("mask", False),
        keypoints=options["keypoints"] if family == "keypoint_rcnn" else None,
        semantic=semantic,
    )


def _semantic_head(trunk: keras.Model, classes: int, norm: str) -> keras.Model:
    levels = {level: trunk.output[level] for level in _PYRAMID[:4]}
    inputs = {
        level: keras.Input((None, None, map_.shape[-1]), name=level)
        for level, map_ in levels.items()
    }
    return keras.Model(inputs, semantic_branch(inputs, classes, norm), name="semantic_head")


#: options of all detectors and their defaults; what they mean stands in `register_detector`
_COMMON: dict[str, Any] = {
    "style": "detectron2",
    "norm": "frozen_batch",
    "norm_epsilon": 1e-5,
    "freeze_at": 2,
    "anchor_sizes": SIZES,
    "roi_op": "align",
    "roi_reduce": "average",
    "sampling_ratio": None,
    "score_threshold": 0.05,
    "nms_threshold": 0.5,
    "max_detections": 100,
}
_MASK_OPTIONS: dict[str, Any] = {
    "mask_head": "fcn",
    "class_agnostic_mask": False,
    "mask_activation": "sigmoid",
}


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
    mobile = trunk.startswith("mobilenet")
    options = {**_COMMON, **own}
    if mobile:
        del options["norm_epsilon"]
        options["style"] = "torchvision"
    # Panoptic FPN has its pyramid in its name.
    name = f"{family}_{_split(trunk)[0] if family == 'panoptic_fpn' else trunk}"

    def build(num_classes: int, **given: Any) -> RCNN:
        """A detector.

        Args:
            num_classes: without the background.
            style: "detectron2", "torchvision" or "detectron": whose conventions and
                preprocessing, see `Conventions`; weights of one are wrong in another. On a
                MobileNetV2, "torchvision" or "keras", its padding.
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
            score_threshold: the least score of a detection.
            nms_threshold: the largest overlap of two detections of one class.
            max_detections: of an image.
            mask_head: "fcn" or "mlp" (table 2e).
            class_agnostic_mask: one mask for all classes (section 4.2).
            mask_activation: "sigmoid", or "softmax" over the classes (table 2b).
            keypoints: kinds of keypoints.
            mask: of a keypoint network: a mask head too (section 5, table 4).
            stuff_classes: of a panoptic network: classes of the semantic head.
            head_norm: of the semantic head, "group" or "none".
        """
        return _detector(trunk, num_classes, family, given)

    parameters = [inspect.Parameter("num_classes", inspect.Parameter.POSITIONAL_OR_KEYWORD)]
    parameters += [
        inspect.Parameter(option, inspect.Parameter.KEYWORD_ONLY, default=default)
        for option, default in options.items()
    ]
    build.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    preprocessing = mobilenet_preprocessing if mobile else _resnet_preprocessing(trunk)
    register(name, task=task, paper=paper, num_classes=num_classes, preprocessing=preprocessing)(
        build
    )


for _trunk in (
    "resnet50_c4",
    "resnet101_c4",
    "resnet50_c5",
    "resnet50_fpn",
    "resnet101_fpn",
    "resnext101_32x8d_fpn",
    "resnext101_64x4d_fpn",
    "mobilenet_v2_fpn",
):
    _register_detector("faster_rcnn", _trunk, "detection", FASTER, 80, {})
    _register_detector("mask_rcnn", _trunk, "instance", MASK, 80, _MASK_OPTIONS)
    _register_detector(
        "keypoint_rcnn",
        _trunk,
        "keypoint",
        MASK,
        1,
        {"keypoints": 17, "mask": False, **_MASK_OPTIONS},
    )
for _trunk in ("resnet50_fpn", "resnet101_fpn", "mobilenet_v2_fpn"):
    _register_detector(
        "panoptic_fpn",
        _trunk,
        "panoptic",
        PANOPTIC,
        80,
        {"stuff_classes": 54, "head_norm": "group", **_MASK_OPTIONS},
    )
