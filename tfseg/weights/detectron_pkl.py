"""Reads the .pkl model files of Detectron and detectron2 without unpickling them.

They are pickles of dictionaries of NumPy arrays: detectron2's zoo has {"model": {name: array},
"__author__": ...}, Detectron's, which Python 2 wrote, {"blobs": {name: array}, "cfg": ...}, and
the ImageNet trunks of both the names at the top.
"""

import mmap
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from tfseg.weights import pickles
from tfseg.weights.common import MAX_BYTES, WeightsError, check_shape, check_total

_NESTED = ("model", "blobs")
#: The optimizer's state, which Detectron keeps beside each weight.
_MOMENTUM = "_momentum"


class _DType(pickles.Stateful):
    """What ``numpy.dtype`` stands for."""

    def __init__(self, text: Any, *_: Any):
        if not isinstance(text, str) or not re.fullmatch("b1|[iu][1248]|f[248]", text):
            raise pickles.PickleError("an array holds something other than numbers")
        self.text, self.order = text, "<"

    def set_state(self, state: Any) -> None:
        """(version, byte order, ...)."""
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|"):
            raise pickles.PickleError("the byte order of an array is none")
        self.order = state[1]


class _Array(pickles.Stateful):
    """What an array stands for; its bytes may be text, a code point a byte."""

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = (0,)
        self.dtype = np.dtype("f4")
        self.order = "C"
        self.data: bytes | bytearray | str = b""

    def fill(self, shape: Any, dtype: Any, order: str, data: Any) -> None:
        """Takes what makes an array, once it is known to be of the right types."""
        if not (pickles.are_extents(shape) and isinstance(dtype, _DType)):
            raise pickles.PickleError("the shape or the type of an array is none")
        if not isinstance(data, bytes | bytearray | str):
            raise pickles.PickleError("the values of an array are no bytes")
        self.shape, self.order, self.data = shape, order, data
        self.dtype = np.dtype(dtype.order + dtype.text)

    def set_state(self, state: Any) -> None:
        """(version, shape, dtype, whether in Fortran's order, bytes)."""
        if not isinstance(state, tuple) or len(state) != 5:
            raise pickles.PickleError("an array is made of something other than bytes")
        _, shape, dtype, fortran, data = state
        self.fill(shape, dtype, "F" if fortran is True else "C", data)

    def array(self, path: Path, name: str) -> np.ndarray:
        """The array itself; a view of its bytes where they are bytes."""
        data = self.data.encode("latin-1") if isinstance(self.data, str) else self.data
        values = np.frombuffer(data, self.dtype)
        values.setflags(write=False)
        check_shape(path, name, self.shape, values.size)
        return values.reshape(self.shape, order="F" if self.order == "F" else "C")


def _class(*arguments: Any) -> Any:
    raise pickles.PickleError("it calls NumPy's array class")


def _reconstruct(*arguments: Any) -> _Array:
    return _Array()


def _from_buffer(data: Any, dtype: Any, shape: Any, order: Any, *_: Any) -> _Array:
    array = _Array()
    array.fill(shape, dtype, "F" if order == "F" else "C", data)
    return array


def _encode(text: Any, *_: Any) -> Any:
    """How protocol 2 writes bytes. They stay text: the same text may be encoded many times."""
    return text


def _scalar(*arguments: Any) -> None:
    return None


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": pickles.ordered_dict,
    "_codecs.encode": _encode,
    "numpy.dtype": _DType,
    "numpy.ndarray": _class,
}
# NumPy 2 renamed its core, and files of both names are about.
for _core in ("numpy.core", "numpy._core"):
    _FUNCTIONS |= {
        f"{_core}.multiarray._reconstruct": _reconstruct,
        f"{_core}.multiarray.scalar": _scalar,
        f"{_core}.numeric._frombuffer": _from_buffer,
    }


def _tree(path: Path) -> Any:
    if not path.stat().st_size:
        raise WeightsError(f"{path} is empty")
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            return pickles.load(data, _FUNCTIONS)
        except pickles.RefusedGlobal as error:
            raise WeightsError(
                f"{path} holds more than arrays: it asks for {error.name}, which is refused"
            ) from None
        except pickles.PickleError as error:
            raise WeightsError(f"{path} is no model file of Detectron: {error}") from None


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a model file of Detectron, of detectron2's zoo, or an ImageNet trunk of theirs.

    Returns:
        {the file's name: read-only array}; entries that are no arrays, and the momentum that
        Detectron's training leaves beside its weights, are left out.

    Raises:
        WeightsError: if the file is cut off, inconsistent, or asks for anything but arrays; the
            refused global is named, and never run.
    """
    if path.stat().st_size > MAX_BYTES:
        raise WeightsError(f"{path} is larger than {MAX_BYTES} bytes")
    tree = _tree(path)
    for key in _NESTED:
        if isinstance(tree, dict) and isinstance(tree.get(key), dict):
            tree = tree[key]
            break
    if not isinstance(tree, dict):
        raise WeightsError(f"{path} holds a {type(tree).__name__}, not a dictionary of arrays")
    found = {
        name: value
        for name, value in tree.items()
        if isinstance(name, str) and isinstance(value, _Array) and not name.endswith(_MOMENTUM)
    }
    if not found:
        raise WeightsError(f"{path} has no arrays at its top or under any of {', '.join(_NESTED)}")
    check_total(path, (len(value.data) for value in found.values()))
    arrays = {}
    for name, value in found.items():
        try:
            arrays[name] = value.array(path, name)
        except WeightsError:
            raise
        except ValueError as error:
            raise WeightsError(f"{path}: the bytes of {name} are no array: {error}") from None
    return arrays
