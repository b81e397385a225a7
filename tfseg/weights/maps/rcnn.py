"""R-CNNs: the names of detectron2, torchvision and the first Detectron.

What they order differently, the background's class and the anchors of a cell, is not converted:
networks of a style have that style's order.
"""

import re
from collections.abc import Collection

import numpy as np

from tfseg.backbones import RESNETS
from tfseg.registry import Spec
from tfseg.weights.maps.common import Architecture, Map, Target, Translate
from tfseg.weights.maps.semantic_fpn import FPN_UNUSED, detectron2_resnet

#: also of each of a cascade's box heads
_FC1 = re.compile(r"roi_heads\.box_head\.(\d\.)?fc1$")
_RES5 = "roi_heads.res5."
#: bins of a region for the box head
_BINS = 7


def _channels_last(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The kernel (out, C * 7 * 7) of a region flattened channels first, as (7 * 7 * C, out)."""
    rows, units = shape
    regions = array.reshape(units, rows // _BINS**2, _BINS, _BINS)
    return regions.transpose(2, 3, 1, 0).reshape(rows, units)


def _first_dense(name: str) -> Target:
    return Target(name, convert={"kernel": _channels_last})


def _detectron2(trunk: str) -> Translate:
    """The names in detectron2, where the trunk is called ``trunk``."""

    def translate(name: str) -> str | Target:
        if name.startswith("backbone."):
            return trunk + detectron2_resnet(name.removeprefix("backbone."))
        if name.startswith(_RES5):
            return "roi_heads." + detectron2_resnet("layer4." + name.removeprefix(_RES5))
        if _FC1.match(name):
            return _first_dense(name)
        return f"backbone.{name}" if name.startswith("fpn_") else name

    return translate


_TORCHVISION = {
    "proposal_generator.rpn_head.objectness_logits": "rpn.head.cls_logits",
    "proposal_generator.rpn_head.anchor_deltas": "rpn.head.bbox_pred",
    "roi_heads.box_head.fc2": "roi_heads.box_head.fc7",
    "roi_heads.mask_head.deconv": "roi_heads.mask_predictor.conv5_mask",
    "roi_heads.mask_head.predictor": "roi_heads.mask_predictor.mask_fcn_logits",
    "roi_heads.keypoint_head.score_lowres": "roi_heads.keypoint_predictor.kps_score_lowres",
}


def _torchvision(name: str) -> str | Target:
    """The names in torchvision; those of its published files are the alternatives."""
    if name.startswith("backbone."):
        return "backbone.body." + name.removeprefix("backbone.")
    if match := re.match(r"fpn_(lateral|output)(\d)$", name):
        blocks = "inner_blocks" if match[1] == "lateral" else "layer_blocks"
        old = f"backbone.fpn.{blocks}.{int(match[2]) - 2}"
        return Target(f"{old}.0", alternative=old)
    if match := re.match(r"roi_heads\.mask_head\.(mask_fcn(\d))$", name):
        new = f"roi_heads.mask_head.{int(match[2]) - 1}.0"
        return Target(new, alternative=f"roi_heads.mask_head.{match[1]}")
    if match := re.match(r"roi_heads\.keypoint_head\.conv_fcn(\d)$", name):
        return f"roi_heads.keypoint_head.{2 * (int(match[1]) - 1)}"
    if name == "proposal_generator.rpn_head.conv":
        return Target("rpn.head.conv.0.0", alternative="rpn.head.conv")
    if _FC1.match(name):
        return _first_dense("roi_heads.box_head.fc6")
    return _TORCHVISION.get(name, name)


_UNIT = re.compile(r"layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.([01]))$")
_DETECTRON = {
    "roi_heads.box_head.fc2": "fc7",
    "roi_heads.mask_head.deconv": "conv5_mask",
    "roi_heads.mask_head.predictor": "mask_fcn_logits",
    "roi_heads.keypoint_head.score_lowres": "kps_score_lowres",
}
_DETECTRON_RPN = {
    "proposal_generator.rpn_head.conv": "conv_rpn",
    "proposal_generator.rpn_head.objectness_logits": "rpn_cls_logits",
    "proposal_generator.rpn_head.anchor_deltas": "rpn_bbox_pred",
}
#: MSRA's ResNet-50 has a bias that no Detectron adds; the classifiers; and the fixed kernel that
#: enlarges keypoints' heat maps
_DETECTRON_UNUSED = ("conv1_b", "fc1000_", "pred_", "kps_score_w", "kps_score_b")


def _detectron_resnet(name: str) -> str | Target:
    """A trunk layer's blob; the norms' statistics are folded in, except in ImageNet trunks."""
    if name in ("conv1", "bn1"):
        return "conv1" if name == "conv1" else Target("res_conv1_bn", folded=True)
    match = _UNIT.match(name)
    if match is None:
        return name
    stage, block, kind, number, down = match.groups()
    branch = "branch1" if number is None else f"branch2{'abc'[int(number) - 1]}"
    blob = f"res{int(stage) + 1}_{block}_{branch}"
    return Target(f"{blob}_bn", folded=True) if kind == "bn" or down == "1" else blob


def _detectron(layout: str, levels: str) -> Translate:
    """The blobs of Detectron.

    Args:
        layout: of the ResNet: a pyramid's blobs are called after its last blocks.
        levels: what the RPN's blobs end with.
    """

    def translate(name: str) -> str | Target:
        if name.startswith("backbone."):
            return _detectron_resnet(name.removeprefix("backbone."))
        if name.startswith(_RES5):
            return _detectron_resnet("layer4." + name.removeprefix(_RES5))
        if match := re.match(r"fpn_(lateral|output)(\d)$", name):
            level = int(match[2])
            blob = f"res{level}_{RESNETS[layout].blocks[level - 2] - 1}_sum"
            if match[1] == "output":
                return f"fpn_{blob}"
            # The coarsest level has nothing above it to be beside.
            return f"fpn_inner_{blob}" + ("_lateral" if level < 5 else "")
        if name in _DETECTRON_RPN:
            return _DETECTRON_RPN[name] + levels
        if _FC1.match(name):
            return _first_dense("fc6")
        if match := re.match(r"roi_heads\.mask_head\.mask_(fcn\d)$", name):
            return f"_[mask]_{match[1]}"
        if match := re.match(r"roi_heads\.(box_predictor|keypoint_head)\.(.+)$", name):
            return _DETECTRON.get(name, match[2])
        return _DETECTRON.get(name, name)

    return translate


def _check_scale(spec: Spec, names: Collection[str]) -> None:
    """FAIR's ResNeXts are there for images of their own scale and divided by a deviation.

    Detectron divides by none, and its files have the norms' statistics folded into their scales.

    Raises:
        ValueError: if the trunk was trained on images of another scale than the network's.
    """
    folded = not any(name.endswith(("_rm", "_running_mean")) for name in names)
    divided = set(spec.preprocessing.std) != {1.0}
    if divided and folded:
        raise ValueError(
            f"the trunk is one of Detectron's, for images that nothing divides; {spec.name} "
            f"with style={spec.options['style']!r} divides them by {spec.preprocessing.std}: "
            "build it with style='detectron', or take detectron2's file"
        )
    if "32x8d" in spec.name and not divided and not folded:
        raise ValueError(
            f"the trunk is detectron2's, for images divided by their deviation; {spec.name} with "
            f"style={spec.options['style']!r} does not divide them: build it with "
            "style='detectron2', or take Detectron's file"
        )


def _detectrons() -> tuple[Map, ...]:
    """The maps of Detectron's networks, one a trunk."""
    return tuple(
        Map(
            f"[!c]*_rcnn_{layout}_{kind}",
            "detectron",
            _detectron(layout, levels),
            _DETECTRON_UNUSED,
        )
        for layout in RESNETS
        for kind, levels in (("c[45]", ""), ("fpn", "_fpn2"))
    )


def _trunks(networks: str) -> tuple[Map, ...]:
    """ImageNet trunks: both Detectrons' blobs, and torchvision's as detectron2 converts them."""
    return (
        Map(
            networks,
            "detectron",
            _detectron_resnet,
            _DETECTRON_UNUSED,
            styles=("detectron", "detectron2"),
            check=_check_scale,
        ),
        # They stride in the 3x3, and see RGB.
        Map(networks, "detectron2", detectron2_resnet, ("stem.fc.",), styles=("torchvision",)),
    )


_HEADS = (
    r"roi_heads\.box_predictor\..*|roi_heads\.mask_head\.predictor"
    r"|roi_heads\.keypoint_head\.score_lowres|sem_seg_head\.predictor"
)

ARCHITECTURE = Architecture(
    networks=(
        # What a semantic-guided pyramid has beside these it does not find in detectron2's files.
        Map("*_rcnn_res*_*fpn", "detectron2", _detectron2("backbone.bottom_up."), FPN_UNUSED),
        Map("*_rcnn_res*_c[45]", "detectron2", _detectron2("backbone."), FPN_UNUSED),
        Map("panoptic_fpn_res*", "detectron2", _detectron2("backbone.bottom_up."), FPN_UNUSED),
        # torchvision and the first Detectron have no cascades.
        Map("[!c]*_rcnn_res*_fpn", "torchvision", _torchvision),
        *_detectrons(),
    ),
    trunks=(
        *_trunks("*_rcnn_res*"),
        *_trunks("panoptic_fpn_res*"),
        *_trunks("semantic_fpn_*"),
    ),
    heads={"*_rcnn_*": _HEADS, "panoptic_fpn_*": _HEADS},
)
