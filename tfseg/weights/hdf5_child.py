"""Reads an HDF5 file in a process of its own: ``hdf5_child.py PATH MAX_BYTES``.

libhdf5 trusts what a file says of itself: damaged ones make it loop, crash or write where it
should not. This program, which `tfseg.weights.hdf5` starts, is what then ends. It imports nothing
of tfseg.

On its standard output: a line of JSON, {"objects": [...]} or {"refused": reason}, then the arrays'
bytes in the objects' order. An object is {"path", "attributes", "array"}, where "array" is None for
a group, or else its {"dtype", "shape"}; dtype None means that it holds no numbers, and no bytes.
"""

import json
import os
import resource
import sys

import h5py
import numpy as np

#: Beside the arrays' bytes; and per gigabyte of file, at less than any disk's speed.
_MEMORY = 2**30
_SECONDS, _SECONDS_PER_GIB = 20, 60

#: What Keras' files say of names; other attributes are not looked at.
_ATTRIBUTES = ("name", "layer_names", "weight_names")
_OPTIMIZERS = ("optimizer/", "optimizer_weights/")


class Refused(Exception):
    """A file that holds more than numbers of its own, or more than it may."""


def _limit(path, max_bytes):
    seconds = int(_SECONDS + _SECONDS_PER_GIB * os.path.getsize(path) / 2**30)
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.setrlimit(resource.RLIMIT_AS, (max_bytes + _MEMORY, max_bytes + _MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _check(name, data):
    if data.external or data.is_virtual:
        raise Refused(f"{name} lies in another file")
    if data.chunks is None and data.id.get_storage_size() != data.nbytes:
        raise Refused(
            f"{name} declares {data.nbytes} bytes, but holds {data.id.get_storage_size()}"
        )


def _dtype(data):
    if data.dtype == np.dtype("V2"):  # how h5py stores bfloat16
        return "V2"
    return data.dtype.str if data.dtype.kind in "fiub" else None


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _attributes(item):
    return {
        key: [_text(value) for value in np.ravel(item.attrs[key])]
        for key in item.attrs
        if key.rstrip("0123456789") in _ATTRIBUTES
    }


def _objects(file, max_bytes):
    """The file's own groups and arrays by path; soft and external links are not followed."""
    found = {"": file}
    file.visititems(found.__setitem__)
    found = {n: item for n, item in found.items() if not n.startswith(_OPTIMIZERS)}
    arrays = {n: item for n, item in found.items() if isinstance(item, h5py.Dataset)}
    for name, data in arrays.items():
        _check(name, data)
    total = sum(data.nbytes for data in arrays.values())
    if total > max_bytes:
        raise Refused(f"it declares {total} bytes of arrays, the limit is {max_bytes}")
    return found


def _described(name, item):
    array = None
    if isinstance(item, h5py.Dataset):
        array = {"dtype": _dtype(item), "shape": list(item.shape or ())}
    return {"path": name, "attributes": _attributes(item), "array": array}


def dump(path, max_bytes, out):
    """Writes to a binary file what the module's docstring says."""
    with h5py.File(path, "r") as file:
        objects = _objects(file, max_bytes)
        described = [_described(name, item) for name, item in objects.items()]
        out.write(json.dumps({"objects": described}).encode() + b"\n")
        for item, told in zip(objects.values(), described, strict=True):
            if told["array"] is not None and told["array"]["dtype"] is not None:
                out.write(np.ascontiguousarray(item[()]).data.cast("B") if item.size else b"")
    out.flush()


def main(path, max_bytes):
    """Reads a file within the limits of memory and time."""
    _limit(path, max_bytes)
    try:
        dump(path, max_bytes, sys.stdout.buffer)
    # h5py passes on whatever libhdf5 reports, as errors of many types.
    except Exception as error:
        reason = str(error) or type(error).__name__
        sys.stdout.buffer.write(json.dumps({"refused": reason}).encode() + b"\n")
        sys.exit(1)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
