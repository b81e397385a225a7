"""DIR/SPLIT.json: what a prepared split is, beside its shards."""

import hashlib
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self, get_type_hints

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, field_validator, model_validator

from tfseg.data.readers.coco_panoptic import PanopticCategory
from tfseg.data.readers.files import is_file, read_json
from tfseg.data.sample import DataError, Sample

#: the layout of shards and manifest
VERSION = 1

#: keys of samples of all readers of objects
_OF_OBJECTS = ("boxes", "labels", "crowd", "area", "ids")


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class File(_Part):
    """A file beside the manifest, and what it must be."""

    file: str
    bytes: int = Field(ge=0)
    sha256: str

    @field_validator("file")
    @classmethod
    def _name(cls, value: str) -> str:
        if Path(value).name != value:
            raise ValueError("must be a name without folders")
        return value

    def is_in(self, folder: Path) -> bool:
        """Whether the folder has the file with this content."""
        path = folder / self.file
        if not is_file(path) or path.stat().st_size != self.bytes:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == self.sha256


class Shard(File):
    """A TFRecord file."""

    records: int = Field(gt=0)


class Source(_Part):
    """Where the samples came from: a reader, its options and the ignore label."""

    reader: str
    options: dict[str, Any]
    ignore_label: int


class Objects(_Part):
    """What a reader of objects has beside its samples; see `tfseg.data.sample.ObjectReader`.

    ``image_ids`` are the samples'; ``other_images`` are known, but not in the split. ``truth`` is
    COCO's JSON. ``panoptic`` has the categories of a panoptic set.
    """

    category_ids: tuple[int, ...]
    keypoint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]
    semantic_classes: tuple[str, ...]
    image_ids: tuple[int, ...]
    other_images: tuple[int, ...]
    truth: File
    panoptic: tuple[PanopticCategory, ...] | None


class Manifest(_Part):
    """The file's content. ``plan`` tells the sources and cuts of prepared sets apart."""

    version: Literal[1]
    plan: str
    source: Source
    keys: tuple[str, ...]
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...] | None
    objects: Objects | None
    shards: tuple[Shard, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {"name", "image"} if self.objects is None else {"name", "image", *_OF_OBJECTS}
        unknown = sorted(set(self.keys) - set(get_type_hints(Sample)))
        if unknown or not needed <= set(self.keys):
            raise ValueError(f"keys must have {sorted(needed)}, and no {unknown}")
        return self


def read_manifest(path: Path) -> Manifest:
    """Reads a manifest.

    Raises:
        DataError: a missing or damaged file, or one of another version.
    """
    return read_json(path, TypeAdapter(Manifest), "manifest of `tfseg prepare`, version 1")


def write_file(path: Path, write: Callable[[BinaryIO], object]) -> None:
    """Writes a file that appears under its name when it is complete.

    Raises:
        DataError: a folder or disk that takes no file.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            write(file)
        partial.replace(path)
    except OSError as e:
        raise DataError(f"{path} cannot be written: {e.strerror}") from e
    finally:
        partial.unlink(missing_ok=True)
