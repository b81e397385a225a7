"""DeepLab v1 and v2: the names of the released prototxts.

They name classifiers after what they were trained on: fc8_pascal, fc8_voc12, fc1_coco_c0, ...
"""

import re

from tfseg.weights.maps import vgg
from tfseg.weights.maps.common import Architecture, Map, Target

_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(conv|bn|downsample\.)(\d)$")


def _vgg16(name: str) -> str | Target:
    if match := re.match(r"fc8(_\d)?$", name):
        branch = match[1] or ""
        return Target(f"fc8_voc12{branch}", pattern=rf"fc8(_.+)?{branch}")
    return vgg.vgg16_caffe(name)


def _resnet101(name: str) -> str | Target:
    """The names of Caffe's ResNet-101, with its norms' scale and offset in a layer of their own."""
    short = name.removeprefix("backbone.")
    if match := re.match(r"fc1_c(\d)$", short):
        return Target(f"fc1_voc12_c{match[1]}", pattern=rf"fc1(_.+)?_c{match[1]}")
    if short == "bn1":
        return Target("bn_conv1", norm="scale_conv1")
    match = _BLOCK.match(short)
    if match is None:
        return short
    stage, block, kind, number = int(match[1]), int(match[2]), match[3], int(match[4])
    # Stages 3 and 4 number their blocks behind the first one, stages 2 and 5 letter them.
    letter = f"b{block}" if stage in (2, 3) and block else "abc"[block]
    branch = "branch1" if kind == "downsample." else f"branch2{'abc'[number - 1]}"
    unit = f"{stage + 1}{letter}_{branch}"
    if kind == "bn" or (kind == "downsample." and number == 1):
        return Target(f"bn{unit}", norm=f"scale{unit}")
    return f"res{unit}"


def _vgg_tap(tap: str) -> str:
    if re.match(r"fc8_[a-z\d]+$", tap):
        return "fc8"
    if tap == "pool5a" or tap.startswith(("fc6", "fc7")):
        return f"backbone.{tap}"
    return vgg.LAYERS.get(tap, tap)


def _resnet_tap(tap: str) -> str:
    last = {"res2": "layer1.2", "res3": "layer2.3", "res4": "layer3.22", "res5": "layer4.2"}
    if tap in last:
        return f"backbone.{last[tap]}.relu"
    return {"pool1": "backbone.maxpool", "fc1_voc12": "fc1"}.get(tap, tap)


ARCHITECTURE = Architecture(
    networks=(
        Map("deeplab_*_vgg16", "caffe", _vgg16),
        Map("deeplab_aspp_resnet101", "caffe", _resnet101),
    ),
    trunks=(
        *vgg.trunks("deeplab_*_vgg16"),
        # ImageNet's classifier is fc1000, that of the release's MS COCO weights fc1_coco_c0 to 3.
        Map("deeplab_aspp_resnet101", "caffe", _resnet101, ("fc1",)),
    ),
    heads={"deeplab_*_vgg16": r"fc8.*|(data|pool\d)_ms", "deeplab_aspp_resnet101": r"fc1_c\d"},
    taps={"deeplab_*_vgg16": _vgg_tap, "deeplab_aspp_resnet101": _resnet_tap},
)
