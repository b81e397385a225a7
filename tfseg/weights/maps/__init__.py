"""From tfseg's layer names to those of each checkpoint's origin.

tfseg's layers carry torchvision's module names where torchvision has the network, and the
released prototxt's where only that exists; a map is needed for every other origin.
"""

import fnmatch
import re
from collections.abc import Iterable, Mapping
from typing import Any

import keras

from tfseg.registry import suggest
from tfseg.weights.maps import (
    deconvnet,
    deeplab,
    dilation,
    fcn,
    pspnet,
    semantic_fpn,
    torchvision_seg,
    trunks,
    unet,
)
from tfseg.weights.maps.common import Architecture, Map, Target, same

__all__ = ["Target", "backbone_layer_names", "heads", "layer_names", "layer_of_tap", "unused"]

_ARCHITECTURES: tuple[Architecture, ...] = tuple(
    module.ARCHITECTURE
    for module in (
        trunks,
        deconvnet,
        deeplab,
        dilation,
        fcn,
        pspnet,
        semantic_fpn,
        torchvision_seg,
        unet,
    )
)
_BACKBONE = "backbone."

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


def _check_style(model: keras.Model, origin: str) -> None:
    style = model.spec.options.get("style", origin)
    if origin != "tfseg" and style != origin:
        raise ValueError(
            f"{model.spec.name} was built with style={style!r}, whose padding and norms differ "
            f"from those of {origin!r} weights: build it with style={origin!r}"
        )


def layer_names(model: keras.Model, origin: str) -> dict[str, str | Target]:
    """What each of the model's layers with weights is called in a checkpoint of this origin.

    Raises:
        ValueError: if no such checkpoints exist for the model, or its style is another.
    """
    translate = _find(_NETWORKS, model.spec.name, origin).translate
    _check_style(model, origin)
    return {layer.name: translate(layer.name) for layer in model.layers if layer.weights}


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
    trunk = [layer.name for layer in model.layers if layer.weights]
    trunk = [name for name in trunk if name.startswith(_BACKBONE)]
    if origin == "tfseg":  # of a classifier, or of another network on the same trunk
        short = {name: name.removeprefix(_BACKBONE) for name in trunk}
        return {name: Target(name, alternative=short[name]) for name in trunk}, ("",)
    found = _find(_TRUNKS, model.spec.name, origin)
    _check_style(model, origin)
    return {n: found.translate(n.removeprefix(_BACKBONE)) for n in trunk}, found.unused


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
