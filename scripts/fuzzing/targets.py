"""What is fuzzed: valid inputs, where each belongs, and the reading of it."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from fuzzing import checkpoint_seeds, data_seeds
from tfseg import config
from tfseg.data import DataError, open_reader
from tfseg.data.io import decode_image, read_mask, read_stack
from tfseg.data.proposals import read_proposals
from tfseg.data.records.example import decode
from tfseg.data.records.framing import RecordFile
from tfseg.data.records.prepare import make_job, prepare
from tfseg.data.records.samples import Record
from tfseg.weights import hdf5_child
from tfseg.weights.common import WeightsError
from tfseg.weights.files import read_weights

#: Pixels of an image that are decoded here: a stated limit, to see that it holds.
_PIXELS = 2**24


@dataclass(frozen=True)
class Target:
    """Something that reads a file.

    Attributes:
        name: of the target.
        seeds: valid inputs.
        places: where the input is written.
        run: reads it.
        allowed: what it may raise: the documented errors.
    """

    name: str
    seeds: Sequence[bytes]
    places: Sequence[Path]
    run: Callable[[], Any]
    allowed: tuple[type[Exception], ...]


def _image(folder: Path) -> Target:
    place = folder / "image"

    def run() -> None:
        readings: list[Callable[[], Any]] = [
            lambda: decode_image(place.read_bytes(), "image", _PIXELS),
            lambda: read_mask(place, max_pixels=_PIXELS),
            lambda: read_mask(place, {(0, 0, 0): 0, (255, 255, 255): 1}, _PIXELS),
            lambda: read_stack(place, _PIXELS),
        ]
        for read in readings:
            try:
                read()
            except DataError:
                continue

    return Target("image", data_seeds.images(), [place], run, (DataError,))


def _drained(name: str, **options: Any) -> None:
    """Opens a reader and reads all that it has."""
    reader: Any = open_reader(name, **options)
    for index in range(len(reader)):
        sample = reader[index]
        if hasattr(reader, "void_mask"):
            reader.void_mask(index, sample["image"].shape[:2])
    if hasattr(reader, "truth"):
        reader.truth()


def _reader(name: str, seeds: Sequence[bytes], place: Path, reader: str, **options: Any) -> Target:
    return Target(name, seeds, [place], lambda: _drained(reader, **options), (DataError,))


def _coco(folder: Path) -> Target:
    data_seeds.photographs(folder / "images")
    place = folder / "coco.json"
    options = {"images": folder / "images", "annotations": place}
    return _reader("coco", data_seeds.coco(), place, "coco", **options, keypoints=True)


def _coco_masks(folder: Path, which: str) -> Target:
    """COCO's objects with panoptic masks, of which the JSON or a PNG is damaged."""
    data_seeds.photographs(folder / "images")
    (folder / "coco.json").write_bytes(data_seeds.coco()[0])
    (folder / "masks").mkdir(exist_ok=True)
    png, panoptic = folder / "masks" / "a.png", folder / "panoptic.json"
    for name in ("a.png", "b.png"):
        (folder / "masks" / name).write_bytes(data_seeds.panoptic_png())
    panoptic.write_bytes(data_seeds.panoptic())
    place, seeds = {
        "coco_panoptic": (panoptic, data_seeds.panoptic()),
        "panoptic_png": (png, data_seeds.panoptic_png()),
    }[which]
    return _reader(
        which,
        [seeds],
        place,
        "coco",
        images=folder / "images",
        annotations=folder / "coco.json",
        panoptic_masks=folder / "masks",
        panoptic_annotations=panoptic,
    )


def _cocostuff(folder: Path) -> Target:
    data_seeds.photographs(folder / "images")
    place = folder / "stuff.json"
    options = {"root": folder, "images": Path("images"), "labels": Path("stuff.json")}
    seeds = [data_seeds.challenge()]
    return _reader("cocostuff", seeds, place, "cocostuff", **options, format="challenge2017")


def _proposals(folder: Path) -> Target:
    place = folder / "results.json"
    seeds = [data_seeds.results()]
    return Target(
        "proposals", seeds, [place], lambda: read_proposals(place, {1, 2}, 5), (DataError,)
    )


def _sbd(folder: Path) -> Target:
    data_seeds.sbd(folder)
    place = folder / "cls" / "a.mat"
    return _reader("sbd", [place.read_bytes()], place, "sbd", root=folder, split="train")


def _voc_list(folder: Path) -> Target:
    data_seeds.voc(folder)
    place = folder / "ImageSets" / "Segmentation" / "train.txt"
    return _reader("voc_list", [place.read_bytes()], place, "voc", root=folder)


def _voc_proposals(folder: Path) -> Target:
    data_seeds.voc(folder)
    place = folder / "proposals.npz"
    options = {"root": folder, "proposals": place}
    return _reader("voc_proposals", [place.read_bytes()], place, "voc_proposals", **options)


def _masks(folder: Path) -> Target:
    """One mask in the sets of all readers that pair images and masks."""
    sets = data_seeds.mask_sets(folder)

    def run() -> None:
        # Its cache is of files that stay the same.
        from tfseg.data.readers.voc_objects import objects_of

        objects_of.cache_clear()
        for _, reader, options in sets:
            try:
                _drained(reader, **options)
            except DataError:
                continue

    places = [mask for mask, _, _ in sets]
    return Target("masks", data_seeds.masks(), places, run, (DataError,))


def _checkpoint(name: str, suffix: str, seeds: Callable[[], list[bytes]]) -> Any:
    def make(folder: Path) -> Target:
        place = folder / f"net{suffix}"

        def run() -> None:
            for array in read_weights(place)[0].values():
                array.sum()

        return Target(name, seeds(), [place], run, (WeightsError,))

    return make


def _h5(folder: Path) -> Target:
    """What the process does that reads .h5 files; any error ends it as it should."""
    place = folder / "net.h5"

    def run() -> None:
        hdf5_child.dump(place, 2**28, io.BytesIO())

    return Target("h5", checkpoint_seeds.h5(), [place], run, (Exception,))


def _prepared(folder: Path) -> tuple[Path, Path]:
    """A prepared set of objects and segments: its manifest and its shard."""
    reader = _coco_masks(folder, "coco_panoptic")
    for place in reader.places:
        place.write_bytes(reader.seeds[0])
    options = {
        "images": str(folder / "images"),
        "annotations": str(folder / "coco.json"),
        "panoptic_masks": str(folder / "masks"),
        "panoptic_annotations": str(folder / "panoptic.json"),
    }
    job, opened = make_job("coco", options, 255, folder / "prepared", "train", 1)
    prepare(job, opened, processes=1)
    return job.manifest, job.shard(0)


def _manifest(folder: Path) -> Target:
    place, _ = _prepared(folder)
    errors = (DataError, ValueError)  # of ignore labels
    run = partial(_drained, "tfrecord", path=place)
    return Target("manifest", [place.read_bytes()], [place], run, errors)


def _record(folder: Path) -> Target:
    """A record's content, which its checksums would keep from being read."""
    _, shard = _prepared(folder)
    place = folder / "record"
    keys = ("boxes", "labels", "crowd", "area", "ids", "edges", "mask")

    def run() -> None:
        record = Record(decode(place.read_bytes()), "record")
        size = record.sample(keys)["image"].shape[:2]
        record.void_mask(size)
        record.segments(size)

    seeds = [RecordFile(shard, 2)[number] for number in (0, 1)]
    return Target("record", seeds, [place], run, (DataError, ValueError))


def _config(folder: Path) -> Target:
    place = folder / "experiment.yaml"
    seeds = data_seeds.experiments()
    return Target(
        "config", seeds, [place], lambda: config.load_stages(place), (config.ConfigError,)
    )


TARGETS: dict[str, Callable[[Path], Target]] = {
    "image": _image,
    "coco": _coco,
    "coco_panoptic": lambda folder: _coco_masks(folder, "coco_panoptic"),
    "panoptic_png": lambda folder: _coco_masks(folder, "panoptic_png"),
    "cocostuff": _cocostuff,
    "proposals": _proposals,
    "sbd": _sbd,
    "voc_list": _voc_list,
    "voc_proposals": _voc_proposals,
    "masks": _masks,
    "manifest": _manifest,
    "record": _record,
    "caffemodel": _checkpoint("caffemodel", ".caffemodel", checkpoint_seeds.caffemodel),
    "pth_zip": _checkpoint("pth_zip", ".pth", checkpoint_seeds.pth_zip),
    "pth_legacy": _checkpoint("pth_legacy", ".pth", checkpoint_seeds.pth_legacy),
    "pkl": _checkpoint("pkl", ".pkl", checkpoint_seeds.pkl),
    "safetensors": _checkpoint("safetensors", ".safetensors", checkpoint_seeds.safetensors),
    "npz": _checkpoint("npz", ".npz", checkpoint_seeds.npz),
    "keras": _checkpoint("keras", ".keras", checkpoint_seeds.keras),
    "h5": _h5,
    "config": _config,
}
