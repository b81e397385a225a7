"""What torch's two file formats share: pickled tensors as views of storages."""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tfseg.weights import pickles
from tfseg.weights.common import WeightsError, check_total, from_bfloat16

#: The most bytes of a file that are taken for pickles; those of checkpoints have some kilobytes.
MAX_PICKLE = 64 * 2**20

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
class Storage:
    """A flat array in the file.

    Attributes:
        dtype: NumPy's, or "bfloat16".
        key: the file's name for it.
        count: how many values it has.
    """

    dtype: str
    key: str
    count: int

    @property
    def stored(self) -> np.dtype:
        """The dtype of its bytes."""
        return np.dtype("<u2" if self.dtype == _BFLOAT16 else self.dtype)


@dataclass(frozen=True)
class _Tensor:
    """A view of a storage, in values and not bytes."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _skipped(*arguments: Any) -> None:
    return None


def _size(extents: Any = ()) -> Any:
    return extents


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    fits = isinstance(storage, Storage) and pickles.are_extents((offset,))
    extents = pickles.are_extents(shape) and pickles.are_extents(strides)
    if not (fits and extents and len(shape) == len(strides)):
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


def storage_of(entry: Any) -> Storage:
    """What a persistent id ("storage", storage class, key, device, number of values) stands for.

    Raises:
        PickleError: if it is no such id.
    """
    if not (isinstance(entry, tuple) and len(entry) == 5 and entry[0] == "storage"):
        raise pickles.PickleError("it refers to something other than a storage")
    _, kind, key, _, count = entry
    if not (isinstance(kind, _DType) and isinstance(key, str) and pickles.are_extents((count,))):
        raise pickles.PickleError("its reference to a storage is malformed")
    return Storage(kind.dtype, key, count)


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "collections.OrderedDict": pickles.ordered_dict,
    "torch.Size": _size,
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.nn.parameter.Parameter": _parameter,
    **{name: _DType(dtype) for name, dtype in _STORAGES.items()},
    **dict.fromkeys(_SKIPPED, _skipped),
}


def load_pickle(
    path: Path, source: bytes | io.BytesIO, persistent: Callable[[Any], Any] = storage_of
) -> Any:
    """What a pickle of torch.save describes, for `arrays`.

    Args:
        path: of the file, for errors.
        source: the pickle, or what stands at its start and is left behind its end.
        persistent: what a persistent id stands for.

    Raises:
        WeightsError: if the pickle is malformed or asks for anything but tensors.
    """
    try:
        return pickles.load(source, _FUNCTIONS, persistent)
    except pickles.RefusedGlobal as error:
        raise WeightsError(
            f"{path} holds more than tensors: it asks for {error.name}, which is refused; save "
            "the model's state_dict() alone"
        ) from None
    except pickles.PickleError as error:
        raise WeightsError(f"{path}: its pickle is no checkpoint: {error}") from None


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


def _values(path: Path, storage: Storage, data: bytes) -> np.ndarray:
    """A storage's values; bfloat16 as float32."""
    if len(data) != storage.count * storage.stored.itemsize:
        raise WeightsError(
            f"{path}: the storage {storage.key} has {len(data)} bytes where {storage.count} "
            f"values of {storage.dtype} are declared"
        )
    values = np.frombuffer(data, storage.stored)
    return from_bfloat16(values) if storage.dtype == _BFLOAT16 else values


def _view(tensor: _Tensor, values: np.ndarray) -> np.ndarray:
    """A tensor as a read-only view of its storage's values."""
    if not math.prod(tensor.shape):
        return np.empty(tensor.shape, values.dtype)
    strides = tuple(s * values.itemsize for s in tensor.strides)
    return np.lib.stride_tricks.as_strided(
        values[tensor.offset :], tensor.shape, strides, writeable=False
    )


def arrays(path: Path, tree: Any, read: Callable[[Storage], bytes]) -> dict[str, np.ndarray]:
    """The arrays of a state dict.

    Args:
        path: of the file, for errors.
        tree: what `load_pickle` returned.
        read: gives a storage's bytes; called once for each storage that a tensor of the state
            dict lies in.

    Returns:
        {the state dict's name: read-only array in torch's layout}; bfloat16 as float32.

    Raises:
        WeightsError: if there is no state dict, or a storage has another size than declared.
    """
    tensors = _state_dict(path, tree)
    # Expanded tensors (stride 0) are larger than their storage; empty ones have no bound.
    check_total(path, (8 * math.prod(max(n, 1) for n in t.shape) for t in tensors.values()))
    storages: dict[Storage, np.ndarray] = {}
    found = {}
    for name, tensor in tensors.items():
        storage = tensor.storage
        if storage not in storages:
            storages[storage] = _values(path, storage, read(storage))
        found[name] = _view(tensor, storages[storage])
    return found
