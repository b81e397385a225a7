"""From tfseg's layer names to those of each checkpoint's origin.

tfseg's layers carry torchvision's module names where torchvision has the network, and the
released prototxt's where only that exists; a map is needed for every other origin.
"""

import fnmatch
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import keras

from tfseg.registry import suggest
from tfseg.weights.maps import (
    deconvnet,
    deeplab,
    dilation,
    fcn,
    pspnet,
    rcnn,
    semantic_fpn,
    shufflenet_v2,
    torchvision_seg,
    trunks,
    unet,
)
from tfseg.weights.maps.common import Architecture, Map, Target, same

__all__ = [
    "Target",
    "backbone_layer_names",
    "check",
    "heads",
    "layer_names",
    "layer_of_tap",
    "unused",
]

_ARCHITECTURES: tuple[Architecture, ...] = tuple(
    module.ARCHITECTURE
    for module in (
        trunks,
        deconvnet,
        deeplab,
        dilation,
        fcn,
        pspnet,
        rcnn,
        semantic_fpn,
        shufflenet_v2,
        torchvision_seg,
        unet,
    )
)
#: the trunk's layers: prefixes here -> in a classifier. A C4 detector has the last stage in its
#: box head.
_BACKBONE = {"backbone.": "", "roi_heads.res5.": "layer4."}

_NETWORKS = [m for a in _ARCHITECTURES for m in a.networks] + [Map("*", "tfseg", same)]
_TRUNKS = [m for a in _ARCHITECTURES for m in a.trunks]
ORIGINS = tuple(sorted({m.origin for m in _NETWORKS}))


def _find(maps: Iterable[Map], name: str, origin: str) -> Map:
    """The map that fits ``name`` under this origin."""
    fitting = [m for m in maps if fnmatch.fnmatchcase(name, m.networks)]
    for m in fitting:
        if m.origin == origin:
            return m
    if origin not in ORIGINS:
        raise ValueError(f"unknown origin {origin!r}; {suggest(origin, ORIGINS)}")
    raise ValueError(
        f"{name} takes no weights of origin {origin!r}, only of {sorted(m.origin for m in fitting)}"
    )


def _check_style(model: keras.Model, found: Map) -> None:
    styles = found.styles or (found.origin,)
    style = model.spec.options.get("style", styles[0])
    if found.origin != "tfseg" and style not in styles:
        wanted = " or ".join(f"style={style!r}" for style in styles)
        raise ValueError(
            f"{model.spec.name} was built with style={style!r}, whose padding, norms or "
            f"conventions differ from those of {found.origin!r} weights: build it with {wanted}"
        )


def layer_names(model: keras.Model, origin: str) -> dict[str, str | Target]:
    """What each of the model's layers with weights is called in a checkpoint of this origin.

    Raises:
        ValueError: if no such checkpoints exist for the model, or its style is another.
    """
    found = _find(_NETWORKS, model.spec.name, origin)
    _check_style(model, found)
    return {layer.name: found.translate(layer.name) for layer in model.layers if layer.weights}


def unused(model: keras.Model, origin: str) -> tuple[str, ...]:
    """Prefixes of names that checkpoints of this origin have beside the network."""
    return _find(_NETWORKS, model.spec.name, origin).unused


def backbone_layer_names(
    model: keras.Model, origin: str
) -> tuple[dict[str, str | Target], tuple[str, ...]]:
    """As `layer_names`, of the trunk alone, in an ImageNet checkpoint or in one of tfseg.

    Returns:
        The names, and the prefixes of the checkpoint's own names that the trunk leaves unused.

    Raises:
        ValueError: if no such checkpoints exist for the trunk, or its style is another.
    """
    names = [layer.name for layer in model.layers if layer.weights]
    trunk = {
        name: theirs + name.removeprefix(ours)
        for name in names
        for ours, theirs in _BACKBONE.items()
        if name.startswith(ours)
    }
    if origin == "tfseg":  # of a classifier, or of another network on the same trunk
        return {name: Target(name, alternative=short) for name, short in trunk.items()}, ("",)
    found = _find(_TRUNKS, model.spec.name, origin)
    _check_style(model, found)
    return {name: found.translate(short) for name, short in trunk.items()}, found.unused


def check(model: keras.Model, origin: str, part: str, names: Collection[str]) -> None:
    """Refuses a checkpoint whose names tell that it is for another kind of network.

    Args:
        origin: of the checkpoint; "tfseg" is never refused.
        part: "model" or "backbone".
        names: of the checkpoint's arrays.

    Raises:
        ValueError: saying what to build, or to load, in its place.
    """
    if origin == "tfseg":
        return
    found = _find(_NETWORKS if part == "model" else _TRUNKS, model.spec.name, origin)
    if found.check is not None:
        found.check(model.spec, names)


def _of_network(tables: Iterable[Mapping[str, Any]], name: str) -> list[Any]:
    """The values of all patterns that fit a registered name."""
    items = (item for table in tables for item in table.items())
    return [value for pattern, value in items if fnmatch.fnmatchcase(name, pattern)]


def heads(model: keras.Model) -> set[str]:
    """Layers whose shape depends on the number of classes, or that deployed files lack."""
    patterns = _of_network((a.heads for a in _ARCHITECTURES), model.spec.name)
    names = {layer.name for layer in model.layers if layer.weights}
    return {n for n in names if any(re.fullmatch(pattern, n) for pattern in patterns)}


def layer_of_tap(model: keras.Model, tap: str) -> str:
    """The layer whose output a reference implementation's activation of this name is."""
    found = _of_network((a.taps for a in _ARCHITECTURES), model.spec.name)
    return found[0](tap) if found else tap
