"""TFRecord files: records with checksums one after the other, read at any place.

A record is its length (8 bytes), the length's checksum (4), the bytes, and theirs (4), all little
endian (tensorflow/core/lib/io/record_writer.h). The checksum is a CRC-32C, turned and shifted.
"""

import struct
from pathlib import Path

import google_crc32c
import numpy as np

from tfseg.data.sample import DataError

_HEAD, _TAIL = struct.Struct("<QI"), struct.Struct("<I")


def _checksum(data: bytes) -> int:
    crc = int(google_crc32c.value(data))
    return ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF


def frame(data: bytes) -> bytes:
    """One record as the file has it."""
    length = len(data).to_bytes(8, "little")
    return length + _TAIL.pack(_checksum(length)) + data + _TAIL.pack(_checksum(data))


class RecordFile:
    """The records of a file, by number.

    Where they begin is found when the first of them is read; the file is opened for each, so that
    any number of files and threads will do.
    """

    def __init__(self, path: Path, count: int) -> None:
        """Keeps the path.

        Args:
            path: the file.
            count: of its records.
        """
        self._path, self._count = path, count
        self._starts: np.ndarray | None = None

    def __getitem__(self, number: int) -> bytes:
        """The bytes of a record.

        Raises:
            DataError: a file that is missing, truncated or has another number of records, or
                a record whose checksums do not fit.
        """
        try:
            if self._starts is None:
                self._starts = self._find()
            with self._path.open("rb", buffering=0) as file:
                file.seek(int(self._starts[number]))
                size = int(self._starts[number + 1] - self._starts[number])
                data = file.read(size)
        except OSError as e:
            raise DataError(f"the shard {self._path} cannot be read: {e.strerror}") from e
        content = data[_HEAD.size : -_TAIL.size]
        if len(data) < size or _TAIL.unpack(data[-_TAIL.size :])[0] != _checksum(content):
            raise self._damaged(number, "its checksum does not fit")
        return content

    def _find(self) -> np.ndarray:
        """Where the records begin, and where the last one ends."""
        starts = np.zeros(self._count + 1, np.int64)
        end = self._path.stat().st_size
        with self._path.open("rb", buffering=0) as file:
            for number in range(self._count):
                head = file.read(_HEAD.size)
                if len(head) < _HEAD.size:
                    raise self._damaged(number, "the file ends before it")
                length, checksum = _HEAD.unpack(head)
                if _checksum(head[:8]) != checksum:
                    raise self._damaged(number, "the checksum of its length does not fit")
                stop = int(starts[number]) + _HEAD.size + length + _TAIL.size
                if stop > end:
                    raise self._damaged(number, "the file ends within it")
                starts[number + 1] = stop
                file.seek(stop)
        if starts[-1] != end:
            raise DataError(f"the shard {self._path} has more than its {self._count} records")
        return starts

    def _damaged(self, number: int, why: str) -> DataError:
        return DataError(
            f"the shard {self._path} is damaged: record {number} of {self._count}: {why}; "
            "`tfseg prepare` with the same source writes damaged shards anew"
        )
