"""From tfseg's layer names to those of each checkpoint's origin.

tfseg's layers carry torchvision's module names where torchvision has the network, and the
released prototxt's where only that exists; a map is needed for every other origin.
"""

import fnmatch
import re
from collections.abc import Callable
from typing import Any

import keras
import numpy as np

from tfseg.registry import suggest

#: A layer's name in the checkpoint, and, where the layout differs too, what turns the
#: checkpoint's kernel into Keras' (height, width, in, out).
Target = str | tuple[str, Callable[[np.ndarray], np.ndarray]]

_BLOCK = re.compile(r"layer(\d)\.(\d+)\.(conv1|conv2|conv3|bn1|bn2|bn3|downsample\.[01])$")
_CAFFE_UNITS = {"1": "1x1_reduce", "2": "3x3", "3": "1x1_increase"}
_CAFFE_STEM = {"1": "conv1_1_3x3_s2", "2": "conv1_2_3x3", "3": "conv1_3_3x3"}
_CAFFE_HEAD = {
    "head.conv": "conv5_4",
    "head.bn": "conv5_4/bn",
    "head.classifier": "conv6",
}


def _same(name: str) -> Target:
    return name


def _pspnet_caffe(name: str) -> Target:
    """The prototxts' names; the auxiliary classifier is not in the released files."""
    short = name.removeprefix("backbone.")
    if match := _BLOCK.match(short):
        stage, block, part = match.groups()
        unit = "1x1_proj" if part.startswith("down") else _CAFFE_UNITS[part[-1]]
        base = f"conv{int(stage) + 1}_{int(block) + 1}_{unit}"
        return f"{base}/bn" if part.startswith("bn") or part == "downsample.1" else base
    if match := re.match(r"(conv|bn)([123])$", short):
        kind, number = match.groups()
        return _CAFFE_STEM[number] + ("/bn" if kind == "bn" else "")
    if match := re.match(r"ppm\.bin(\d)\.(conv|bn)$", name):
        bins, kind = match.groups()
        return f"conv5_3_pool{bins}_conv" + ("/bn" if kind == "bn" else "")
    return _CAFFE_HEAD.get(name, name)


def _torch_flat_kernel(array: np.ndarray) -> np.ndarray:
    """VGG16's first fully connected layer (out, C 7 7) as a 7x7 convolution (7, 7, C, out)."""
    return array.reshape(len(array), -1, 7, 7).transpose(2, 3, 1, 0)


def _torch_dense_kernel(array: np.ndarray) -> np.ndarray:
    """A fully connected layer (out, in) as a 1x1 convolution (1, 1, in, out)."""
    return array.T[None, None]


def _vgg16_torchvision(name: str) -> Target:
    if name == "classifier.0":
        return name, _torch_flat_kernel
    return (name, _torch_dense_kernel) if name.startswith("classifier.") else name


def _mobilenet_v2_keras(name: str) -> Target:
    """The names of keras.applications' MobileNetV2."""
    fixed = {
        "features.0.0": "Conv1",
        "features.0.1": "bn_Conv1",
        "features.18.0": "Conv_1",
        "features.18.1": "Conv_1_bn",
        "classifier.1": "predictions",
    }
    name = name.removeprefix("backbone.")
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


#: origin -> shell pattern of registered names -> translation of a layer's name
_TRANSLATIONS: dict[str, dict[str, Callable[[str], Target]]] = {
    "torchvision": {
        "resnet*": _same,
        "resnext*": _same,
        "vgg16*": _vgg16_torchvision,
        "mobilenet_v2": _same,
    },
    "caffe": {"psp_resnet*": _pspnet_caffe, "unet_release": _same},
    "keras": {"mobilenet_v2": _mobilenet_v2_keras},
    "tfseg": {"*": _same},
}
#: what of an ImageNet checkpoint a trunk leaves unused
_CLASSIFIERS: dict[str, dict[str, tuple[str, ...]]] = {
    "torchvision": {
        "resnet*": ("fc.",),
        "resnext*": ("fc.",),
        "mobilenet_v2": ("features.18.", "classifier."),
    },
    "keras": {"mobilenet_v2": ("Conv_1/", "Conv_1_bn/", "predictions/")},
    "caffe": {"psp_resnet*": ("conv5_3_pool", "conv5_4", "conv6")},
}
#: layers whose shape depends on the number of classes, or that only training has
_HEADS = re.compile(r"(fc|classifier\.[16]|head\.classifier|aux\..*|conv_u0d-score)$")


def _find(table: dict[str, dict[str, Any]], name: str, origin: str) -> Any:
    """The entry of the pattern that fits ``name`` under this origin."""
    for pattern, value in table.get(origin, {}).items():
        if fnmatch.fnmatchcase(name, pattern):
            return value
    fitting = [o for o in table if any(fnmatch.fnmatchcase(name, p) for p in table[o])]
    if origin not in _TRANSLATIONS:
        raise ValueError(f"unknown origin {origin!r}; {suggest(origin, _TRANSLATIONS)}")
    raise ValueError(f"{name} takes no weights of origin {origin!r}, only of {sorted(fitting)}")


def _check_style(model: keras.Model, origin: str) -> None:
    style = model.spec.options.get("style", origin)
    if origin != "tfseg" and style != origin:
        raise ValueError(
            f"{model.spec.name} was built with style={style!r}, whose padding and norms differ "
            f"from those of {origin!r} weights: build it with style={origin!r}"
        )


def layer_names(model: keras.Model, origin: str) -> dict[str, Target]:
    """What each of the model's layers with weights is called in a checkpoint of this origin.

    Raises:
        ValueError: if no such checkpoints exist for the model, or its style is another.
    """
    translate = _find(_TRANSLATIONS, model.spec.name, origin)
    _check_style(model, origin)
    return {layer.name: translate(layer.name) for layer in model.layers if layer.weights}


def backbone_layer_names(
    model: keras.Model, origin: str
) -> tuple[dict[str, Target], tuple[str, ...]]:
    """As `layer_names`, of the trunk alone, in an ImageNet checkpoint.

    Returns:
        The names, and the prefixes of the checkpoint's own names that the trunk leaves unused.

    Raises:
        ValueError: if no such checkpoints exist for the trunk, or its style is another.
    """
    name = model.spec.name
    trunk = name if origin == "caffe" else name.split("_", 1)[-1]
    translate = _find(_TRANSLATIONS, trunk, origin)
    unused = _find(_CLASSIFIERS, trunk, origin)
    _check_style(model, origin)
    layers = [layer.name for layer in model.layers if layer.weights]
    names = {n: translate(n.removeprefix("backbone.")) for n in layers if n.startswith("backbone.")}
    return names, unused


def heads(model: keras.Model) -> set[str]:
    """Layers whose shape depends on the number of classes, or that deployed files lack."""
    return {layer.name for layer in model.layers if layer.weights and _HEADS.match(layer.name)}
