"""`tfseg prepare` on a cluster."""

from collections.abc import Iterator, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.utils.shared import Shared

from tfseg.beam.pipeline import run
from tfseg.data.records.prepare import Job, Outcome, finished, write_manifest, write_shard
from tfseg.data.sample import DataError, Reader


class _Opened:
    """A reader, opened once in a process."""

    def __init__(self, job: Job) -> None:
        self.reader = job.open()


class _WriteShard(beam.DoFn):
    def __init__(self, job: Job) -> None:
        self._job, self._shared = job, Shared()

    def setup(self) -> None:
        self._opened = self._shared.acquire(lambda: _Opened(self._job))

    def process(self, number: int) -> Iterator[int]:
        write_shard(self._job, self._opened.reader, number)
        yield number


def prepare(job: Job, reader: Reader, flags: Sequence[str]) -> Outcome:
    """As `tfseg.data.records.prepare.prepare`, with Beam's workers for processes.

    The source and the job's folder are at the same paths on all of them.

    Args:
        job: what.
        reader: the job's, opened.
        flags: see `run`.

    Raises:
        DataError: shards that are missing after the run: workers write to another folder.
    """
    missing = [number for number in range(job.shards) if finished(job, number) is None]
    if missing:
        run(missing, _WriteShard(job), flags)
    shards: list[Any] = [finished(job, number) for number in range(job.shards)]
    if None in shards:
        raise DataError(
            f"the workers left no {job.shard(shards.index(None))}: the folder must be at the same "
            "path on all of them and here"
        )
    if missing or not job.manifest.exists():
        write_manifest(job, reader, shards)
    return Outcome(job.manifest, len(missing), job.shards)
