"""Reads torch's .pth and .pt zip archives without torch and without running their pickles."""

import zipfile
from pathlib import Path

import numpy as np

from tfseg.weights import torch_tensors
from tfseg.weights.common import WeightsError, open_zip


class _Archive:
    """An open archive."""

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
        if self.root + "byteorder" in self.sizes and self.read("byteorder") != b"little":
            raise WeightsError(f"{path} was saved on a big-endian machine: re-save it")
        if self.sizes[pickled[0]] > torch_tensors.MAX_PICKLE:
            raise WeightsError(
                f"{path}: its data.pkl is larger than {torch_tensors.MAX_PICKLE} bytes"
            )

    def read(self, name: str) -> bytes:
        """An entry's bytes; zipfile checks their CRC."""
        if self.root + name not in self.sizes:
            raise WeightsError(f"{self.path} has no entry {name!r}")
        return self.file.read(self.root + name)


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads the state dict of a zip archive that torch.save wrote (torch 1.6 and later).

    Returns:
        {the state dict's name: read-only array in torch's layout}; bfloat16 as float32, other
        dtypes as they are. Entries that are no tensors are left out, and a dict that is wrapped
        as {"state_dict": ...} or {"model": ...} is unwrapped.

    Raises:
        WeightsError: if the file is cut off or asks for anything but tensors; the refused
            global is named, and never run.
    """
    with open_zip(path) as file:
        archive = _Archive(path, file)
        tree = torch_tensors.load_pickle(path, archive.read("data.pkl"))
        return torch_tensors.arrays(path, tree, lambda s: archive.read(f"data/{s.key}"))
