"""The commands for data sets larger than memory."""

import os
from pathlib import Path

import click

from tfseg.cli_parts import FILE, FOLDER, SET, says_what_is_wrong


@click.command()
@click.argument("config_file", type=FILE)
@click.option("--split", type=click.Choice(["train", "validation"]), default="train")
@click.option("--to", type=FOLDER, required=True, help="Where the shards go.")
@click.option("--shards", type=int, help="Default: one for 256 images.")
@click.option("--processes", type=int, help="Default: one for each processor.")
@SET
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
@click.option("--beam", is_flag=True, help="By Apache Beam, with its own flags after --.")
@click.argument("beam_flags", nargs=-1, type=click.UNPROCESSED)
@says_what_is_wrong
def prepare(
    config_file: Path,
    split: str,
    to: Path,
    shards: int | None,
    processes: int | None,
    assignments: tuple[str, ...],
    progress: bool,
    beam: bool,
    beam_flags: tuple[str, ...],
) -> None:
    """Write the split of the experiment CONFIG_FILE as TFRecords in shards.

    Reader `tfrecord` reads them; its option path is the manifest, TO/SPLIT.json. The same command
    again writes what is missing or damaged.

    With --beam the shards are written by the workers of Apache Beam's runner, for example with
    --beam -- --runner=FlinkRunner --flink_master=HOST:PORT.
    """
    if beam_flags and not beam:
        raise click.UsageError(f"{' '.join(beam_flags)}: flags of Apache Beam need --beam")
    if beam and processes is not None:
        raise click.UsageError("--processes is for this host; Apache Beam has flags of its own")
    from tqdm import tqdm

    from tfseg import config
    from tfseg.data.records.prepare import make_job, prepare

    sources = [
        (getattr(stage.data, split), stage.data.ignore_label)
        for stage in config.load_stages(config_file, list(assignments))
    ]
    section, ignore_label = sources[0]
    if section is None:
        raise config.ConfigError(f"{config_file} has no data.{split}")
    if any(source != sources[0] for source in sources):
        raise config.ConfigError(
            f"{config_file} has stages of several data.{split}: choose one, as with --set "
            f"data.{split}.options.KEY=VALUE"
        )
    job, reader = make_job(section.reader, section.options, ignore_label, to, split, shards)
    if beam:
        from tfseg.beam.prepare import prepare as prepare_by_beam

        outcome = prepare_by_beam(job, reader, beam_flags)
    else:
        with tqdm(total=job.shards, unit="shard", disable=not progress) as bar:
            workers = processes or _processors()
            outcome = prepare(job, reader, processes=workers, on_shard=bar.update)
    there = outcome.shards - outcome.written
    click.echo(
        f"{job.count} samples in {outcome.shards} shards"
        + (f", {there} of which were there" if there else "")
        + f": {outcome.manifest}"
    )


@click.command()
@click.argument("model", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("images")
@click.option("--to", required=True, help="The folder of the results.")
@click.option("--shards", type=int, help="Default: one for 256 images.")
@click.option(
    "--batch-size", default=1, show_default=True, help="Images of one size predicted together."
)
@click.option(
    "--score-threshold", default=0.5, show_default=True, help="Only objects above it are kept."
)
@click.argument("beam_flags", nargs=-1, type=click.UNPROCESSED)
@says_what_is_wrong
def predict_many(
    model: Path,
    images: str,
    to: str,
    shards: int | None,
    batch_size: int,
    score_threshold: float,
    beam_flags: tuple[str, ...],
) -> None:
    """Predict IMAGES, any number of them, with the SavedModel of the folder MODEL.

    IMAGES is a pattern in quotation marks, as 'photos/*.jpg' or 'gs://bucket/*.jpg', or a .txt
    file with a path a line. Apache Beam does the work, with its own flags after --. Results go
    into shards, TO/results-*.jsonl, and images that cannot be read into TO/errors.jsonl. The same
    command again predicts what is missing.
    """
    if beam_flags and not beam_flags[0].startswith("-"):
        raise click.UsageError(
            f"{beam_flags[0]} is one argument too many; a pattern of images needs quotation marks"
        )
    from tfseg.beam.predict import predict
    from tfseg.exported import version_folder

    outcome = predict(
        version_folder(model),
        images,
        to,
        shards=shards,
        batch_size=batch_size,
        score_threshold=score_threshold,
        flags=beam_flags,
    )
    there = outcome.shards - outcome.written
    click.echo(
        f"{outcome.images} images in {outcome.shards} shards"
        + (f", {there} of which were there" if there else "")
        + f", {outcome.errors} could not be predicted: {to}"
    )


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
