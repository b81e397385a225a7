"""Reads and writes plain named arrays: .npz and .safetensors."""

import math
import os
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import IO

import numpy as np
import safetensors
import safetensors.numpy

from tfseg.weights.common import WeightsError, open_zip

#: Marks a .safetensors file whose names are tfseg's own.
_METADATA = {"format": "tfseg"}


def _npy(info: zipfile.ZipInfo, file: IO[bytes]) -> np.ndarray:
    """An array whose declared size is checked before it is allocated."""
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    version = np.lib.format.read_magic(file)
    if version not in read_header:
        raise ValueError(f"unknown version {version}")
    shape, fortran, dtype = read_header[version](file)
    if dtype.kind not in "fiub":
        raise ValueError(f"it holds {dtype}, not numbers")
    size = math.prod(shape) * dtype.itemsize
    if any(n < 0 for n in shape) or file.tell() + size != info.file_size:
        raise ValueError(f"the shape {shape} of {dtype} does not fit its {info.file_size} bytes")
    values = np.frombuffer(file.read(size), dtype)
    return values.reshape(shape, order="F" if fortran else "C")


def read_npz(path: Path) -> dict[str, np.ndarray]:
    """Reads a NumPy archive of plain numbers.

    Returns:
        {name: read-only array}.

    Raises:
        WeightsError: if the file is cut off, no such archive, or declares other sizes than it has.
    """
    arrays = {}
    with open_zip(path) as archive:
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            with archive.open(info) as file:
                try:
                    arrays[name] = _npy(info, file)
                except ValueError as error:
                    raise WeightsError(f"{path}: {name} is no plain array: {error}") from error
    return arrays


def read_safetensors(path: Path) -> tuple[dict[str, np.ndarray], bool]:
    """Reads a .safetensors file.

    Returns:
        {name: array}, bfloat16 as float32, and whether tfseg wrote the file.

    Raises:
        WeightsError: if the file is cut off, no such file, or of a dtype that NumPy has not.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            # NumPy's own kinds aside: bfloat16 comes as a dtype of ml_dtypes.
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            own = (file.metadata() or {}).get("format") == _METADATA["format"]
    except (safetensors.SafetensorError, OSError, TypeError, KeyError) as error:
        raise WeightsError(f"{path} is cut off or no .safetensors file: {error}") from error
    arrays = {n: a.astype(np.float32) if a.dtype.kind == "V" else a for n, a in arrays.items()}
    return arrays, own


def write_safetensors(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Writes tfseg's own arrays; a process killed meanwhile leaves an older file whole."""
    part = path.with_name(path.name + ".part")
    contiguous = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(contiguous, part, metadata=_METADATA)
    os.replace(part, path)
