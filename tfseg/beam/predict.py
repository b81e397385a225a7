"""Predictions of any number of images, by an exported model.

The list of files is cut into shards. Of each, TO/results-00000-of-01000.jsonl has a line an image,
{"file", "size", and the answer (see `tfseg.exported.ExportedModel`)}, in the list's order; images
that cannot be read are in TO/errors-00000-of-01000.jsonl, and at the end all in TO/errors.jsonl,
{"file", "error"}. TO/files.txt is the list, TO/job.json tells the run from others.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import apache_beam as beam
import numpy as np
from apache_beam.io.filesystems import FileSystems
from apache_beam.utils.shared import Shared

from tfseg.beam import files
from tfseg.beam.pipeline import run
from tfseg.data.io import decode_image
from tfseg.data.sample import DataError

#: images of a shard, where the number of shards is not given
SHARD_IMAGES = 256
#: images that are in memory at once, in batches
_WINDOW = 4


@dataclass(frozen=True)
class Job:
    """A list of images to be predicted.

    Attributes:
        model: the export's version folder, at the same path on all workers.
        to: the folder of results.
        count: of the images.
        shards: how many.
        batch_size: images of one size that are predicted together.
        score_threshold: only objects of a higher score are kept.
    """

    model: str
    to: str
    count: int
    shards: int
    batch_size: int
    score_threshold: float

    @property
    def listing(self) -> str:
        """The path of the list."""
        return FileSystems.join(self.to, "files.txt")

    def path(self, kind: str, number: int) -> str:
        """The path of a shard's "results" or "errors"."""
        name = f"{kind}-{number:05d}-of-{self.shards:05d}.jsonl"
        return FileSystems.join(self.to, name)

    def images(self, number: int) -> slice:
        """The places of a shard's images in the list."""
        start, stop = (self.count * n // self.shards for n in (number, number + 1))
        return slice(start, stop)

    def missing(self) -> list[int]:
        """The shards that are not there."""
        pattern = FileSystems.join(self.to, f"results-*-of-{self.shards:05d}.jsonl")
        there = {PurePosixPath(path).name for path in files.names(pattern)}
        numbers = range(self.shards)
        return [n for n in numbers if PurePosixPath(self.path("results", n)).name not in there]


class Outcome(NamedTuple):
    """How many images there are, how many could not be read, and how many shards were made."""

    images: int
    errors: int
    written: int
    shards: int


def predict(
    model: Path,
    images: str,
    to: str,
    *,
    shards: int | None = None,
    batch_size: int = 1,
    score_threshold: float = 0.5,
    flags: Sequence[str] = (),
) -> Outcome:
    """Predicts the images whose shards are not there.

    Args:
        model: an export's version folder, at the same path on all workers.
        images: a pattern of files, as "gs://bucket/*.jpg", or a .txt file with a path a line.
        to: the folder of results.
        shards: how many; None: of `SHARD_IMAGES` images each.
        batch_size: images of one size that are predicted together.
        score_threshold: only objects of a higher score are kept.
        flags: see `run`.

    Raises:
        ValueError: no images, no shards or more than images, or a folder with the results of
            another model, list or threshold.
    """
    paths = _listed(images)
    count = len(paths)
    shards = -(-count // SHARD_IMAGES) if shards is None else shards
    if not 1 <= shards <= count or batch_size < 1:
        raise ValueError(f"there are {count} images for {shards} shards; every shard needs one")
    job = Job(str(model.absolute()), to, count, shards, batch_size, score_threshold)
    _begin(job, paths)
    missing = job.missing()
    if missing:
        run(missing, _PredictShard(job), flags)
    left = files.names(FileSystems.join(to, "*.partial"))
    if left:  # of killed workers
        FileSystems.delete(left)
    errors = b"".join(
        files.read(path)
        for path in files.names(FileSystems.join(to, f"errors-*-of-{shards:05d}.jsonl"))
    )
    files.write(FileSystems.join(to, "errors.jsonl"), errors)
    return Outcome(count, errors.count(b"\n"), len(missing), shards)


def _listed(images: str) -> list[str]:
    if images.endswith(".txt"):
        text = files.read(images).decode()
        paths = [line for line in map(str.strip, text.splitlines()) if line]
    else:
        paths = files.names(images)
    if not paths or Path(images).is_dir():
        raise ValueError(f"{images} is no image; give a pattern, as 'FOLDER/*.jpg', or a .txt file")
    return paths


def _begin(job: Job, paths: Sequence[str]) -> None:
    """Writes list and job.json, or checks that they are this job's."""
    content = "".join(f"{path}\n" for path in paths).encode()
    facts = {
        "model": _fingerprint(Path(job.model)),
        "files": hashlib.sha256(content).hexdigest(),
        **{k: v for k, v in asdict(job).items() if k in ("count", "shards", "score_threshold")},
    }
    path = FileSystems.join(job.to, "job.json")
    if not FileSystems.exists(job.to):
        FileSystems.mkdirs(job.to)
    if FileSystems.exists(path):
        known = json.loads(files.read(path))
        others = sorted(key for key in facts if known.get(key) != facts[key])
        if others:
            raise ValueError(
                f"{job.to} has the results of another run: {', '.join(others)} differ; give "
                "another folder"
            )
        return
    files.write(job.listing, content)
    files.write(path, json.dumps(facts, indent=2).encode() + b"\n")


def _fingerprint(model: Path) -> str:
    """A checksum of the graph and the weights."""
    digest = hashlib.sha256()
    for path in [model / "saved_model.pb", *sorted((model / "variables").glob("*"))]:
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()


class _Worker:
    """The model and the list, once in a process."""

    def __init__(self, job: Job) -> None:
        from tfseg.exported import ExportedModel  # imports TensorFlow

        self.model = ExportedModel(Path(job.model), job.score_threshold)
        self.paths = files.read(job.listing).decode().splitlines()


class _PredictShard(beam.DoFn):
    def __init__(self, job: Job) -> None:
        self._job, self._shared = job, Shared()

    def setup(self) -> None:
        self._worker = self._shared.acquire(lambda: _Worker(self._job))

    def process(self, number: int) -> Iterator[int]:
        job = self._job
        found: dict[str, dict[str, Any]] = {}
        paths = self._worker.paths[job.images(number)]
        window = _WINDOW * job.batch_size
        with ThreadPoolExecutor() as pool:
            for start in range(0, len(paths), window):
                some = paths[start : start + window]
                read = dict(zip(some, pool.map(_read, some), strict=True))
                found |= answers(self._worker.model, read, job.batch_size)
        ordered = [{"file": path, **found[path]} for path in paths]
        bad = [entry for entry in ordered if "error" in entry]
        files.delete(job.path("errors", number))
        if bad:
            files.write(job.path("errors", number), files.lines(bad))
        # Last: where it is, the shard is done.
        good = [entry for entry in ordered if "error" not in entry]
        files.write(job.path("results", number), files.lines(good))
        yield number


def _read(path: str) -> np.ndarray | str:
    """An image, or what is wrong with it."""
    try:
        return decode_image(files.read(path), path)
    except (DataError, FileNotFoundError, IsADirectoryError) as error:
        return str(error)


def answers(
    model: Any, images: dict[str, np.ndarray | str], batch_size: int
) -> dict[str, dict[str, Any]]:
    """The model's answers by path, or "error", what is wrong with an image."""
    import tensorflow as tf

    found: dict[str, dict[str, Any]] = {}
    by_size: dict[tuple[int, ...], list[str]] = {}
    for path, image in images.items():
        if isinstance(image, str):
            found[path] = {"error": image}
        else:
            by_size.setdefault(image.shape, []).append(path)
    for shape, paths in by_size.items():
        size = list(shape[:2])
        for start in range(0, len(paths), batch_size):
            some = paths[start : start + batch_size]
            stems = [PurePosixPath(path).stem for path in some]
            try:
                answered = model([images[path] for path in some], stems)
            # Sizes that the network does not take, or that are too large for the memory.
            except (tf.errors.InvalidArgumentError, tf.errors.ResourceExhaustedError) as error:
                why = f"the model fails on images of {size[1]} x {size[0]} pixels: {error.message}"
                found |= {path: {"error": why[:1000]} for path in some}
            else:
                entries = zip(some, answered, strict=True)
                found |= {path: {"size": size, **answer} for path, answer in entries}
    return found
