"""What `tfseg export` does with a run folder."""

import json
from pathlib import Path
from typing import Any, Literal

import click
import keras

from tfseg import config, runs
from tfseg.detection import is_detector
from tfseg.detection_inference import set_suppression
from tfseg.export import export as export_semantic
from tfseg.export_detector import export_detector
from tfseg.export_formats import export_file, refuse_detector
from tfseg.saved_model import savedmodel_options

Format = Literal["savedmodel", "tflite", "onnx"]


def check_options(
    experiment: config.Experiment,
    format: Format,
    dtype: str,
    *,
    xla: bool,
    png: bool,
    freeze: bool,
) -> None:
    """Raises ValueError for options that do not go together, before the model is built."""
    if format == "savedmodel":
        savedmodel_options(png=png, xla=xla, freeze=freeze)
        return
    if is_detector(experiment):
        refuse_detector(experiment.model.name, format)
    options = {
        "--xla": xla,
        "--png": png,
        "--freeze": freeze,
        "--dtype bfloat16": dtype != "float32",
    }
    for option, given in options.items():
        if given:
            raise ValueError(f"{option} is for SavedModels, not for --format {format}")


def export(
    experiment: config.Experiment,
    model: keras.Model,
    run: Path,
    directory: Path | None,
    version: int | None,
    *,
    weights: str,
    format: Format,
    dtype: str,
    xla: bool,
    png: bool,
    freeze: bool,
) -> Path:
    """Writes a run's model; see `export_semantic`, `export_detector` and `export_file`.

    A detector suppresses as the experiment says, but has one view of an image and its own boxes.

    Args:
        experiment: the run's.
        model: its network, built for ``dtype``.
        run: the folder.
        directory: the model's own folder; None: saved_models/NAME, or for files
            saved_models/NAME-FORMAT.
        version: None: one more than the highest there.
        weights: which the model has.
        format: of what is written.
        dtype: that the model computes in.
        xla: see `export_semantic`.
        png: see `export_semantic`.
        freeze: see `export_semantic`.

    Returns:
        The folder written.
    """
    if directory is None:
        suffix = "" if format == "savedmodel" else f"-{format}"
        directory = Path("saved_models") / (experiment.name + suffix)
    known = runs.labels(run)
    info: dict[str, Any] = {
        "category_ids": known.category_ids,
        "stuff": dict(known.stuff) or None,
        "scores": scores(run, weights),
        "export": {"run": experiment.name, "weights": weights, "dtype": dtype},
    }
    common: dict[str, Any] = {
        "preprocessing": model.spec.preprocessing,
        "classes": known.names,
        "version": version,
        "info": info,
    }
    options = {"png": png, "xla": xla, "freeze": freeze}
    if is_detector(experiment):
        set_suppression(model, experiment.detect)
        path = export_detector(
            model,
            directory,
            keypoints=known.keypoints or None,
            skeleton=known.skeleton,
            short_side=experiment.detect.short_side,
            long_side=experiment.detect.long_side,
            **options,
            **common,
        )
    elif format == "savedmodel":
        path = export_semantic(model, directory, colors=known.colors, **options, **common)
    else:
        path = export_file(model, directory, format=format, colors=known.colors, **common)
    click.echo(f"{'SavedModel' if format == 'savedmodel' else format}: {path}")
    return path


def scores(run: Path, weights: str) -> dict[str, Any]:
    """The scores that a run folder has of some weights.

    Args:
        run: the folder.
        weights: "best", "last" or a file.

    Returns:
        "training", what best.json tells of the best weights, and of each split that these weights
        were evaluated on "evaluation-SPLIT", the figures of the whole split.
    """
    found: dict[str, Any] = {}
    best = run / "best.json"
    if weights == "best" and best.exists():
        found["training"] = json.loads(best.read_text(encoding="utf-8"))
    for path in sorted(run.glob("evaluation-*.json")):
        evaluated = json.loads(path.read_text(encoding="utf-8"))
        # Results in COCO's format are a list, or tell of no weights.
        if isinstance(evaluated, dict) and evaluated.get("weights") == weights:
            figures = {k: v for k, v in evaluated.items() if isinstance(v, int | float)}
            found[path.stem] = figures
    return found
