"""Reads the files of torch.save before torch 1.6 without torch and without running their pickles.

The file is five pickles, then the storages: a magic number, the format's version, facts on the
machine, the object with its tensors as views of storages, and the storages' keys in the order in
which each follows as a 64-bit count and its values.
"""

import io
import struct
from pathlib import Path
from typing import IO, Any

import numpy as np

from tfseg.weights import torch_tensors
from tfseg.weights.common import WeightsError
from tfseg.weights.pickles import PickleError

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
#: The magic number's opcode and digits, behind the two bytes that name the pickle's protocol.
_HEAD = b"\x8a\n" + _MAGIC.to_bytes(10, "little") + b"."


def is_legacy(head: bytes) -> bool:
    """Whether a file that starts with these bytes (at least 16) is of this format."""
    return head[:1] == b"\x80" and head[2:].startswith(_HEAD)


class _Storages:
    """The storages that a pickle refers to, and where the file has them."""

    def __init__(self, path: Path):
        self.path = path
        self.declared: dict[str, torch_tensors.Storage] = {}
        self.places: dict[str, int] = {}

    def persistent(self, entry: Any) -> torch_tensors.Storage:
        """What a persistent id stands for: the six of these have what a view is of, or None."""
        if not isinstance(entry, tuple) or len(entry) != 6:
            raise PickleError("its reference to a storage is malformed")
        if entry[5] is not None:
            raise PickleError("a storage is a view of another, which state dicts have no need of")
        storage = torch_tensors.storage_of(entry[:5])
        if self.declared.setdefault(storage.key, storage) != storage:
            raise PickleError(f"two different storages are called {storage.key}")
        return storage

    def locate(self, file: IO[bytes], keys: Any, start: int) -> None:
        """Finds the storages, which follow one another from byte ``start``."""
        end = file.seek(0, io.SEEK_END)
        for key in keys if isinstance(keys, list) else [None]:
            if not isinstance(key, str) or key not in self.declared or key in self.places:
                raise WeightsError(f"{self.path}: its list of storages is malformed")
            storage = self.declared[key]
            file.seek(start)
            header = file.read(8)
            self.places[key] = start + 8
            start += 8 + storage.count * storage.stored.itemsize
            if start > end:
                raise WeightsError(
                    f"{self.path} is cut off: the storage {key} ends at byte {start} of {end}"
                )
            count = struct.unpack("<q", header)[0]
            if count != storage.count:
                raise WeightsError(
                    f"{self.path}: the storage {key} has {count} values where {storage.count} "
                    "are declared"
                )

    def read(self, file: IO[bytes], storage: torch_tensors.Storage) -> bytes:
        """A storage's bytes."""
        if storage.key not in self.places:
            raise WeightsError(f"{self.path} has no storage {storage.key!r}")
        file.seek(self.places[storage.key])
        return file.read(storage.count * storage.stored.itemsize)


def read(path: Path) -> dict[str, np.ndarray]:
    """Reads the state dict of a file of torch.save before torch 1.6.

    Returns:
        As `torch_zip.read`.

    Raises:
        WeightsError: if the file is cut off, inconsistent, or asks for anything but tensors; the
            refused global is named, and never run.
    """
    with path.open("rb") as file:
        pickled = io.BytesIO(file.read(torch_tensors.MAX_PICKLE))
        storages = _Storages(path)

        def load() -> Any:
            return torch_tensors.load_pickle(path, pickled, storages.persistent)

        magic, version, machine = load(), load(), load()
        if magic != _MAGIC or version != _VERSION or not isinstance(machine, dict):
            raise WeightsError(f"{path} is of an unknown version of torch's format before 1.6")
        if machine.get("little_endian") is not True:
            raise WeightsError(f"{path} was saved on a big-endian machine: re-save it")
        tree = load()
        storages.locate(file, load(), pickled.tell())
        return torch_tensors.arrays(path, tree, lambda storage: storages.read(file, storage))
