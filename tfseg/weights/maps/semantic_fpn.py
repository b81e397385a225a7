"""Semantic FPN: detectron2's names, in a panoptic FPN or a semantic one."""

import re

from tfseg.weights.maps.common import Architecture, Map

#: what detectron2's older files keep of the image's scale and the anchors
FPN_UNUSED = ("pixel_mean", "pixel_std", "proposal_generator.anchor_generator.")
_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(?:(conv|bn)(\d)|downsample\.([01]))$")


def detectron2_resnet(name: str) -> str:
    """A trunk layer's name in detectron2, without "backbone.bottom_up."."""
    if match := re.match(r"(conv|bn)1$", name):
        return "stem.conv1" + (".norm" if match[1] == "bn" else "")
    match = _BLOCK.match(name)
    if match is None:
        return name
    stage, block, kind, number, down = match.groups()
    unit = "shortcut" if number is None else f"conv{number}"
    is_norm = kind == "bn" or down == "1"
    return f"res{int(stage) + 1}.{block}.{unit}" + (".norm" if is_norm else "")


def _detectron2(name: str) -> str:
    if name.startswith("backbone."):
        return "backbone.bottom_up." + detectron2_resnet(name.removeprefix("backbone."))
    return f"backbone.{name}" if name.startswith("fpn_") else name


def _tap(tap: str) -> str:
    if tap == "sem_seg_logits_stride4":
        return "sem_seg_head.predictor"
    return f"fpn_output{tap[1]}" if re.match(r"p[2-5]$", tap) else tap


ARCHITECTURE = Architecture(
    networks=(
        # What else a panoptic FPN has.
        Map(
            "semantic_fpn_*",
            "detectron2",
            _detectron2,
            (*FPN_UNUSED, "proposal_generator.", "roi_heads."),
        ),
    ),
    heads={"semantic_fpn_*": r"sem_seg_head\.predictor"},
    taps={"semantic_fpn_*": _tap},
)
