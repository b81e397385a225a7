"""What a run leaves on disk to go on from and to predict with."""

import json
import os
from pathlib import Path

import keras
import tensorflow as tf


class RunDirError(ValueError):
    """A run folder that cannot be used; the message says what would be right."""


def claim_run_dir(run_dir: str | Path, *, resume: bool) -> Path:
    """The run's folder, made if it is absent.

    Raises:
        RunDirError: a folder with something in it without ``resume``; none to resume.
    """
    path = Path(run_dir)
    if resume and not path.is_dir():
        raise RunDirError(f"cannot resume: there is no folder {path}")
    if path.exists() and not path.is_dir():
        raise RunDirError(f"{path} is a file; a run needs a folder")
    if not resume and path.exists() and any(path.iterdir()):
        raise RunDirError(
            f"{path} is not empty: continue the run in it with --resume, or name another folder"
        )
    path.mkdir(parents=True, exist_ok=True)
    return path


class Checkpoints:
    """The full state of a run, written atomically by `tf.train.CheckpointManager`.

    Variables are matched by position, not by name: Keras numbers the names of unnamed layers
    by process.

    Args:
        folder: where the checkpoints are.
        groups: name -> variables.
        keep: how many of the newest are kept.
    """

    def __init__(self, folder: Path, groups: dict[str, list[tf.Variable]], keep: int):
        self._checkpoint = tf.train.Checkpoint(**groups)
        self._manager = tf.train.CheckpointManager(self._checkpoint, str(folder), max_to_keep=keep)

    def save(self, step: int) -> None:
        """Writes the state after ``step`` steps, unless that is the newest one already."""
        latest = self._manager.latest_checkpoint
        if latest is None or not latest.endswith(f"-{step}"):
            self._manager.save(checkpoint_number=step)

    def restore(self, strategy: tf.distribute.Strategy) -> bool:
        """Reads the newest state, if there is one.

        Returns:
            Whether there was one.

        Raises:
            RunDirError: it holds other variables than this run's.
        """
        latest = self._manager.latest_checkpoint
        if latest is None:
            return False
        try:
            with strategy.scope():
                self._checkpoint.restore(latest).assert_consumed()
        except (AssertionError, ValueError) as e:
            raise RunDirError(
                f"the checkpoint {latest} is of another model, optimizer or precision: {e}"
            ) from e
        return True


def write_whole(path: Path, text: str) -> None:
    """Writes a text file so that a killed process leaves either the old or the new one."""
    part = path.with_name(f"{path.name}.part")
    part.write_text(text, encoding="utf-8")
    os.replace(part, path)


def save_weights(model: keras.Model, path: Path) -> None:
    """`model.save_weights`, but a killed process leaves the old file whole.

    Args:
        path: ends in ".weights.h5".
    """
    part = path.with_name(f"part.{path.name}")
    model.save_weights(part)
    os.replace(part, path)


class Best:
    """The weights of the highest validation score: best.weights.h5, described by best.json.

    Args:
        run_dir: the run's folder; a best.json in it is read.
        metric: which score; higher is better. None where nothing will be offered.

    Attributes:
        value: the highest so far, or None.
    """

    def __init__(self, run_dir: Path, metric: str | None):
        self._weights, self._note = run_dir / "best.weights.h5", run_dir / "best.json"
        self.metric = metric
        self.value: float | None = None
        if self._note.exists():
            self.value = json.loads(self._note.read_text(encoding="utf-8"))["value"]

    def offer(self, model: keras.Model, step: int, scores: dict[str, float]) -> None:
        """Saves the weights if they score higher than all before.

        Raises:
            ValueError: ``scores`` lacks the metric.
        """
        if self.metric not in scores:
            raise ValueError(
                f"best_metric is {self.metric!r}, but validation gives {', '.join(sorted(scores))}"
            )
        value = float(scores[self.metric])
        if self.value is None or value > self.value:
            save_weights(model, self._weights)
            note = {"metric": self.metric, "value": value, "step": step}
            write_whole(self._note, json.dumps(note))
            self.value = value
