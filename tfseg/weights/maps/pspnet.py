"""PSPNet: the names of the released prototxts."""

import re

from tfseg.weights.maps.common import Architecture, Map

_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(conv1|conv2|conv3|bn1|bn2|bn3|downsample\.[01])$")
_UNITS = {"1": "1x1_reduce", "2": "3x3", "3": "1x1_increase"}
_STEM = {"1": "conv1_1_3x3_s2", "2": "conv1_2_3x3", "3": "conv1_3_3x3"}
_HEAD = {"head.conv": "conv5_4", "head.bn": "conv5_4/bn", "head.classifier": "conv6"}


def _caffe(name: str) -> str:
    """The prototxts' names; the auxiliary classifier is not in the released files."""
    short = name.removeprefix("backbone.")
    if match := _BLOCK.match(short):
        stage, block, part = match.groups()
        unit = "1x1_proj" if part.startswith("down") else _UNITS[part[-1]]
        base = f"conv{int(stage) + 1}_{int(block) + 1}_{unit}"
        return f"{base}/bn" if part.startswith("bn") or part == "downsample.1" else base
    if match := re.match(r"(conv|bn)([123])$", short):
        kind, number = match.groups()
        return _STEM[number] + ("/bn" if kind == "bn" else "")
    if match := re.match(r"ppm\.bin(\d)\.(conv|bn)$", name):
        bins, kind = match.groups()
        return f"conv5_3_pool{bins}_conv" + ("/bn" if kind == "bn" else "")
    return _HEAD.get(name, name)


def _tap(tap: str) -> str:
    fixed = {"conv5_3_concat": "ppm.concat", "conv6": "head.classifier"}
    if match := re.match(r"conv1_(\d)_3x3(?:_s2)?/relu$", tap):
        return f"backbone.relu{match[1]}"
    if match := re.match(r"conv(\d)_(\d+)/relu$", tap):
        return f"backbone.layer{int(match[1]) - 1}.{int(match[2]) - 1}.relu"
    return fixed.get(tap, tap)


ARCHITECTURE = Architecture(
    networks=(Map("psp_resnet*", "caffe", _caffe),),
    trunks=(Map("psp_resnet*", "caffe", _caffe, ("conv5_3_pool", "conv5_4", "conv6")),),
    heads={"psp_*": r"head\.classifier|aux\..*"},
    taps={"psp_resnet*": _tap},
)
