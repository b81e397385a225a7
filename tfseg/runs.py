"""The run folder: what a training run leaves, and how it is found again.

config.yaml         the resolved experiment
environment.json    git revision, versions, seed, command, class names and colours
log.csv, events.*   scalars of training and validation
checkpoints/        full state, to resume from
label_pixels.json   pixels of each class in the training labels, once a boost has needed them
best.weights.h5     the weights that validated best, described by best.json
last.weights.h5     the final ones; last.json tells after how many steps
.lock               tells runs apart that would write to one folder
"""

import json
import platform
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from tfseg import config
from tfseg.data import open_reader
from tfseg.data.label_counts import count_labels
from tfseg.data.sample import Reader


@dataclass(frozen=True)
class Labels:
    """What a run's classes are.

    Attributes:
        names: by class id.
        colors: uint8 (num_classes, 3), or None.
        category_ids: of objects, in COCO's files; None of semantic classes.
        keypoints: names of the objects' keypoints.
        skeleton: pairs of keypoints that lines join.
        stuff: of panoptic networks, category id and name of the semantic labels from 1 on.
    """

    names: tuple[str, ...]
    colors: np.ndarray | None
    category_ids: tuple[int, ...] | None = None
    keypoints: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    stuff: Mapping[int, str] = field(default_factory=dict)


def _git(*words: str) -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None  # no git, or no checkout: an installed package
    return done.stdout.strip()


def environment(experiment: config.Experiment, reader: Reader) -> dict[str, Any]:
    """What the run's result may depend on besides its config."""
    packages = ("tfseg", "tensorflow", "keras", "numpy")
    found: dict[str, str | None] = {}
    for package in packages:
        try:
            found[package] = version(package)
        except ModuleNotFoundError:
            found[package] = None
    found["tensorflow"] = found["tensorflow"] or version("tensorflow-cpu")
    changes = _git("status", "--porcelain", "--untracked-files=no")
    return {
        "git_revision": _git("rev-parse", "HEAD"),
        "git_clean": None if changes is None else not changes,
        "python": platform.python_version(),
        "machine": platform.platform(),
        "versions": found,
        "seed": experiment.seed,
        "command": sys.argv,
        "classes": list(reader.classes),
        "colors": None if reader.colors is None else np.asarray(reader.colors).tolist(),
        **_objects(reader),
    }


def _objects(reader: Any) -> dict[str, Any]:
    """What a reader of objects tells of them."""
    names = ("category_ids", "keypoint_names", "skeleton")
    found = {name: getattr(reader, name) for name in names if hasattr(reader, name)}
    semantic = getattr(reader, "semantic", None)
    return found if semantic is None else found | {"stuff": semantic.stuff}


def save(run_dir: Path, experiment: config.Experiment, reader: Reader) -> None:
    """Writes config.yaml and environment.json."""
    run_dir.mkdir(parents=True, exist_ok=True)
    (run_dir / "config.yaml").write_text(config.dump(experiment), encoding="utf-8")
    facts = json.dumps(environment(experiment, reader), indent=2)
    (run_dir / "environment.json").write_text(facts + "\n", encoding="utf-8")


def labels(run_dir: Path) -> Labels:
    """The class names and colours that a run was trained with.

    Raises:
        FileNotFoundError: if the folder is no run.
    """
    facts = json.loads((run_dir / "environment.json").read_text(encoding="utf-8"))
    colors = facts["colors"]
    ids = facts.get("category_ids")
    return Labels(
        tuple(facts["classes"]),
        None if colors is None else np.array(colors, np.uint8),
        None if ids is None else tuple(ids),
        tuple(facts.get("keypoint_names", ())),
        tuple((a, b) for a, b in facts.get("skeleton", ())),
        {int(number): name for number, name in facts.get("stuff", {}).items()},
    )


def label_pixels(
    run_dir: Path, experiment: config.Experiment, *, progress: bool = True
) -> np.ndarray:
    """How many pixels of the training labels each class has.

    They are counted once and kept in the run folder, as long as the training data stay the same.

    Args:
        run_dir: the run's folder.
        experiment: whose training data they are.
        progress: show a progress bar while counting.

    Returns:
        int64 (num_classes,).

    Raises:
        DataError: what the reader finds wrong.
    """
    path = run_dir / "label_pixels.json"
    data = experiment.data.model_dump(mode="json", include={"train", "ignore_label"})
    if path.exists():
        kept = json.loads(path.read_text(encoding="utf-8"))
        if kept["data"] == data:
            return np.array(list(kept["pixels"].values()), np.int64)
    train = experiment.data.train
    reader = open_reader(train.reader, experiment.data.ignore_label, **train.options)
    pixels = count_labels(reader, progress=progress)
    counted = {"data": data, "pixels": dict(zip(reader.classes, pixels.tolist(), strict=True))}
    path.write_text(json.dumps(counted, indent=2) + "\n", encoding="utf-8")
    return pixels


def trained_steps(run_dir: Path) -> int | None:
    """After how many steps a run's last weights were saved; None: they have not been."""
    path = run_dir / "last.json"
    return json.loads(path.read_text(encoding="utf-8"))["step"] if path.exists() else None


def weights(run_dir: Path, which: str = "best") -> Path:
    """A run's weights file.

    Args:
        which: "best" or "last".

    Raises:
        FileNotFoundError: if the run has none yet; the message says what it has.
    """
    path = run_dir / f"{which}.weights.h5"
    if not path.exists():
        others = sorted(p.name for p in run_dir.glob("*.weights.h5"))
        raise FileNotFoundError(
            f"{path} is missing; "
            + (f"the run has {others}: choose with --weights" if others else "train first")
        )
    return path
