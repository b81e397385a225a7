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
@says_what_is_wrong
def prepare(
    config_file: Path,
    split: str,
    to: Path,
    shards: int | None,
    processes: int | None,
    assignments: tuple[str, ...],
    progress: bool,
) -> None:
    """Write the split of the experiment CONFIG_FILE as TFRecords in shards.

    Reader `tfrecord` reads them; its option path is the manifest, TO/SPLIT.json. The same command
    again writes what is missing or damaged.
    """
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
    with tqdm(total=job.shards, unit="shard", disable=not progress) as bar:
        outcome = prepare(job, reader, processes=processes or _processors(), on_shard=bar.update)
    there = outcome.shards - outcome.written
    click.echo(
        f"{job.count} samples in {outcome.shards} shards"
        + (f", {there} of which were there" if there else "")
        + f": {outcome.manifest}"
    )


def _processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
