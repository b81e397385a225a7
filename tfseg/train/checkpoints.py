"""What a run leaves on disk to go on from and to predict with."""

import json
import logging
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from tfseg.train.errors import RunDirError, SaveError, writing
from tfseg.train.locks import RunLock

_LOG = logging.getLogger(__name__)


def claim_run_dir(run_dir: str | Path, *, resume: bool) -> RunLock:
    """Makes a run's folder if it is absent, and keeps other runs out of it.

    Returns:
        The lock; the folder is the run's until its release.

    Raises:
        RunDirError: a folder with something in it without ``resume``; none to resume; one that
            another run is writing to.
    """
    path = Path(run_dir)
    if resume and not path.is_dir():
        raise RunDirError(f"cannot resume: there is no folder {path}")
    if path.exists() and not path.is_dir():
        raise RunDirError(f"{path} is a file; a run needs a folder")
    path.mkdir(parents=True, exist_ok=True)
    lock = RunLock(path)
    if not resume and any(file.name != RunLock.NAME for file in path.iterdir()):
        lock.release()
        raise RunDirError(
            f"{path} is not empty: continue the run in it with --resume, or name another folder"
        )
    return lock


class Checkpoints:
    """The full states of a run: ckpt-STEP.data-* and ckpt-STEP.index, in TensorFlow's format.

    They are written beside their place, synced to the disk and moved there, the index last: a
    process killed at any moment leaves whole checkpoints only, and the oldest one goes when the
    newest is there. TensorFlow's checksums tell what the disk has done to them since.

    Variables are matched by position, not by name: Keras numbers the names of unnamed layers
    by process.

    Args:
        folder: where the checkpoints are.
        groups: name -> variables.
        keep: how many of the newest are kept.
    """

    def __init__(self, folder: Path, groups: dict[str, list[tf.Variable]], keep: int):
        self._checkpoint = tf.train.Checkpoint(**groups)
        # A variable of tf.train.Checkpoint's own, made on demand, that its managers' files have.
        self._checkpoint.save_counter  # noqa: B018
        self._folder, self._keep = folder, keep
        self._newest: int | None = None

    def steps(self) -> list[int]:
        """The steps of the checkpoints in the folder, ascending."""
        matches = (re.fullmatch(r"ckpt-(\d+)\.index", f.name) for f in self._folder.glob("*.index"))
        return sorted(int(match[1]) for match in matches if match)

    def _files(self, folder: Path, step: int) -> list[Path]:
        """A checkpoint's files, the index last."""
        data = sorted(folder.glob(f"ckpt-{step}.data-*"))
        return [*data, folder / f"ckpt-{step}.index"]

    def save(self, step: int) -> None:
        """Writes the state after ``step`` steps, unless that has been saved or restored last.

        Raises:
            SaveError: it could not be written, as on a full disk; the older ones are left.
        """
        if step == self._newest:
            return
        part = self._folder / "part"
        shutil.rmtree(part, ignore_errors=True)
        try:
            with writing(self._folder / f"ckpt-{step}"):
                self._checkpoint.write(str(part / f"ckpt-{step}"))
                for file in self._files(part, step):
                    _sync(file)
                    os.replace(file, self._folder / file.name)
                _sync(self._folder)
        except SaveError as e:
            last = self.steps()[-1:]
            kept = f"the newest whole checkpoint is of step {last[0]}" if last else "there is none"
            raise SaveError(f"{e} ({kept})") from e
        finally:
            shutil.rmtree(part, ignore_errors=True)
        self._newest = step
        self._prune()

    def _prune(self) -> None:
        """Removes all but the newest, and what killed processes have left of others."""
        kept = {f"ckpt-{step}" for step in self.steps()[-self._keep :]}
        # An index first: without it the rest counts for nothing.
        for file in sorted(self._folder.glob("ckpt-*.*"), reverse=True):
            if file.name.partition(".")[0] not in kept:
                file.unlink()

    def restore(self, strategy: tf.distribute.Strategy) -> bool:
        """Reads the newest state that can be read, if there is one.

        Checkpoints that are damaged, or of another model, are reported and, once an older one
        is restored, moved to the folder "unusable".

        Returns:
            Whether there was one.

        Raises:
            RunDirError: there are some, and none can be used: why, for each.
        """
        failures: dict[int, str] = {}
        for step in reversed(self.steps()):
            path = self._folder / f"ckpt-{step}"
            if (damage := _damage(path)) is not None:
                failures[step] = f"{path} is damaged: {damage}"
                continue
            try:
                with strategy.scope():
                    self._checkpoint.restore(str(path)).assert_consumed()
            except (AssertionError, ValueError, LookupError, tf.errors.OpError) as e:
                failures[step] = f"{path} is of another model, optimizer or precision: {e}"
            else:
                self._newest = step
                self._set_aside(failures)
                return True
        if failures:
            raise RunDirError("\n".join(["no checkpoint can be resumed from:", *failures.values()]))
        return False

    def _set_aside(self, failures: dict[int, str]) -> None:
        aside = self._folder / "unusable"
        for step, reason in failures.items():
            _LOG.warning("%s. It is moved to %s; step %d is used", reason, aside, self._newest)
            aside.mkdir(exist_ok=True)
            for file in reversed(self._files(self._folder, step)):
                os.replace(file, aside / file.name)


def _damage(path: Path) -> str | None:
    """Why a checkpoint cannot be read, or None; all of it is read."""
    try:
        reader = tf.train.load_checkpoint(str(path))
        for name in reader.get_variable_to_shape_map():
            reader.get_tensor(name)
    # Of damaged files TensorFlow raises errors of many types, IndexError among them.
    except Exception as e:
        return str(e) or type(e).__name__
    return None


def _sync(path: Path) -> None:
    """Waits until a file's content, or a folder's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Writes a file so that a killed process leaves either the old or the new one.

    Args:
        path: the file.
        write: as a model's ``save_weights``, writes what it is given the path of.

    Raises:
        SaveError: it could not be written; the old one is whole.
    """
    part = path.with_name(f"part.{path.name}")
    with writing(path):
        write(part)
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
            write_whole(self._weights, model.save_weights)
            note = json.dumps({"metric": self.metric, "value": value, "step": step})
            write_whole(self._note, lambda part: part.write_text(note, encoding="utf-8"))
            self.value = value
