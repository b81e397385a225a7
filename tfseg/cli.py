"""The command line: prepare, train, evaluate, predict, export, demo, convert, models."""

import json
import os
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

import click

from tfseg import scale_commands, serve_command
from tfseg.cli_parts import FILE, FOLDER, SET, says_what_is_wrong
from tfseg.version import __version__

# TensorFlow's start-up notes are no news to a user; errors still are. Set before its import.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

# TensorFlow takes seconds to import: each command imports what it needs when it runs, so that
# --help and a mistyped option answer at once.

_WEIGHTS = click.option(
    "--weights",
    default="best",
    show_default=True,
    help="Of the run: best, last, or a weights file of the same network.",
)


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tfseg")
def main() -> None:
    """Segmentation networks for TensorFlow and Keras, faithful to their papers."""


@main.command()
@click.argument("config_file", type=FILE)
@SET
@click.option("--run-dir", type=FOLDER, help="Default: runs/NAME, with the config's name.")
@click.option("--resume", is_flag=True, help="Continue from the run folder's last checkpoint.")
@click.option("--workers", metavar="HOST:PORT,...", help="All processes of a training on hosts.")
@click.option("--worker", type=int, metavar="INDEX", help="Which of --workers this one is.")
@says_what_is_wrong
def train(
    config_file: Path,
    assignments: tuple[str, ...],
    run_dir: Path | None,
    resume: bool,
    workers: str | None,
    worker: int | None,
) -> None:
    """Train the experiment of CONFIG_FILE.

    On several hosts the same command runs on each, with --workers and --worker, or with TF_CONFIG
    in the environment; train.strategy is then multi_worker.
    """
    from tfseg import cluster, config

    if (workers is None) != (worker is None):
        raise click.UsageError("--workers and --worker go together")
    if workers is not None and worker is not None:
        os.environ[cluster.VARIABLE] = cluster.tf_config(workers, worker)
    if cluster.cluster_size(os.environ) > 1:
        assignments += ("train.strategy=multi_worker",)
    stages = config.load_stages(config_file, list(assignments))
    experiment = stages[-1]
    # A stage is called NAME/STAGE.
    run_dir = run_dir or Path("runs") / experiment.name.partition("/")[0]
    from tfseg import experiment as experiments
    from tfseg.train import NonFiniteLoss, SaveError, WorkerLost

    try:
        if len(stages) > 1:
            outcome = experiments.train_stages(stages, run_dir, resume=resume)
        else:
            outcome = experiments.train(experiment, run_dir, resume=resume)
    except (NonFiniteLoss, SaveError, WorkerLost) as error:
        raise click.ClickException(str(error)) from error
    if outcome is not None and outcome.interrupted is not None:
        sys.exit(128 + signal.Signals[outcome.interrupted].value)
    if outcome is not None and outcome.best is not None:
        metric = experiments.with_best_metric(experiment).train.best_metric
        click.echo(f"best {metric}: {outcome.best:.4f}")
    click.echo(f"run folder: {run_dir}")


def _load_run(run: Path, assignments: tuple[str, ...], weights: str) -> tuple[Any, Any]:
    """A run folder's experiment, overridden, and its model."""
    experiment = _run_config(run, assignments)
    return experiment, _run_model(run, experiment, weights)


def _run_config(run: Path, assignments: tuple[str, ...]) -> Any:
    """A run folder's experiment, overridden."""
    from tfseg import config

    if not (run / "config.yaml").exists():
        raise FileNotFoundError(f"{run} is no run folder: it has no config.yaml")
    return config.load(run / "config.yaml", list(assignments))


def _run_model(run: Path, experiment: Any, weights: str) -> Any:
    """A run's model with its best, last or other weights."""
    from tfseg import experiment as experiments
    from tfseg import runs

    path = runs.weights(run, weights) if weights in ("best", "last") else Path(weights)
    return experiments.build_model(experiment, path)


@main.command()
@click.argument("run", type=FOLDER)
@_WEIGHTS
@SET
@click.option("--split", type=click.Choice(["validation", "train"]), default="validation")
@click.option("--pictures", default=8, show_default=True, help="Images on the contact sheet.")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
@says_what_is_wrong
def evaluate(
    run: Path,
    weights: str,
    assignments: tuple[str, ...],
    split: str,
    pictures: int,
    progress: bool,
) -> None:
    """Score the run folder RUN at the images' original resolution.

    Writes RUN/evaluation-SPLIT.json and, as a picture, RUN/evaluation-SPLIT.png; of a detector
    also what it found, as RUN/evaluation-SPLIT-results.json in COCO's format, and of a panoptic
    network its maps, RUN/evaluation-SPLIT-panoptic.json with a folder of PNGs.
    """
    experiment, model = _load_run(run, assignments, weights)
    from PIL import Image

    from tfseg import evaluation
    from tfseg import experiment as experiments
    from tfseg.detection import is_detector

    reader = experiments.open_split(experiment, split)
    facts = {"run": str(run), "weights": weights, "split": split, "images": len(reader)}
    path = run / f"evaluation-{split}.json"
    if is_detector(experiment):
        from tfseg import detection_commands

        detection_commands.evaluate(
            experiment,
            model,
            reader,
            run,
            facts=facts,
            name=path.stem,
            pictures=pictures,
            progress=progress,
        )
        return
    predictor = experiments.run_predictor(run, experiment, model, progress=progress)
    sheet = evaluation.Pictures(reader, pictures)
    scores = evaluation.evaluate(
        predictor, reader, experiment.metrics, progress=progress, on_prediction=sheet
    )
    click.echo(scores.confusion.table(reader.classes))
    for name, value in scores.others.items():
        click.echo(f"{name:38s} {value:.6f}")
    facts["predict"] = experiment.predict.model_dump(mode="json")
    found = evaluation.scores_as_json(scores, reader, facts)
    path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    click.echo(f"scores: {path}")
    if pictures > 0:
        Image.fromarray(sheet.sheet()).save(path.with_suffix(".png"))
        click.echo(f"pictures: {path.with_suffix('.png')}")


@main.command()
@click.argument("run", type=FOLDER)
@click.argument("images", nargs=-1, required=True, type=click.Path(exists=True, path_type=Path))
@click.option("--out", type=FOLDER, required=True, help="Where the results go.")
@_WEIGHTS
@SET
@click.option("--probabilities", is_flag=True, help="Also write probabilities (float16 .npz).")
@click.option("--progress/--no-progress", default=True, help="Show a progress bar.")
@says_what_is_wrong
def predict(
    run: Path,
    images: tuple[Path, ...],
    out: Path,
    weights: str,
    assignments: tuple[str, ...],
    probabilities: bool,
    progress: bool,
) -> None:
    """Label IMAGES (files or folders of them) with the run folder RUN.

    Writes labels/NAME.png (class ids with a palette), overlays/NAME.png and legend.png. How is
    the config's predict section; for example, --set predict.flip=true.

    Of a detector: overlays/NAME.png, instances/NAME.png (object ids) and detections.json, in
    COCO's results format; of a panoptic network also legend.png, and its maps in COCO's panoptic
    format, panoptic.json and panoptic/NAME.png. How is the config's detect section.
    """
    from tfseg.data.readers.files import image_files

    files: list[Path] = []
    for path in images:
        files += image_files(path).values() if path.is_dir() else [path]
    experiment, model = _load_run(run, assignments, weights)
    from tfseg import experiment as experiments
    from tfseg import runs
    from tfseg.detection import is_detector

    if is_detector(experiment):
        from tfseg import detection_commands

        if probabilities:
            raise ValueError("--probabilities is for semantic networks, not for detectors")
        detection_commands.predict(experiment, model, run, files, out, progress)
        return
    from tfseg.predict import predict_files

    known = runs.labels(run)
    written = predict_files(
        experiments.run_predictor(run, experiment, model, progress=progress),
        files,
        out,
        classes=known.names,
        colors=known.colors,
        probabilities=probabilities,
        progress=progress,
    )
    click.echo(f"{len(written)} images labelled: {out}")


@main.command()
@click.argument("run", type=FOLDER)
@click.option(
    "--to", type=FOLDER, help="Default: saved_models/NAME, with the run's name; -FORMAT of files."
)
@click.option("--version", type=int, help="Default: one more than the highest there.")
@_WEIGHTS
@click.option(
    "--format",
    type=click.Choice(["savedmodel", "tflite", "onnx"]),
    default="savedmodel",
    show_default=True,
    help="Files of TensorFlow Lite and ONNX are of semantic networks.",
)
@click.option(
    "--dtype",
    type=click.Choice(["float32", "bfloat16"]),
    default="float32",
    show_default=True,
    help="What the network computes in; its weights stay float32.",
)
@click.option("--xla", is_flag=True, help="Let XLA compile the network, for each input size.")
@click.option(
    "--freeze",
    is_flag=True,
    help="Keep the weights as constants: faster on a CPU, for many times their memory.",
)
@click.option("--png", is_flag=True, help="A signature that answers label maps as PNG files.")
@says_what_is_wrong
def export(
    run: Path,
    to: Path | None,
    version: int | None,
    weights: str,
    format: Any,
    dtype: str,
    xla: bool,
    freeze: bool,
    png: bool,
) -> None:
    """Write the run folder RUN as a SavedModel for TensorFlow Serving, or as another format."""
    experiment = _run_config(run, (f"train.precision={dtype}",))
    from tfseg import export_commands

    export_commands.check_options(experiment, format, dtype, xla=xla, png=png, freeze=freeze)
    export_commands.export(
        experiment,
        _run_model(run, experiment, weights),
        run,
        to,
        version,
        weights=weights,
        format=format,
        dtype=dtype,
        xla=xla,
        png=png,
        freeze=freeze,
    )


@main.command()
@click.argument("model", type=FOLDER)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(1, 65535), default=8080, show_default=True)
@click.option("--browser/--no-browser", default=True, help="Open the page in a browser.")
@says_what_is_wrong
def demo(model: Path, host: str, port: int, browser: bool) -> None:
    """Look at MODEL on a web page: an image is dropped, overlay, classes and scores appear.

    MODEL is a SavedModel that tfseg export wrote (its newest version is taken) or a run folder.
    """
    from tfseg import demo_model, demo_page

    demo_page.serve(demo_model.open_model(model), host, port, browser)


@main.command()
@click.argument("file", type=FILE)
@click.option("--to", type=click.Choice(["native"]), default="native", show_default=True)
@click.option("--model", help="The network. Default: that of the released file of this name.")
@click.option("--num-classes", type=int, help="Default: the released file's or the network's.")
@click.option(
    "--set", "options", multiple=True, metavar="OPTION=VALUE", help="An option of the network."
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Default: beside FILE."
)
@says_what_is_wrong
def convert(
    file: Path,
    to: str,
    model: str | None,
    num_classes: int | None,
    options: tuple[str, ...],
    out: Path | None,
) -> None:
    """Turn FILE, weights of any known format, into tfseg's own .safetensors.

    Everything that the network has must be in the file. docs/weights.md lists the released files
    whose networks are known by name.
    """
    from tfseg import config
    from tfseg.weights.convert import convert as convert_weights

    network, path = convert_weights(
        file,
        out,
        model=model,
        num_classes=num_classes,
        options=config.override({}, list(options)),
    )
    spec = network.spec
    click.echo(f"{spec.name}, {spec.num_classes} classes, {network.count_params():,} values")
    click.echo(f"{to} weights: {path}")


@main.command()
@click.option("--task", help="Only networks of this task.")
@click.option("--match", help="Only names that fit this shell pattern.")
@says_what_is_wrong
def models(task: str | None, match: str | None) -> None:
    """List the networks."""
    import tfseg
    from tfseg import registry

    names = tfseg.list_models(task=task, match=match)
    entries = [registry.entry(name) for name in names]
    width = min(shutil.get_terminal_size().columns, 120)
    column = max((len(name) for name in names), default=0)
    for e in entries:
        click.echo(f"{e.name:{column}s}  {e.task:14s}  {e.paper}"[:width])


main.add_command(scale_commands.prepare)
main.add_command(scale_commands.predict_many)
main.add_command(serve_command.serve_check)

if __name__ == "__main__":
    sys.exit(main())
