"""From a detector's name and options to its trunk, heads and settings.

Settings are those of detectron2's configs/COCO-*/, which are Detectron's and the papers'.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import keras

from tfseg.models.rcnn import heads as parts
from tfseg.models.rcnn.box_heads import (
    BOX_HEADS,
    box_predictor,
    fully_connected,
    location_sensitive,
)
from tfseg.models.rcnn.conventions import CONVENTIONS, STYLES, Conventions
from tfseg.models.rcnn.layout import ROI_FUSIONS, Layout, Thresholds
from tfseg.models.rcnn.model import RCNN
from tfseg.models.rcnn.semantic_guidance import semantic_classifier
from tfseg.models.rcnn.trunks import (
    PYRAMID,
    SINGLE,
    mobilenet_trunk,
    resnet_trunk,
    shufflenet_trunk,
    split,
)
from tfseg.models.semantic_fpn import semantic_features, semantic_predictor
from tfseg.ops.roi import check_rule

#: of x, y, width and height in the offsets of each stage (Cascade R-CNN, section 4.1)
CASCADE_WEIGHTS = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))


def conventions(style: str) -> Conventions:
    """The style's rules.

    Raises:
        ValueError: for another style.
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {STYLES}, not {style!r}")
    return CONVENTIONS[style]


def _layout(kind: str, options: dict[str, Any], rules: Conventions) -> Layout:
    sizes: Sequence[float] = options["anchor_sizes"]
    single = kind in SINGLE
    if not sizes or min(sizes) <= 0 or (not single and len(sizes) != len(PYRAMID)):
        wanted = "positive numbers" if single else f"{len(PYRAMID)} positive numbers"
        raise ValueError(f"anchor_sizes must be {wanted}, not {tuple(sizes)}")
    regions = {key: options[key] for key in ("roi_op", "roi_reduce", "sampling_ratio")}
    if regions["sampling_ratio"] is None:
        regions["sampling_ratio"] = rules.sampling_ratio
    check_rule(*regions.values())
    if single:
        level, stride, _ = SINGLE[kind]
        box_size = 14 if kind == "c4" else 7
        return Layout((level,), (stride,), (tuple(sizes),), 1, box_size=box_size, **regions)
    _check("box_head", options, tuple(BOX_HEADS))
    _check("roi_fusion", options, ROI_FUSIONS)
    return Layout(
        PYRAMID,
        tuple(2**level for level in range(2, 7)),
        tuple((s,) for s in sizes),
        roi_levels=4,
        box_size=BOX_HEADS[options["box_head"]],
        roi_fusion=options["roi_fusion"],
        **regions,
    )


def _check(option: str, options: dict[str, Any], known: Sequence[str]) -> None:
    if options[option] not in known:
        raise ValueError(f"{option} must be one of {tuple(known)}, not {options[option]!r}")


def _box_stages(
    layout: Layout,
    channels: int,
    num_classes: int,
    boxes: int,
    options: dict[str, Any],
    stages: int,
) -> list[tuple[keras.Model, keras.Model]]:
    """The box heads and predictors, of a cascade numbered as in detectron2."""
    kind = options.get("box_head", "fc")
    head = location_sensitive if kind == "location_sensitive" else fully_connected
    made = []
    for stage in range(stages):
        number = f".{stage}" if stages > 1 else ""
        model = head(layout.box_size, channels, f"roi_heads.box_head{number}")
        predictor = box_predictor(
            model.output, num_classes + 1, boxes, f"roi_heads.box_predictor{number}"
        )
        made.append((model, predictor))
    return made


def _mask_head(
    layout: Layout, channels: int, num_classes: int, own: int, options: dict[str, Any], c4: bool
) -> keras.Model:
    """A mask head; ``own`` masks where classes do not compete."""
    _check("mask_head", options, parts.MASK_HEADS)
    _check("mask_activation", options, ("sigmoid", "softmax"))
    softmax = options["mask_activation"] == "softmax"
    if softmax and options["class_agnostic_mask"]:
        raise ValueError("mask_activation 'softmax' needs a mask for each class")
    # Classes that compete for a cell have the background among them.
    masks = num_classes + 1 if softmax else own
    masks = 1 if options["class_agnostic_mask"] else masks
    size, channels = (7, 2048) if c4 else (layout.mask_size, channels)
    if options["mask_head"] == "mlp":
        return parts.mask_mlp(size, channels, masks)
    convolutions = options.get("mask_convolutions", 0)
    if convolutions < 0:
        raise ValueError(f"mask_convolutions must not be negative: {convolutions}")
    return parts.mask_head(size, channels, masks, convolutions)


def _thresholds(kind: str, family: str, rules: Conventions, options: dict[str, Any]) -> Thresholds:
    """How much is kept, from the code bases' own configs."""
    single, detectron2 = kind in SINGLE, rules.style == "detectron2"
    if single or rules.style == "torchvision" or (detectron2 and family.startswith("cascade")):
        proposals = 2000
    elif family == "keypoint_rcnn" and detectron2:
        proposals = 1500
    else:
        proposals = 1000  # Detectron takes 2000 from a GPU's two images together.
    return Thresholds(
        pre_nms=(12000, 6000) if single else (2000, 1000),
        post_nms=(proposals, options["max_proposals"]),
        score=options["score_threshold"],
        nms=options["nms_threshold"],
        detections=options["max_detections"],
    )


def _semantic_head(
    family: str, trunk: keras.Model, num_classes: int, options: dict[str, Any]
) -> keras.Model | None:
    if family == "panoptic_fpn":
        inputs = {
            level: keras.Input((None, None, trunk.output[level].shape[-1]), name=level)
            for level in PYRAMID[:4]
        }
        x = semantic_features(inputs, options["head_norm"])
        x = semantic_predictor(x, options["stuff_classes"])
        return keras.Model(inputs, x, name="semantic_head")
    if "semantic" not in trunk.output:
        return None
    classes = options["semantic_classes"]
    return semantic_classifier(
        trunk.output["semantic"].shape[-1], num_classes + 1 if classes is None else classes
    )


def assemble(trunk: str, num_classes: int, family: str, options: dict[str, Any]) -> RCNN:
    """A detector of a family on one of the trunks by name."""
    if not 0 <= options["freeze_at"] <= 5:
        raise ValueError(f"freeze_at must lie in 0..5, not {options['freeze_at']!r}")
    name, kind = split(trunk)
    res5 = None
    if name in ("mobilenet_v2", "shufflenet_v2_gap"):
        rules = CONVENTIONS["detectron2"]
        make = mobilenet_trunk if name == "mobilenet_v2" else shufflenet_trunk
        maps = make(trunk, options)
    else:
        rules = conventions(options["style"])
        maps, res5 = resnet_trunk(trunk, rules.style, options)
    if family == "keypoint_rcnn" and rules.style == "detectron2":
        # configs/COCO-Keypoints/Base-Keypoint-RCNN-FPN.yaml: keypoints lose by a plain L1 loss.
        rules = replace(rules, box_beta=0.5)
    layout = _layout(kind, options, rules)
    channels = maps.output[layout.levels[0]].shape[-1]
    own = num_classes + 1 if rules.background_first else num_classes
    cascade = family.startswith("cascade")
    heads = {"rpn": parts.rpn_head(channels, len(layout.anchor_sizes[0]) * 3)}
    if res5 is not None:
        heads["res5"] = res5
        vector = keras.Input((2048,))
        stages: list[Any] = [(None, box_predictor(vector, num_classes + 1, own))]
    else:
        # A cascade's boxes are for all classes alike: which it is may change between stages.
        boxes, number = (1, len(CASCADE_WEIGHTS)) if cascade else (own, 1)
        stages = _box_stages(layout, channels, num_classes, boxes, options, number)
    if options.get("mask", "mask_head" in options):
        heads["mask"] = _mask_head(layout, channels, num_classes, own, options, res5 is not None)
    if family == "keypoint_rcnn":
        heads["keypoint"] = parts.keypoint_head(
            layout.mask_size,
            channels,
            options["keypoints"],
            zero_border=rules.style == "detectron",
        )
    semantic = _semantic_head(family, maps, num_classes, options)
    if semantic is not None:
        heads["semantic"] = semantic
    return RCNN(
        maps,
        heads,
        stages,
        num_classes=num_classes,
        layout=layout,
        conventions=rules,
        thresholds=_thresholds(kind, family, rules, options),
        box_weights=CASCADE_WEIGHTS if cascade else (rules.box_weights,),
        mask_activation=options.get("mask_activation", "sigmoid"),
        panoptic=family == "panoptic_fpn",
    )
