"""Reads torch's .pth and .pt zip archives without torch and without running their pickles."""

import math
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfseg.weights import pickles
from tfseg.weights.common import WeightsError, check_total, from_bfloat16, open_zip

#: What torch.save writes when asked for the format before torch 1.6.
LEGACY_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."

_MAX_PICKLE = 64 * 2**20
_NESTED = ("state_dict", "model", "model_state_dict")
_BFLOAT16 = "bfloat16"
_STORAGES = {
    "torch.DoubleStorage": "<f8",
    "torch.FloatStorage": "<f4",
    "torch.HalfStorage": "<f2",
    "torch.BFloat16Storage": _BFLOAT16,
    "torch.LongStorage": "<i8",
    "torch.IntStorage": "<i4",
    "torch.ShortStorage": "<i2",
    "torch.CharStorage": "|i1",
    "torch.ByteStorage": "|u1",
    "torch.BoolStorage": "|b1",
}
#: Bookkeeping beside the weights that is skipped: never looked up, only recognised.
_SKIPPED = (
    "argparse.Namespace",
    "_codecs.encode",
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "torch.device",
)


@dataclass(frozen=True)
class _Storage:
    """A flat array in the archive: its dtype, its file under data/, its number of values."""

    dtype: str
    key: str
    count: int


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage, in values and not bytes."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _skipped(*arguments: Any) -> None:
    return None


def _ordered_dict(*arguments: Any) -> dict[Any, Any]:
    if arguments:
        raise pickles.PickleError("an OrderedDict is made of something")
    return {}


def _size(extents: Any = ()) -> Any:
    return extents


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _is_extent(values: Any) -> bool:
    """Whether these are a tensor's numbers: at most 32, none negative."""
    if not isinstance(values, tuple) or len(values) > 32:
        return False
    return all(type(n) is int and n >= 0 for n in values)


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    fits = isinstance(storage, _Storage) and _is_extent((offset,))
    if not (fits and _is_extent(shape) and _is_extent(strides) and len(shape) == len(strides)):
        raise pickles.PickleError("a tensor's storage, offset, size or strides are none")
    last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
    if math.prod(shape) and last >= storage.count:
        raise pickles.PickleError(
            f"a tensor reaches to value {last} of a storage of {storage.count}"
        )
    return _Tensor(storage, offset, shape, strides)


class _DType:
    """A storage class in a pickle; a type of its own so that nothing else is taken for one."""

    def __init__(self, dtype: str):
        self.dtype = dtype

    def __call__(self, *arguments: Any) -> Any:
        raise pickles.PickleError("a storage is made outside the archive")


def _persistent(entry: Any) -> _Storage:
    """("storage", storage class, key, device, number of values)."""
    if not (isinstance(entry, tuple) and len(entry) == 5 and entry[0] == "storage"):
        raise pickles.PickleError("it refers to something other than a storage")
    _, kind, key, _, count = entry
    if not (isinstance(kind, _DType) and isinstance(key, str) and _is_extent((count,))):
        raise pickles.PickleError("its reference to a storage is malformed")
    return _Storage(kind.dtype, key, count)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": _ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    **{name: _DType(dtype) for name, dtype in _STORAGES.items()},
    **dict.fromkeys(_SKIPPED, _skipped),
}


class _Archive:
    """An open archive; each storage is read once, when a tensor wants it."""

    def __init__(self, path: Path, file: zipfile.ZipFile):
        self.path, self.file = path, file
        entries = file.infolist()
        if any(e.filename.endswith("/constants.pkl") for e in entries):
            raise WeightsError(f"{path} is a TorchScript program: save its state_dict() instead")
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
            raise WeightsError(f"{path} is compressed, which torch.save never does")
        if sum(e.file_size for e in entries) > path.stat().st_size:
            raise WeightsError(f"{path}: its entries overlap or reach beyond its end")
        self.sizes = {e.filename: e.file_size for e in entries}
        pickled = [name for name in self.sizes if name.endswith("/data.pkl")]
        if len(pickled) != 1:
            raise WeightsError(f"{path} is no torch archive: it has {len(pickled)} data.pkl")
        self.root = pickled[0].removesuffix("data.pkl")
        self.storages: dict[_Storage, np.ndarray] = {}

    def read(self, name: str) -> bytes:
        """An entry's bytes; zipfile checks their CRC."""
        if self.root + name not in self.sizes:
            raise WeightsError(f"{self.path} has no entry {name!r}")
        return self.file.read(self.root + name)

    def tree(self) -> Any:
        """What data.pkl describes, with `_Tensor` leaves."""
        if self.root + "byteorder" in self.sizes and self.read("byteorder") != b"little":
            raise WeightsError(f"{self.path} was saved on a big-endian machine: re-save it")
        if self.sizes[self.root + "data.pkl"] > _MAX_PICKLE:
            raise WeightsError(f"{self.path}: its data.pkl is larger than {_MAX_PICKLE} bytes")
        try:
            return pickles.load(self.read("data.pkl"), _FUNCTIONS, _persistent)
        except pickles.RefusedGlobal as error:
            raise WeightsError(
                f"{self.path} holds more than tensors: it asks for {error.name}, which is "
                "refused; save the model's state_dict() alone"
            ) from None
        except pickles.PickleError as error:
            raise WeightsError(f"{self.path}: its data.pkl is no checkpoint: {error}") from None

    def storage(self, storage: _Storage) -> np.ndarray:
        """A storage's values; bfloat16 as float32."""
        if storage not in self.storages:
            dtype = np.dtype("<u2" if storage.dtype == _BFLOAT16 else storage.dtype)
            data = self.read(f"data/{storage.key}")
            if len(data) != storage.count * dtype.itemsize:
                raise WeightsError(
                    f"{self.path}: data/{storage.key} has {len(data)} bytes where "
                    f"{storage.count} values of {storage.dtype} are declared"
                )
            values = np.frombuffer(data, dtype)
            if storage.dtype == _BFLOAT16:
                values = from_bfloat16(values)
            self.storages[storage] = values
        return self.storages[storage]

    def array(self, tensor: _Tensor) -> np.ndarray:
        """A tensor as a read-only view of its storage."""
        values = self.storage(tensor.storage)
        if not math.prod(tensor.shape):
            return np.empty(tensor.shape, values.dtype)
        strides = tuple(s * values.itemsize for s in tensor.strides)
        return np.lib.stride_tricks.as_strided(
            values[tensor.offset :], tensor.shape, strides, writeable=False
        )


def _state_dict(path: Path, tree: Any) -> dict[str, _Tensor]:
    """The tensors of a state dict, which training scripts wrap as {"state_dict": ...}."""
    for key in _NESTED:
        if isinstance(tree, dict) and isinstance(tree.get(key), dict):
            tree = tree[key]
            break
    if not isinstance(tree, dict):
        raise WeightsError(f"{path} holds a {type(tree).__name__}, not a state dict")
    tensors = {k: v for k, v in tree.items() if isinstance(k, str) and isinstance(v, _Tensor)}
    if not tensors:
        keys = ", ".join([key for key in tree if isinstance(key, str)][:10]) or "nothing"
        raise WeightsError(
            f"{path} has no tensors at its top or under any of {', '.join(_NESTED)}; it has {keys}"
        )
    return tensors


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads the state dict of a zip archive that torch.save wrote (torch 1.6 and later).

    Returns:
        {the state dict's name: read-only array in torch's layout}; bfloat16 as float32, other
        dtypes as they are. Entries that are no tensors are left out, and a dict that is wrapped
        as {"state_dict": ...} or {"model": ...} is unwrapped.

    Raises:
        WeightsError: if the file is cut off, of torch's older format, or asks for anything but
            tensors; the refused global is named, and never run.
    """
    with path.open("rb") as file:
        if file.read(len(LEGACY_MAGIC)) == LEGACY_MAGIC:
            raise WeightsError(
                f"{path} is of torch's format before 1.6: re-save it with torch, as in "
                "torch.save(torch.load(path, weights_only=True), path)"
            )
    with open_zip(path) as file:
        archive = _Archive(path, file)
        tensors = _state_dict(path, archive.tree())
        # Expanded tensors (stride 0) are larger than their storage; empty ones have no bound.
        check_total(path, (8 * math.prod(max(n, 1) for n in t.shape) for t in tensors.values()))
        return {name: archive.array(tensor) for name, tensor in tensors.items()}
