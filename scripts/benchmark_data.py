"""Measures how many images a second an experiment's input pipeline gives, with no training."""

import time
from pathlib import Path

import click


@click.command(help=__doc__)
@click.argument("config_file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--set", "assignments", multiple=True, metavar="KEY=VALUE")
@click.option("--seconds", default=20.0, show_default=True, help="How long to measure.")
@click.option("--run-dir", type=click.Path(path_type=Path), default="runs/benchmark_data")
def main(config_file: Path, assignments: tuple[str, ...], seconds: float, run_dir: Path) -> None:
    from tfseg import config, experiment

    settings = config.load(config_file, list(assignments))
    reader = experiment.open_split(settings, "train")
    start = settings.model.model_copy(update={"weights": None, "backbone_weights": None})
    model = experiment.build_model(settings.model_copy(update={"model": start}))
    preprocessing = model.spec.preprocessing
    batches = iter(experiment.make_dataset(settings, reader, preprocessing, run_dir))
    size = settings.train.batch_size
    for _ in range(-(-len(reader) // size)):  # an epoch: caches are full, threads are tuned
        next(batches)
    begin, count = time.perf_counter(), 0
    while (elapsed := time.perf_counter() - begin) < seconds:
        next(batches)
        count += size
    click.echo(f"{count / elapsed:.1f} images/s over {count} images")


if __name__ == "__main__":
    main()
