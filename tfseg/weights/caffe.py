"""Reads .caffemodel files: protobuf messages of both generations of Caffe's layers.

Field numbers are those of BVLC Caffe's ``caffe.proto``. Nothing but the wire format is needed:
the messages nest net > layer > blob, and all other fields are skipped.
"""

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from tfseg.weights.common import WeightsError, check_shape

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_NET_V1_LAYERS, _NET_LAYERS = 2, 100
_V1 = {"name": 4, "type": 5, "blobs": 6}
_V2 = {"name": 1, "type": 2, "blobs": 7}
_V0_LAYER = 1
_BLOB_LEGACY_SHAPE, _BLOB_DATA, _BLOB_SHAPE, _BLOB_DOUBLE_DATA = (1, 2, 3, 4), 5, 7, 8

#: Types of the first generation that decide names or shapes; BN is DeconvNet's addition.
_V1_TYPES = {4: "Convolution", 14: "InnerProduct", 39: "Deconvolution", 43: "BN"}

#: What a norm's blobs are, and how many it may have.
_NORMS = {
    "BN": (("gamma", "beta", "mean", "var"), (2, 4)),
    "Scale": (("gamma", "beta"), (1, 2)),
}


class _Malformed(Exception):
    """The bytes are no such message."""


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """The number at ``at`` and the place behind it."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise _Malformed("the data ends inside a number")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise _Malformed("a number is longer than ten bytes")


def _fields(data: memoryview) -> Iterator[tuple[int, int, Any]]:
    """The (number, wire type, value) of a message's fields: a number, or a view of its bytes."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, wire = tag >> 3, tag & 7
        if wire == _VARINT:
            value, at = _varint(data, at)
            yield number, wire, value
            continue
        if wire == _BYTES:
            size, at = _varint(data, at)
        elif wire in (_FIXED32, _FIXED64):
            size = 4 if wire == _FIXED32 else 8
        else:
            raise _Malformed(f"field {number} has the unknown wire type {wire}")
        if size > len(data) - at:
            raise _Malformed(
                f"field {number} is {size} bytes long where only {len(data) - at} are left"
            )
        yield number, wire, data[at : at + size]
        at += size


def _messages(data: memoryview, *numbers: int) -> Iterator[tuple[int, memoryview]]:
    """The nested messages and strings among a message's fields, of these field numbers."""
    for number, wire, value in _fields(data):
        if number in numbers and wire == _BYTES:
            yield number, value


def _dims(data: memoryview) -> tuple[int, ...]:
    """A BlobShape: dim = 1, packed or not."""
    dims: list[int] = []
    for number, wire, value in _fields(data):
        if number == 1 and wire == _VARINT:
            dims.append(value)
        elif number == 1 and wire == _BYTES:
            at = 0
            while at < len(value):
                dim, at = _varint(value, at)
                dims.append(dim)
        if len(dims) > 32:
            raise _Malformed("a shape has more than 32 dimensions")
    return tuple(dims)


def _blob(data: memoryview, path: Path, name: str) -> np.ndarray:
    """A BlobProto's data as float32 in its declared shape, on the file's own memory if packed."""
    legacy, shape = dict.fromkeys(_BLOB_LEGACY_SHAPE, 0), None
    chunks: dict[int, list[memoryview]] = {_BLOB_DATA: [], _BLOB_DOUBLE_DATA: []}
    for number, wire, value in _fields(data):
        if number in legacy and wire == _VARINT:
            legacy[number] = value
        elif number == _BLOB_SHAPE and wire == _BYTES:
            shape = _dims(value)
        elif number in chunks and wire != _VARINT:
            chunks[number].append(value)
    double = not chunks[_BLOB_DATA]
    parts = chunks[_BLOB_DOUBLE_DATA if double else _BLOB_DATA]
    raw = parts[0] if len(parts) == 1 else b"".join(parts)
    dtype = np.dtype("<f8" if double else "<f4")
    if len(raw) % dtype.itemsize:
        raise _Malformed(f"{len(raw)} bytes are no whole number of {dtype.name} values")
    values = np.frombuffer(raw, dtype)
    shape = tuple(legacy.values()) if shape is None else shape
    check_shape(path, name, shape, values.size)
    return np.asarray(values.reshape(shape), np.float32)


def _flat(blob: np.ndarray) -> np.ndarray:
    """A vector without the extents of one around it: biases are (1, 1, 1, n) in older files."""
    return blob.reshape(-1) if blob.size == max(blob.shape, default=1) else blob


def _batch_norm(blobs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """BatchNorm's sums over the number of batches they were added up from."""
    if len(blobs) != 3 or blobs[2].size != 1:
        raise _Malformed(f"a BatchNorm has mean, variance and one factor, not {len(blobs)} blobs")
    factor = float(blobs[2].reshape(()))
    scale = np.float32(0 if factor == 0 else 1 / factor)
    return {"mean": _flat(blobs[0]) * scale, "var": _flat(blobs[1]) * scale}


def _named(kind: str, blobs: list[np.ndarray]) -> dict[str, np.ndarray]:
    """A layer's blobs by name: norms by what they hold, others by index."""
    if kind == "BatchNorm":
        return _batch_norm(blobs)
    if kind in _NORMS:
        names, counts = _NORMS[kind]
        if len(blobs) not in counts:
            raise _Malformed(f"a {kind} has {counts[0]} or {counts[1]} blobs, not {len(blobs)}")
        return {name: _flat(blob) for name, blob in zip(names, blobs, strict=False)}
    kernel = blobs[0]
    if kind == "InnerProduct" and kernel.ndim == 4 and kernel.shape[:2] == (1, 1):
        kernel = kernel[0, 0]
    elif kind not in ("Convolution", "Deconvolution", "InnerProduct"):
        kernel = _flat(kernel)
    return {"0": kernel, **{str(i): _flat(b) for i, b in enumerate(blobs[1:], start=1)}}


def _layer(data: memoryview, v1: bool, path: Path) -> tuple[str, dict[str, np.ndarray]]:
    """A layer's name and its named blobs."""
    numbers = _V1 if v1 else _V2
    name, kind, blobs = "", "", []
    for number, wire, value in _fields(data):
        if v1 and number == _V0_LAYER:
            raise _Malformed(
                "its layers are of Caffe's first format, before 2014: convert it with Caffe's "
                "upgrade_net_proto_binary"
            )
        if number == numbers["name"] and wire == _BYTES:
            name = bytes(value).decode(errors="replace")
        elif number == numbers["type"]:
            kind = _V1_TYPES.get(value, "") if wire == _VARINT else bytes(value).decode("latin-1")
        elif number == numbers["blobs"] and wire == _BYTES:
            blobs.append(value)
    if not blobs:
        return name, {}
    try:
        arrays = [_blob(b, path, f"{name}/{index}") for index, b in enumerate(blobs)]
        return name, _named(kind, arrays)
    except _Malformed as error:
        raise _Malformed(f"layer {name!r}: {error}") from None


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads a .caffemodel.

    Returns:
        {"<layer>/<blob index>": float32 array in Caffe's layout} (convolutions out, in, h, w;
        fully connected out, in; vectors 1-D). The blobs of norms are called by what they hold:
        "/gamma", "/beta", "/mean", "/var"; BatchNorm's are already divided by its factor. Arrays
        lie on the mapped file and are read-only.

    Raises:
        WeightsError: if the file is cut off, no .caffemodel, or inconsistent.
    """
    arrays: dict[str, np.ndarray] = {}
    with path.open("rb") as file:
        if not file.read(1):
            raise WeightsError(f"{path} is empty")
        data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        for number, message in _messages(data, _NET_V1_LAYERS, _NET_LAYERS):
            name, blobs = _layer(message, number == _NET_V1_LAYERS, path)
            for blob, array in blobs.items():
                if f"{name}/{blob}" in arrays:
                    raise _Malformed(f"two layers are called {name!r}")
                arrays[f"{name}/{blob}"] = array
    except _Malformed as error:
        raise WeightsError(f"{path} is cut off or no .caffemodel: {error}") from None
    if not arrays:
        raise WeightsError(f"{path} is no .caffemodel: it has no layer with weights")
    return arrays
