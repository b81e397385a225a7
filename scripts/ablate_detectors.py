"""Trains a small Mask R-CNN with each part of the competition systems on and off.

    python scripts/ablate_detectors.py [--seeds 3] [--runs DIR] [VARIANT ...]

Runs that are there already are not trained again; the table of all that there are, as Markdown, is
printed at the end: means over the seeds, and between which values they lie.
"""

import csv
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np

import tfseg
from tfseg import config
from tfseg.detection import make_detection_predictor

CONFIG = Path(__file__).parents[1] / "configs" / "mask_rcnn_dsb2018_small.yaml"
_OPTION = "model.options."
LOCATION = {f"{_OPTION}box_head": "location_sensitive"}
FUSION = {f"{_OPTION}roi_fusion": "max"}
HEAVIER = {f"{_OPTION}mask_convolutions": "8"}
EDGES = {"train.rcnn.mask_edge_weight": "1.0"}
VARIANTS: dict[str, dict[str, str]] = {
    "baseline": {},
    "location-sensitive detector": LOCATION,
    "location-sensitive detector, multi-scale RoI": LOCATION | FUSION,
    "heavier header": HEAVIER,
    "mask edge loss": EDGES,
    "location-sensitive header (all)": LOCATION | FUSION | HEAVIER | EDGES,
    "cascade": {"model.name": "cascade_mask_rcnn_mobilenet_v2_fpn"},
    "semantic-guided FPN": {
        "model.name": "mask_rcnn_mobilenet_v2_sfpn",
        "data.semantic_labels": "instances",
    },
}
SCORES = ("mask_ap", "box_ap")


def _overrides(variant: str, seed: int) -> list[str]:
    return [f"seed={seed}", *(f"{key}={value}" for key, value in VARIANTS[variant].items())]


def _folder(runs: Path, variant: str, seed: int) -> Path:
    name = "".join(c if c.isalnum() else "_" for c in variant)
    return runs / f"{name}_{seed}"


def _train(folder: Path, variant: str, seed: int) -> None:
    command = [sys.executable, "-m", "tfseg.cli", "train", str(CONFIG), "--run-dir", str(folder)]
    for override in _overrides(variant, seed):
        command += ["--set", override]
    subprocess.run(command, check=True)


def _scores(folder: Path) -> dict[str, float] | None:
    """The last validation's scores in percent, or None of a run that has not got there."""
    log = folder / "log.csv"
    if not log.exists():
        return None
    with log.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["split"] == "validation"]
    return {name: 100 * float(rows[-1][name]) for name in SCORES} if rows else None


def _costs(names: list[str], rounds: int = 20) -> dict[str, tuple[float, float]]:
    """Of each variant millions of parameters and milliseconds an image, in interleaved turns."""
    size = (288, 288, 3)
    image = np.random.default_rng(0).integers(0, 256, size, dtype=np.uint8)
    predictors, counts, times = {}, {}, {}
    for name in names:
        experiment = config.load(CONFIG, _overrides(name, 0))
        section = experiment.model
        model = tfseg.build(section.name, num_classes=section.num_classes, **section.options)
        counts[name] = model.count_params() / 1e6
        predictors[name], times[name] = make_detection_predictor(model, experiment.detect), []
        predictors[name](image)
    for _ in range(rounds):
        for name, predictor in predictors.items():
            start = time.perf_counter()
            predictor(image)
            times[name].append(1000 * (time.perf_counter() - start))
    return {name: (counts[name], statistics.median(times[name])) for name in names}


def _cell(values: list[float]) -> str:
    return f"{statistics.mean(values):.1f} ({min(values):.1f} to {max(values):.1f})"


@click.command()
@click.argument("variants", nargs=-1)
@click.option("--seeds", default=3, help="Of each variant.")
@click.option("--runs", type=click.Path(path_type=Path), default=Path("runs/ablation"))
@click.option("--costs/--no-costs", default=True, help="Measure parameters and time.")
def main(variants: tuple[str, ...], seeds: int, runs: Path, costs: bool) -> None:
    """Train VARIANTS, all without any, and print the table."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    if unknown := sorted(set(variants) - set(VARIANTS)):
        raise click.BadParameter(f"no variants {unknown}; there are {sorted(VARIANTS)}")
    chosen = list(variants or VARIANTS)
    for seed in range(seeds):
        for variant in chosen:
            folder = _folder(runs, variant, seed)
            if _scores(folder) is None:
                _train(folder, variant, seed)
    measured = _costs(chosen) if costs else {}
    print("| variant | mask AP | box AP | seeds | parameters | ms an image |")
    print("|---|---|---|---|---|---|")
    for variant in chosen:
        found = [_scores(_folder(runs, variant, seed)) for seed in range(seeds)]
        rows = [row for row in found if row is not None]
        cells = [_cell([row[name] for row in rows]) for name in SCORES]
        cost = "{:.1f} M | {:.0f}".format(*measured[variant]) if costs else " | "
        print(f"| {variant} | {' | '.join(cells)} | {len(rows)} | {cost} |")


if __name__ == "__main__":
    main()
