"""Sets that `tfseg prepare` has written: TFRecords in shards, read at random."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from tfseg.data.readers.base import BaseReader, register_reader
from tfseg.data.readers.files import complain, is_file
from tfseg.data.records.example import decode
from tfseg.data.records.framing import RecordFile
from tfseg.data.records.manifest import Manifest, Objects, read_manifest
from tfseg.data.records.samples import Record
from tfseg.data.sample import DataError, Sample


@register_reader("tfrecord")
class TfrecordReader(BaseReader):
    """The samples of the set's first reader, in its order, and all else that it tells.

    Prepared from a reader of objects it is one, too; see `tfseg.data.sample.ObjectReader`. A
    sample is one read at its place of a shard: nothing but the places of records is kept in
    memory.
    """

    def __init__(self, *, path: Path, ignore_label: int = 255) -> None:
        """Reads the manifest and checks that the shards are there.

        Args:
            path: the manifest, DIR/SPLIT.json.
            ignore_label: the one that the set was prepared with.

        Raises:
            DataError: a missing or damaged manifest, shards that are missing or of another size.
            ValueError: another ignore label.
        """
        manifest = read_manifest(path)
        if manifest.source.ignore_label != ignore_label:
            raise ValueError(
                f"{path} was prepared with data.ignore_label {manifest.source.ignore_label}, the "
                f"experiment has {ignore_label}"
            )
        colors = None if manifest.colors is None else np.array(manifest.colors, np.uint8)
        # As with the readers of objects, whose labels have no ignore label.
        with_objects = manifest.objects is not None
        super().__init__(manifest.classes, colors, -1 if with_objects else ignore_label)
        self.ignore_label = ignore_label
        self._keys = manifest.keys
        _check_shards(manifest, path.parent)
        self._files = [RecordFile(path.parent / s.file, s.records) for s in manifest.shards]
        self._paths = [path.parent / shard.file for shard in manifest.shards]
        self._stops = np.cumsum([shard.records for shard in manifest.shards])
        self._objects: _Objects | None = None
        if manifest.objects is not None:
            if len(manifest.objects.image_ids) != len(self):
                raise DataError(f"{path} has other images than samples")
            self._objects = _Objects(self, manifest.objects, path)

    def __getattr__(self, name: str) -> Any:
        # What readers of objects alone have.
        if name.startswith("_") or self._objects is None:
            raise AttributeError(f"{type(self).__name__!r} has no attribute {name!r}")
        return getattr(self._objects, name)

    def __len__(self) -> int:
        return int(self._stops[-1])

    def record(self, index: int) -> Record:
        """The record of sample ``index``.

        Raises:
            IndexError: past the end.
            DataError: a damaged shard; it and the record are named.
        """
        index = range(len(self))[index]
        shard = int(np.searchsorted(self._stops, index, side="right"))
        number = index - (int(self._stops[shard - 1]) if shard else 0)
        origin = f"the shard {self._paths[shard]}: record {number}"
        try:
            return Record(decode(self._files[shard][number]), origin)
        except DataError:
            raise
        except ValueError as e:
            raise DataError(f"{origin} is damaged: {e}") from e

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample.

        Raises:
            IndexError: past the end.
            DataError: a damaged shard, or one of other labels than the manifest's classes.
        """
        record = self.record(index)
        sample = record.sample(self._keys)
        if self._objects is None:
            if "mask" in sample:
                self.check_labels(sample["mask"], record.origin)
        elif ((sample["labels"] < 0) | (sample["labels"] >= len(self.classes))).any():
            raise DataError(f"{record.origin} has labels outside 0..{len(self.classes) - 1}")
        return sample

    def keys(self) -> tuple[str, ...]:
        """The keys of every sample."""
        return self._keys


def _check_shards(manifest: Manifest, folder: Path) -> None:
    sizes = {
        shard.file: path.stat().st_size if is_file(path := folder / shard.file) else None
        for shard in manifest.shards
    }
    missing = [name for name, size in sizes.items() if size is None]
    complain(missing, "shards are missing", str(folder))
    wrong = [s.file for s in manifest.shards if sizes[s.file] != s.bytes]
    complain(wrong, "shards are not of the size that the manifest says", str(folder))


class _Objects:
    """What `tfseg.data.sample.ObjectReader` has beside its samples."""

    def __init__(self, reader: TfrecordReader, facts: Objects, manifest: Path) -> None:
        self._reader, self._facts, self._folder = reader, facts, manifest.parent
        self.category_ids = facts.category_ids
        self.keypoint_names = facts.keypoint_names
        self.skeleton = facts.skeleton
        self.flip_pairs = facts.flip_pairs
        self.semantic_classes = facts.semantic_classes
        self.semantic = None if facts.panoptic is None else PreparedSegments(reader, facts)

    def image_id(self, index: int) -> int:
        return self._facts.image_ids[index]

    def known_images(self) -> set[int]:
        return {*self._facts.image_ids, *self._facts.other_images}

    def void_mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        return self._reader.record(index).void_mask(size)

    def truth(self) -> dict[str, Any]:
        if not self._facts.truth.is_in(self._folder):
            path = self._folder / self._facts.truth.file
            raise DataError(f"{path} is missing or damaged; prepare the set again")
        tree: dict[str, Any] = json.loads((self._folder / self._facts.truth.file).read_bytes())
        return tree


class PreparedSegments:
    """Panoptic segments of prepared samples; see `tfseg.data.readers.coco_panoptic`.

    Attributes:
        categories: all categories, things and stuff, by increasing id.
        classes: the semantic classes' names.
        things: category id and name of things, by increasing id.
        stuff: category id and name of the semantic classes from 1 on.
    """

    def __init__(self, reader: TfrecordReader, facts: Objects) -> None:
        assert facts.panoptic is not None
        self._reader = reader
        self._places = {number: place for place, number in enumerate(facts.image_ids)}
        self.categories = facts.panoptic
        self.classes = facts.semantic_classes
        self.things = {c.id: c.name for c in facts.panoptic if c.isthing}
        self.stuff = {c.id: c.name for c in facts.panoptic if not c.isthing}

    def segments(
        self, image: int, size: tuple[int, int]
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """See `PanopticMasks.segments`."""
        return self._reader.record(self._places[image]).segments(size)
