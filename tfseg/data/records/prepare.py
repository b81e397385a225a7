"""A reader's samples into shards: by several processes, and again after an interruption.

Every shard has its own part of the samples, in the reader's order. Beside a finished one lies a
note, NAME.json, of its size and checksum, until the manifest of all takes the notes' place: what is
there and whole is not written again.
"""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from tfseg.data.readers.base import open_reader
from tfseg.data.records.example import encode
from tfseg.data.records.framing import frame
from tfseg.data.records.manifest import (
    VERSION,
    File,
    Manifest,
    Objects,
    Shard,
    Source,
    read_manifest,
    write_file,
)
from tfseg.data.records.samples import sample_features, segment_features, void_features
from tfseg.data.sample import DataError, Reader

#: samples of a shard, where the number of shards is not given
SHARD_SAMPLES = 256


@dataclass(frozen=True)
class Job:
    """A split to be prepared.

    Attributes:
        source: the reader.
        folder: where shards and manifest go.
        split: what they are called.
        count: of the samples.
        shards: of how many shards.
    """

    source: Source
    folder: Path
    split: str
    count: int
    shards: int

    @property
    def manifest(self) -> Path:
        """The path of the manifest."""
        return self.folder / f"{self.split}.json"

    @cached_property
    def plan(self) -> str:
        """What tells this job's shards from others of the same names."""
        facts = {"source": self.source.model_dump(), "count": self.count, "shards": self.shards}
        return hashlib.sha256(
            json.dumps({"version": VERSION, **facts}, sort_keys=True).encode()
        ).hexdigest()

    @cached_property
    def known(self) -> dict[str, Shard]:
        """The shards that the manifest lists, if it is there, by their files.

        Raises:
            DataError: a manifest of another job.
        """
        if not self.manifest.exists():
            return {}
        manifest = read_manifest(self.manifest)
        if manifest.plan != self.plan:
            raise DataError(
                f"{self.manifest} was prepared from another source or for another number of "
                "shards; give another folder"
            )
        return {shard.file: shard for shard in manifest.shards}

    def shard(self, number: int) -> Path:
        """The path of a shard."""
        return self.folder / f"{self.split}-{number:05d}-of-{self.shards:05d}.tfrecord"

    def note(self, number: int) -> Path:
        """The path of the note beside a finished shard."""
        return self.shard(number).with_suffix(".json")

    def samples(self, number: int) -> range:
        """The places of a shard's samples."""
        start, stop = (self.count * n // self.shards for n in (number, number + 1))
        return range(start, stop)

    def open(self) -> Reader:
        """Opens the reader."""
        return open_reader(self.source.reader, self.source.ignore_label, **self.source.options)


class Outcome(NamedTuple):
    """The manifest's path, and how many shards were written; the others were there."""

    manifest: Path
    written: int
    shards: int


def make_job(
    reader: str,
    options: Mapping[str, Any],
    ignore_label: int,
    folder: Path,
    split: str,
    shards: int | None = None,
) -> tuple[Job, Reader]:
    """A job, and the reader opened.

    Args:
        reader: its name; see `open_reader`.
        options: its own, as JSON has them.
        ignore_label: the label of pixels that are not scored.
        folder: where shards and manifest go; made if missing.
        split: what they are called.
        shards: how many; None: of about `SHARD_SAMPLES` samples each.

    Raises:
        ValueError: no shards or more than samples, or a reader of prepared samples.
        DataError: what the reader finds wrong on opening, or a folder that has another job's.
    """
    if reader == "tfrecord":
        raise ValueError("the samples are prepared already: the reader is 'tfrecord'")
    source = Source(reader=reader, options=dict(options), ignore_label=ignore_label)
    opened = open_reader(reader, ignore_label, **options)
    count = len(opened)
    shards = -(-count // SHARD_SAMPLES) if shards is None else shards
    if not 1 <= shards <= count:
        raise ValueError(f"there are {count} samples for {shards} shards; every shard needs one")
    folder.mkdir(parents=True, exist_ok=True)
    job = Job(source, folder, split, count, shards)
    job.known  # noqa: B018 (raises)
    return job, opened


def write_shard(job: Job, reader: Reader, number: int) -> tuple[Shard, bool]:
    """Writes a shard, if it is not there.

    Args:
        job: whose.
        reader: the job's, opened.
        number: of the shard.

    Returns:
        What it is, and whether it was written.

    Raises:
        DataError: a sample that cannot be read, or a disk that takes no file.
    """
    there = finished(job, number)
    if there is not None:
        return there, False
    digest, size = hashlib.sha256(), 0

    def write(file: BinaryIO) -> None:
        nonlocal size
        for index in job.samples(number):
            record = frame(encode(_features(reader, index)))
            size += file.write(record)
            digest.update(record)

    path = job.shard(number)
    write_file(path, write)
    shard = Shard(
        file=path.name, bytes=size, sha256=digest.hexdigest(), records=len(job.samples(number))
    )
    note = json.dumps({"plan": job.plan, "shard": shard.model_dump()}).encode()
    write_file(job.note(number), lambda file: file.write(note))
    return shard, True


def finished(job: Job, number: int) -> Shard | None:
    """A shard that is there with its checksum, or None."""
    for shard in (_noted(job, number), job.known.get(job.shard(number).name)):
        if shard is not None and shard.is_in(job.folder):
            return shard
    return None


def _noted(job: Job, number: int) -> Shard | None:
    """What the note beside a shard says; None without a note, or with another job's."""
    try:
        note = json.loads(job.note(number).read_bytes())
        return Shard.model_validate(note["shard"]) if note["plan"] == job.plan else None
    except (FileNotFoundError, ValueError, KeyError, TypeError):
        return None  # not written yet, or not to its end


def _features(reader: Any, index: int) -> dict[str, bytes | np.ndarray]:
    sample = reader[index]
    features = sample_features(sample, reader.image_file(index))
    if hasattr(reader, "truth"):
        height, width = sample["image"].shape[:2]
        features |= void_features(reader.void_mask(index, (height, width)))
        if getattr(reader, "semantic", None) is not None:
            number = reader.image_id(index)
            features |= segment_features(*reader.semantic.segments(number, (height, width)))
    return features


def write_manifest(job: Job, reader: Any, shards: Iterable[Shard]) -> None:
    """Writes the manifest, when all shards are there, and removes the notes.

    Args:
        job: whose.
        reader: the job's, opened.
        shards: in order.
    """
    colors = None if reader.colors is None else np.asarray(reader.colors).tolist()
    manifest = Manifest(
        version=VERSION,
        plan=job.plan,
        source=job.source,
        keys=reader.keys(),
        classes=reader.classes,
        colors=colors,
        objects=_objects(job, reader) if hasattr(reader, "truth") else None,
        shards=tuple(shards),
    )
    text = manifest.model_dump_json(indent=1).encode() + b"\n"
    write_file(job.manifest, lambda file: file.write(text))
    for number in range(job.shards):
        job.note(number).unlink(missing_ok=True)
    for left in job.folder.glob(f".{job.split}[-.]*.partial"):  # of killed processes
        left.unlink(missing_ok=True)


def _objects(job: Job, reader: Any) -> Objects:
    text = json.dumps(reader.truth()).encode()
    path = job.folder / f"{job.split}-truth.json"
    write_file(path, lambda file: file.write(text))
    truth = File(file=path.name, bytes=len(text), sha256=hashlib.sha256(text).hexdigest())
    ids = [reader.image_id(index) for index in range(len(reader))]
    semantic = getattr(reader, "semantic", None)
    return Objects(
        **{
            name: getattr(reader, name)
            for name in (
                "category_ids",
                "keypoint_names",
                "skeleton",
                "flip_pairs",
                "semantic_classes",
            )
        },
        image_ids=tuple(ids),
        other_images=tuple(sorted(set(reader.known_images()) - set(ids))),
        truth=truth,
        panoptic=None if semantic is None else tuple(semantic.categories),
    )


def prepare(
    job: Job,
    reader: Reader,
    *,
    processes: int,
    on_shard: Callable[[], object] = lambda: None,
) -> Outcome:
    """Writes the shards that are missing or damaged, and the manifest.

    Args:
        job: what.
        reader: the job's, opened.
        processes: how many write; each opens the reader for itself. Several import the program
            anew: one that calls this does so below ``if __name__ == "__main__":``.
        on_shard: is called after each shard.

    Raises:
        ValueError: fewer than one process.
        DataError: a sample that cannot be read, a disk that takes no file, a process that was
            killed. Shards that are finished stay.
    """
    if processes < 1:
        raise ValueError(f"processes must be at least 1, not {processes}")
    done: dict[int, Shard] = {}
    written = 0
    for number, (shard, is_new) in _written(job, reader, min(processes, job.shards)):
        done[number] = shard
        written += is_new
        on_shard()
    if written or not job.manifest.exists():
        write_manifest(job, reader, [done[number] for number in range(job.shards)])
    return Outcome(job.manifest, written, job.shards)


def _written(job: Job, reader: Reader, processes: int) -> Iterator[tuple[int, tuple[Shard, bool]]]:
    if processes == 1:
        for number in range(job.shards):
            yield number, write_shard(job, reader, number)
        return
    # Forked processes would inherit locks that threads of TensorFlow may hold.
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, context, initializer=_start, initargs=(job,))
    try:
        futures = {pool.submit(_write, number): number for number in range(job.shards)}
        for future in as_completed(futures):
            yield futures[future], future.result()
    except BrokenProcessPool as e:
        raise DataError(
            "a process was killed, or its memory ran out; run the same command again, maybe with "
            "fewer --processes: finished shards stay"
        ) from e
    finally:
        pool.shutdown(cancel_futures=True)


class _Process:
    """What a process keeps from shard to shard."""

    job: Job
    reader: Reader | None = None


def _start(job: Job) -> None:
    _Process.job = job


def _write(number: int) -> tuple[Shard, bool]:
    there = finished(_Process.job, number)
    if there is not None:
        return there, False
    # Not before: it can take long, and there may be nothing to write.
    if _Process.reader is None:
        _Process.reader = _Process.job.open()
    return write_shard(_Process.job, _Process.reader, number)
