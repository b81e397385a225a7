"""Valid weight files, small, of all formats that are read."""

import io
import json
import pickle
import zipfile
from pathlib import Path

import h5py
import numpy as np
from safetensors.numpy import save

_FILES = Path(__file__).resolve().parents[2] / "tests" / "weights" / "files"
_ARRAYS = {
    "conv1.weight": np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2),
    "conv1.bias": np.array([1.5, -2], np.float32),
    "steps": np.array(7),
    "half": np.array([0.5, 2], np.float16),
}


def _saved(*names: str) -> list[bytes]:
    return [(_FILES / name).read_bytes() for name in names]


def pth_zip() -> list[bytes]:
    """Of torch 1.6 and later."""
    return _saved("state.pth", "wrapped.pth")


def pth_legacy() -> list[bytes]:
    """Of torch before 1.6."""
    return _saved("state_legacy.pth")


def pkl() -> list[bytes]:
    """Of Detectron and detectron2."""
    zoo = [pickle.dumps({"model": _ARRAYS, "__author__": "x"}, n) for n in (2, 4, 5)]
    return [*_saved("detectron.pkl"), *zoo]


def safetensors() -> list[bytes]:
    """With and without metadata."""
    return [save(_ARRAYS), save(_ARRAYS, {"format": "tfseg"})]


def npz() -> list[bytes]:
    """Stored and packed."""
    files = []
    for write in (np.savez, np.savez_compressed):
        file = io.BytesIO()
        write(file, **_ARRAYS)
        files.append(file.getvalue())
    return files


def keras() -> list[bytes]:
    """A model of Keras 3, which is refused."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": "3.15.0"}))
        archive.writestr("config.json", json.dumps({"class_name": "Lambda", "config": {}}))
        archive.writestr("model.weights.h5", h5()[0])
    return [file.getvalue()]


def h5() -> list[bytes]:
    """Of Keras 3 and of Keras 2; one packed."""
    files = []
    for old in (False, True):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            if old:
                file.attrs["layer_names"] = [b"Conv1", b"relu"]
                file.create_group("relu").attrs["weight_names"] = []
                group = file.create_group("Conv1")
                group.attrs["weight_names"] = [b"Conv1/kernel:0", b"Conv1/bias:0"]
                group["Conv1/kernel:0"] = np.ones((3, 3, 3, 2), np.float32)
                group["Conv1/bias:0"] = np.ones(2, np.float32)
                continue
            for layer, shape in (("conv2d", (3, 3, 3, 2)), ("conv2d_1", (1, 1, 2, 4))):
                variables = file.create_group(f"layers/{layer}/vars")
                variables.attrs["name"] = layer.replace("2d", "")
                variables.create_dataset("0", data=np.ones(shape, np.float32))
                chunks = {"chunks": (1,), "compression": "gzip"} if layer == "conv2d_1" else {}
                variables.create_dataset("1", data=np.ones(shape[-1], np.float32), **chunks)
        files.append(buffer.getvalue())
    return files


def _varint(number: int) -> bytes:
    digits = bytearray()
    while number > 0x7F:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*digits, number])


def _field(number: int, value: bytes | int) -> bytes:
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _blob(array: np.ndarray) -> bytes:
    shape = _field(7, _field(1, b"".join(map(_varint, array.shape))))
    return shape + _field(5, array.astype("<f4").tobytes())


def _old_blob(array: np.ndarray) -> bytes:
    shape = (1,) * (4 - array.ndim) + array.shape
    dims = b"".join(_field(place, n) for place, n in enumerate(shape, start=1))
    return dims + _field(5, array.astype("<f4").tobytes())


def caffemodel() -> list[bytes]:
    """Of both generations of layers."""
    kernel, bias = _ARRAYS["conv1.weight"], _ARRAYS["conv1.bias"]
    new = _field(1, b"net")
    for name, kind, arrays in (
        (b"conv1", b"Convolution", (kernel, bias)),
        (b"bn1", b"BatchNorm", (bias, bias, np.ones(1))),
        (b"scale1", b"Scale", (bias, bias)),
    ):
        blobs = b"".join(_field(7, _blob(array)) for array in arrays)
        new += _field(100, _field(1, name) + _field(2, kind) + blobs)
    blobs = b"".join(_field(6, _old_blob(array)) for array in (kernel, bias))
    old = _field(1, b"net") + _field(2, _field(4, b"conv1") + _field(5, 4) + blobs)
    return [new, old]
