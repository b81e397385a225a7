"""HDF5 files, read by a process of their own."""

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfseg.weights.common import MAX_BYTES, WeightsError, from_bfloat16

_PROGRAM = Path(__file__).with_name("hdf5_child.py")


@dataclass(frozen=True)
class Item:
    """A group or an array of a file.

    Attributes:
        attributes: those that are names, as lists of text.
        array: read-only; None of a group, and of what holds no numbers.
        is_array: whether it is no group.
    """

    attributes: Mapping[str, list[str]]
    array: np.ndarray | None
    is_array: bool


def read(path: Path) -> dict[str, Item]:
    """Reads an HDF5 file of numbers, without what its optimizers have.

    libhdf5 loops and crashes on some damaged files. Here that ends another process, which has
    limits of time and memory and leaves the caller with an error. It is no sandbox: that process
    may do what its user may.

    Args:
        path: the file.

    Returns:
        Groups and arrays by path; the file itself is "".

    Raises:
        WeightsError: a file that is cut off or damaged, that refers to other files, or that is
            larger than `MAX_BYTES`.
    """
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    # -P: this folder's modules are not to be taken for other packages'.
    command = [sys.executable, "-P", str(_PROGRAM), str(path), str(MAX_BYTES)]
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        assert process.stdout is not None
        try:
            return _received(path, process.stdout)
        except _CutOff:
            code = process.wait()
            errors.seek(0)
            raise WeightsError(f"{path} is damaged: {_reason(code, errors.read())}") from None
        finally:
            process.kill()


class _CutOff(Exception):
    """The other process ended in the middle."""


def _reason(code: int, errors: bytes) -> str:
    """Why a process ended before its time."""
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "reading it takes longer, or more memory, than that of any whole file of its size"
    if code < 0:
        return f"it crashes the HDF5 library ({signal.Signals(-code).name})"
    return errors.decode(errors="replace").strip().rpartition("\n")[2]


def _received(path: Path, stream: IO[bytes]) -> dict[str, Item]:
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise _CutOff
    head = json.loads(line)
    if "refused" in head:
        raise WeightsError(f"{path} is cut off or no HDF5 file of numbers: {head['refused']}")
    return {
        told["path"]: Item(
            told["attributes"], _array(told["array"], stream), told["array"] is not None
        )
        for told in head["objects"]
    }


def _array(told: dict[str, Any] | None, stream: IO[bytes]) -> np.ndarray | None:
    if told is None or told["dtype"] is None:
        return None
    bfloat16 = told["dtype"] == "V2"
    dtype = np.dtype("<u2" if bfloat16 else told["dtype"])
    data = bytearray(math.prod(told["shape"]) * dtype.itemsize)
    view = memoryview(data)
    while view:
        count = stream.readinto(view)  # type: ignore[attr-defined]
        if not count:
            raise _CutOff
        view = view[count:]
    values = np.frombuffer(data, dtype).reshape(told["shape"])
    values.flags.writeable = False
    return from_bfloat16(values) if bfloat16 else values
