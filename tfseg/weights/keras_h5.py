"""Reads Keras' weight files: .weights.h5 of Keras 3, and the .h5 of Keras 2 and before.

No code of the file is run and no other file is read through it. libhdf5 1.14 itself, though, trusts
the references between a file's names: a few damaged ones make it loop or crash, here as in Keras.
"""

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from tfseg.weights.common import WeightsError, check_total, from_bfloat16

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


def _objects(path: Path, file: h5py.File) -> dict[str, h5py.Group | h5py.Dataset]:
    """The file's own groups and arrays by path; soft and external links are not followed."""
    found: dict[str, h5py.Group | h5py.Dataset] = {"": file}
    file.visititems(found.__setitem__)
    datasets = {n: item for n, item in found.items() if isinstance(item, h5py.Dataset)}
    for name, data in datasets.items():
        if data.external or data.is_virtual:
            raise WeightsError(f"{path}: {name} lies in another file")
        if data.chunks is None and data.id.get_storage_size() != data.nbytes:
            raise WeightsError(
                f"{path}: {name} declares {data.nbytes} bytes, but holds "
                f"{data.id.get_storage_size()}"
            )
    check_total(path, (data.nbytes for data in datasets.values()))
    return found


def _array(path: Path, data: Any) -> np.ndarray:
    if not isinstance(data, h5py.Dataset):
        raise WeightsError(f"{path}: {data.name} is no array")
    if data.dtype == np.dtype("V2"):  # how h5py stores bfloat16
        return from_bfloat16(np.asarray(data[()]).view("<u2"))
    if data.dtype.kind not in "fiub":
        raise WeightsError(f"{path}: {data.name} holds {data.dtype}, not numbers")
    return np.asarray(data[()])


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _keras3(objects: dict[str, Any]) -> Iterator[tuple[str, h5py.Dataset]]:
    """Paths are [.../]layers/<class>_<n>/vars/<index>; "vars" carries the layer's name."""
    for path, data in objects.items():
        match = re.fullmatch(r"(?:.*/)?layers/(\w+)/vars/(\d+)", path)
        if match is None or path.startswith("optimizer/"):
            continue
        group, index = match[1], int(match[2])
        owner = objects[path.rpartition("/")[0]]
        names = _VARIABLES.get(re.sub(r"_\d+$", "", group), ())
        known = index < len(names) and (names is _PAIR or len(owner) == len(names))
        layer = _text(owner.attrs.get("name", group))
        yield f"{layer}/{names[index] if known else index}", data


def _names(group: h5py.Group, attribute: str) -> list[str]:
    """A list of names, which large files split over ``attribute0``, ``attribute1``, ..."""
    parts = [attribute]
    if attribute not in group.attrs:
        numbered = (f"{attribute}{n}" for n in itertools.count())
        parts = list(itertools.takewhile(group.attrs.__contains__, numbered))
    return [_text(value) for part in parts for value in np.ravel(group.attrs[part])]


def _legacy(path: Path, root: str, objects: dict[str, Any]) -> Iterator[tuple[str, h5py.Dataset]]:
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
            yield f"{owner}/{variable.split(':')[0]}", objects[f"{group}/{name}"]


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a Keras weight file of either layout.

    Returns:
        {"<layer>/<variable>": array}, as in "Conv1/kernel", "bn_Conv1/moving_mean". Keras 3
        numbers variables: those of layers other than convolutions, dense layers and complete
        norms are called "<layer>/<index>", in the order of ``layer.weights``; a layer whose own
        name the file does not hold is called as in the file ("conv2d_3"). Optimizers are left
        out.

    Raises:
        WeightsError: if the file is cut off, no Keras weight file, or refers to other files.
    """
    arrays: dict[str, np.ndarray] = {}
    try:
        with h5py.File(path, "r") as file:
            objects = _objects(path, file)
            root = "model_weights" if "model_weights" in objects else ""
            legacy = not {"layer_names", "layer_names0"}.isdisjoint(objects[root].attrs)
            for name, data in _legacy(path, root, objects) if legacy else _keras3(objects):
                if name in arrays:
                    raise WeightsError(f"{path} has two arrays called {name}")
                arrays[name] = _array(path, data)
    except WeightsError:
        raise
    except (OSError, LookupError, RuntimeError, TypeError, ValueError, AttributeError) as error:
        raise WeightsError(f"{path} is cut off or no HDF5 file: {error}") from error
    if not arrays:
        raise WeightsError(f"{path} is no Keras weight file: it has no layer with weights")
    return arrays
