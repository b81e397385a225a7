"""Files on any file system that Beam knows: local, gs://, s3://, hdfs://."""

import json
import uuid
from collections.abc import Iterable
from typing import Any

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

_AS_IT_IS = CompressionTypes.UNCOMPRESSED


def read(path: str) -> bytes:
    """A file's content.

    Raises:
        FileNotFoundError: if there is none.
    """
    with FileSystems.open(path, compression_type=_AS_IT_IS) as file:
        content: bytes = file.read()
    return content


def write(path: str, content: bytes) -> None:
    """Writes a file that appears under its name when it is complete; another one is replaced."""
    partial = f"{path}.{uuid.uuid4().hex}.partial"
    with FileSystems.create(partial, compression_type=_AS_IT_IS) as file:
        file.write(content)
    delete(path)
    FileSystems.rename([partial], [path])


def delete(path: str) -> None:
    """Deletes a file, if it is there."""
    if FileSystems.exists(path):
        FileSystems.delete([path])


def names(pattern: str) -> list[str]:
    """The files that a pattern fits, sorted."""
    (found,) = FileSystems.match([pattern])
    return sorted(metadata.path for metadata in found.metadata_list)


def lines(entries: Iterable[Any]) -> bytes:
    """JSON, a line for each entry."""
    return b"".join(json.dumps(entry).encode() + b"\n" for entry in entries)
