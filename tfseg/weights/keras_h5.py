"""Reads Keras' weight files: .weights.h5 of Keras 3, and the .h5 of Keras 2 and before.

No code of the file is run and no other file is read through it; see `tfseg.weights.hdf5` for what
becomes of files that make libhdf5 loop or crash.
"""

import itertools
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tfseg.weights import hdf5
from tfseg.weights.common import WeightsError

_PAIR = ("kernel", "bias")
_SCALE = ("gamma", "beta")
#: Keras 3 numbers a layer's variables; what they are follows from the layer's class. The names
#: of a norm are known only where it has all of them.
_VARIABLES = {
    "conv2d": _PAIR,
    "conv2d_transpose": _PAIR,
    "depthwise_conv2d": _PAIR,
    "dense": _PAIR,
    "batch_normalization": (*_SCALE, "moving_mean", "moving_variance"),
    "group_normalization": _SCALE,
    "layer_normalization": _SCALE,
}


def _array(path: Path, name: str, item: hdf5.Item) -> np.ndarray:
    if not item.is_array:
        raise WeightsError(f"{path}: {name} is no array")
    if item.array is None:
        raise WeightsError(f"{path}: {name} holds something other than numbers")
    return item.array


def _keras3(objects: dict[str, hdf5.Item]) -> Iterator[tuple[str, str]]:
    """Paths are [.../]layers/<class>_<n>/vars/<index>; "vars" carries the layer's name."""
    owners = Counter(path.rpartition("/")[0] for path in objects)
    for path in objects:
        match = re.fullmatch(r"(?:.*/)?layers/(\w+)/vars/([0-9]{1,9})", path)
        if match is None:
            continue
        group, index = match[1], int(match[2])
        owner = path.rpartition("/")[0]
        names = _VARIABLES.get(re.sub(r"_\d+$", "", group), ())
        known = index < len(names) and (names is _PAIR or owners[owner] == len(names))
        layer = (objects[owner].attributes.get("name") or [group])[0]
        yield f"{layer}/{names[index] if known else index}", path


def _names(item: hdf5.Item, attribute: str) -> list[str]:
    """A list of names, which large files split over ``attribute0``, ``attribute1``, ..."""
    parts = [attribute]
    if attribute not in item.attributes:
        numbered = (f"{attribute}{n}" for n in itertools.count())
        parts = list(itertools.takewhile(item.attributes.__contains__, numbered))
    return [name for part in parts for name in item.attributes[part]]


def _legacy(path: Path, root: str, objects: dict[str, hdf5.Item]) -> Iterator[tuple[str, str]]:
    """Paths are [model_weights/]<layer>/<weight name>, listed in attributes."""
    for layer in _names(objects[root], "layer_names"):
        group = f"{root}/{layer}".strip("/")
        if group not in objects:
            raise WeightsError(f"{path} lists the layer {layer!r}, but has none of that name")
        names = _names(objects[group], "weight_names")
        # A model inside the model: its weights carry the names of its own layers.
        scopes = {name.rpartition("/")[0] for name in names}
        nested = len(scopes) > 1 or any("/" in scope for scope in scopes)
        for name in names:
            if f"{group}/{name}" not in objects:
                raise WeightsError(f"{path} lists the weight {name!r} of {layer!r}, but has none")
            scope, _, variable = name.rpartition("/")
            owner = scope.rpartition("/")[2] if nested else layer
            yield f"{owner}/{variable.split(':')[0]}", f"{group}/{name}"


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a Keras weight file of either layout.

    Returns:
        {"<layer>/<variable>": read-only array}, as in "Conv1/kernel", "bn_Conv1/moving_mean".
        Keras 3 numbers variables: those of layers other than convolutions, dense layers and
        complete norms are called "<layer>/<index>", in the order of ``layer.weights``; a layer
        whose own name the file does not hold is called as in the file ("conv2d_3"). Optimizers
        are left out.

    Raises:
        WeightsError: if the file is cut off, damaged, no Keras weight file, or refers to other
            files.
    """
    arrays: dict[str, np.ndarray] = {}
    objects = hdf5.read(path)
    root = "model_weights" if "model_weights" in objects else ""
    legacy = not {"layer_names", "layer_names0"}.isdisjoint(objects[root].attributes)
    for name, place in _legacy(path, root, objects) if legacy else _keras3(objects):
        if name in arrays:
            raise WeightsError(f"{path} has two arrays called {name}")
        arrays[name] = _array(path, place, objects[place])
    if not arrays:
        raise WeightsError(f"{path} is no Keras weight file: it has no layer with weights")
    return arrays
