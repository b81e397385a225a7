"""The ImageNet classifiers, as torchvision and keras.applications name them."""

import re
from collections.abc import Callable

from tfseg.backbones import RESNETS
from tfseg.weights.maps.common import (
    Architecture,
    Map,
    Target,
    convolution_of,
    dense_of,
    same,
)


def _dense_as_convolutions(first: str) -> Callable[[str], str | Target]:
    """torchvision's fully connected layers, which are convolutions here, ``first`` a large one."""

    def translate(name: str) -> str | Target:
        if name == first:
            return Target(name, convert={"kernel": convolution_of})
        if name.startswith("classifier."):
            return Target(name, convert={"kernel": dense_of})
        return name

    return translate


def _mobilenet_v2_keras(name: str) -> str:
    """The names of keras.applications' MobileNetV2."""
    fixed = {
        "features.0.0": "Conv1",
        "features.0.1": "bn_Conv1",
        "features.18.0": "Conv_1",
        "features.18.1": "Conv_1_bn",
        "classifier.1": "predictions",
    }
    if name in fixed:
        return fixed[name]
    match = re.match(r"features\.(\d+)\.conv\.(\d)(?:\.([01]))?$", name)
    if match is None:
        return name
    block, step, part = int(match[1]) - 1, int(match[2]), match[3]
    prefix = f"block_{block}_" if block else "expanded_conv_"
    if part is None:  # the linear projection and its norm: the last two steps
        return prefix + ("project" if step == (2 if block else 1) else "project_BN")
    unit = "expand" if block and step == 0 else "depthwise"
    return prefix + unit + ("_BN" if part == "1" else "")


def _last_of_features(index: str) -> Callable[[str], str]:
    return lambda tap: f"features.{index}" if tap == "features" else tap


def _resnet_tap(layout: str) -> Callable[[str], str]:
    def tap(name: str) -> str:
        if name == "stem":
            return "maxpool"
        return f"{name}.{RESNETS[layout].blocks[int(name[-1]) - 1] - 1}.relu"

    return tap


_GOOGLENET_UNITS = {
    "branch1": "1x1",
    "branch2.0": "3x3_reduce",
    "branch2.1": "3x3",
    "branch3.0": "5x5_reduce",
    "branch3.1": "5x5",
    "branch4.1": "pool_proj",
}
_GOOGLENET_FIXED = {
    "conv1.conv": "conv1/7x7_s2",
    "conv2.conv": "conv2/3x3_reduce",
    "conv3.conv": "conv2/3x3",
    "fc": "loss3/classifier",
}


def _googlenet_caffe(name: str) -> str:
    """The names of BVLC's bvlc_googlenet."""
    match = re.match(r"inception(\d[a-e])\.(branch\d(?:\.\d)?)\.conv$", name)
    if match is None:
        return _GOOGLENET_FIXED.get(name, name)
    return f"inception_{match[1]}/{_GOOGLENET_UNITS[match[2]]}"


def _caffenet(name: str) -> str | Target:
    """The names of bvlc_reference_caffenet, whose fully connected layers are convolutions here."""
    if name == "fc6":
        return Target(name, convert={"kernel": convolution_of})
    return Target(name, convert={"kernel": dense_of}) if name == "fc7" else name


_GOOGLENET_AUXILIARY = {"torchvision": ("aux1.", "aux2."), "caffe": ("loss1/", "loss2/")}
_KERAS_HEAD = ("Conv_1/", "Conv_1_bn/", "predictions/")
_TRUNK_ONLY = ("fc.",)

ARCHITECTURE = Architecture(
    networks=(
        Map("resne[tx]*", "torchvision", same),
        Map("vgg16*", "torchvision", _dense_as_convolutions("classifier.0")),
        Map("alexnet", "torchvision", _dense_as_convolutions("classifier.1")),
        Map("googlenet", "torchvision", same, _GOOGLENET_AUXILIARY["torchvision"]),
        Map("googlenet", "caffe", _googlenet_caffe, _GOOGLENET_AUXILIARY["caffe"]),
        Map("mobilenet_v2", "torchvision", same),
        Map("mobilenet_v2", "keras", _mobilenet_v2_keras),
    ),
    trunks=(
        Map("*_resnet*", "torchvision", same, _TRUNK_ONLY),
        Map("*_resnext*", "torchvision", same, _TRUNK_ONLY),
        Map("*_alexnet", "caffe", _caffenet, ("fc8",)),
        Map(
            "*_googlenet",
            "torchvision",
            same,
            (*_TRUNK_ONLY, *_GOOGLENET_AUXILIARY["torchvision"]),
        ),
        Map("*_googlenet", "caffe", _googlenet_caffe, ("loss",)),
        Map("*_mobilenet_v2*", "torchvision", same, ("features.18.", "classifier.")),
        Map("*_mobilenet_v2*", "keras", _mobilenet_v2_keras, _KERAS_HEAD),
    ),
    heads={
        "resne[tx]*": "fc",
        "vgg16*": r"classifier\.6",
        "alexnet": r"classifier\.6",
        "googlenet": "fc",
        "mobilenet_v2": r"classifier\.1",
    },
    taps={
        **{layout: _resnet_tap(layout) for layout in RESNETS},
        "alexnet": _last_of_features("12"),
        "vgg16": _last_of_features("30"),
        "vgg16_bn": _last_of_features("43"),
        "mobilenet_v2": _last_of_features("18.2"),
    },
)
