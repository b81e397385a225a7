"""What `tfseg evaluate`, `predict` and `export` do with a detector's run folder."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import click
import keras
import numpy as np
from PIL import Image

from tfseg import config, runs
from tfseg.data.sample import ObjectReader, Sample
from tfseg.detection import make_combiner, make_panoptic_scores, make_scores, panoptic_masks
from tfseg.detection_inference import make_test_predictor
from tfseg.evaluate_detector import InstancePictures, evaluate_detector
from tfseg.evaluate_panoptic import PanopticScores
from tfseg.metrics.coco import CocoScores
from tfseg.predict.detection_files import detect_files, image_id
from tfseg.predict.detections import Detections


def evaluate(
    experiment: config.Experiment,
    model: keras.Model,
    reader: ObjectReader,
    run: Path,
    *,
    facts: dict[str, object],
    name: str,
    pictures: int,
    progress: bool,
) -> None:
    """Scores a split and writes the scores, the results and pictures into the run folder.

    Args:
        experiment: the run's.
        model: its network.
        reader: the split.
        run: the folder.
        facts: what the scores' file tells beside them.
        name: of the files, without suffix.
        pictures: rows of the picture; 0 for none.
        progress: show a progress bar.
    """
    scores = make_scores(experiment, reader, model)()
    panoptic = make_panoptic_scores(experiment, reader, model, run / f"{name}-panoptic")
    masks = panoptic_masks(reader)
    sheet = InstancePictures(
        reader,
        pictures,
        experiment.detect.score_threshold,
        semantic_classes=() if masks is None else masks.classes,
    )

    def use(sample: Sample, detections: Detections) -> None:
        sheet(sample, detections)
        if panoptic is not None:
            panoptic(sample, detections)

    ids = [reader.image_id(index) for index in range(len(reader))]
    predictor = make_test_predictor(experiment, model, run, ids, reader.known_images())
    evaluate_detector(predictor, reader, scores, progress=progress, on_prediction=use)
    click.echo(scores.table())
    facts = facts | {"detect": experiment.detect.model_dump(mode="json")}
    path = run / f"{name}.json"
    found = json.dumps(facts | _figures(scores, panoptic), indent=2)
    path.write_text(found + "\n", encoding="utf-8")
    if panoptic is not None:
        click.echo(f"\n{panoptic.table()}")
        click.echo(f"panoptic maps in COCO's format: {panoptic.write()}")
    click.echo(f"scores: {path}")
    scores.write(run / f"{name}-results.json")
    click.echo(f"results in COCO's format: {run / f'{name}-results.json'}")
    if pictures > 0:
        Image.fromarray(sheet.sheet()).save(path.with_suffix(".png"))
        click.echo(f"pictures: {path.with_suffix('.png')}")


def _figures(scores: CocoScores, panoptic: PanopticScores | None) -> dict[str, object]:
    """All scores as JSON holds them."""
    found = _without_nan(scores.result())
    found["per_class"] = [_without_nan(row) for row in scores.per_class()]
    if panoptic is not None:
        found |= _without_nan(panoptic.result())
        for what, rows in panoptic.per_class().items():
            found[f"per_class_{what}"] = [_without_nan(row) for row in rows]
    return found


def _without_nan(values: Mapping[str, object]) -> dict[str, object]:
    """The values with null, which JSON has, for what is not a number."""
    return {k: None if isinstance(v, float) and np.isnan(v) else v for k, v in values.items()}


def predict(
    experiment: config.Experiment,
    model: keras.Model,
    run: Path,
    files: Sequence[Path],
    out: Path,
    progress: bool,
) -> None:
    """Finds the objects of image files; see `detect_files`."""
    known, combiner = runs.labels(run), None
    if model.panoptic and known.category_ids is not None:
        things = dict(zip(known.category_ids, known.names, strict=True))
        combiner = make_combiner(experiment.detect.combine, things, known.stuff)
    # Of files only what is sure, as of pictures.
    predictor = make_test_predictor(
        experiment,
        model,
        run,
        [image_id(path.stem) for path in files],
        score_threshold=experiment.detect.score_threshold,
    )
    written = detect_files(
        predictor,
        files,
        out,
        classes=known.names,
        category_ids=known.category_ids,
        skeleton=known.skeleton,
        combiner=combiner,
        progress=progress,
    )
    click.echo(f"{len(written)} images searched: {out}")
