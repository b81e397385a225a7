"""What both pipelines share: numbered shards, each the work of one call."""

from collections.abc import Iterable, Sequence
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions


def run(numbers: Iterable[int], work: beam.DoFn, flags: Sequence[str]) -> None:
    """Runs a pipeline to its end.

    Args:
        numbers: of the shards.
        work: writes the shard of a number.
        flags: Beam's own, as in ["--runner=FlinkRunner", ...]. Without a runner it is Beam's
            in this process: what DirectRunner is where it downloads no program.
    """
    options: Any = PipelineOptions(list(flags))
    standard = options.view_as(StandardOptions)
    if standard.runner is None:
        standard.runner = "FnApiRunner"
    with beam.Pipeline(options=options) as pipeline:
        # Without the reshuffle a runner may give all numbers to one worker.
        elements = pipeline | "shards" >> beam.Create(list(numbers)) | beam.Reshuffle()
        elements | "work" >> beam.ParDo(work)
