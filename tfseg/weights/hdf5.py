"""HDF5 files, read by a process of their own."""

import signal
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfseg import child
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
    with (
        tempfile.TemporaryFile() as errors,
        child.start(_PROGRAM, str(path), str(MAX_BYTES), stderr=errors) as process,
    ):
        assert process.stdout is not None
        try:
            return _received(path, process.stdout)
        except EOFError:
            code = process.wait()
            errors.seek(0)
            raise WeightsError(f"{path} is damaged: {_reason(code, errors.read())}") from None
        finally:
            process.kill()


def _reason(code: int, errors: bytes) -> str:
    """Why a process ended before its time."""
    if code in (-signal.SIGXCPU, -signal.SIGKILL):
        return "reading it takes longer, or more memory, than that of any whole file of its size"
    if code < 0:
        return f"it crashes the HDF5 library ({signal.Signals(-code).name})"
    return errors.decode(errors="replace").strip().rpartition("\n")[2]


def _received(path: Path, stream: IO[bytes]) -> dict[str, Item]:
    head = child.told(stream)
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
    values = child.array(stream, "<u2" if bfloat16 else told["dtype"], told["shape"])
    return from_bfloat16(values) if bfloat16 else values
