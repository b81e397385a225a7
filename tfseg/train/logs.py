"""What a run reports: a progress bar, a CSV file and TensorBoard events."""

import csv
import io
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from tfseg.train.checkpoints import write_whole
from tfseg.train.errors import RunDirError, writing


class CsvLog:
    """Rows of a CSV file; columns appear as they are needed.

    A row has "step", "split" ("train" or "validation") and its values. Steps count finished
    updates.

    Args:
        path: the file; rows in it after ``start`` are dropped, and validation at ``start``,
            since a resumed run writes them again.
        start: the step that the run starts from.

    Raises:
        RunDirError: a file that is no such log.
    """

    def __init__(self, path: Path, start: int):
        self._path = path
        self._columns = ["step", "split"]
        self._rows: list[dict[str, str]] = []
        if path.exists():
            try:
                self._read(start)
            except (csv.Error, KeyError, ValueError) as e:
                raise RunDirError(
                    f"{path} is damaged ({e!r}): mend its lines, or move it away for a log that "
                    "starts now; checkpoints do not need it"
                ) from e
        self._rewrite()

    def _read(self, start: int) -> None:
        with self._path.open(newline="", encoding="utf-8") as file:
            reader = csv.DictReader(file)
            # A killed process may leave half a row at the end.
            whole = [row for row in reader if None not in row.values()]
            self._columns = list(reader.fieldnames or self._columns)
        kept = [(int(r["step"]), r["split"] == "validation", r) for r in whole]
        self._rows = [r for step, validation, r in kept if step + validation <= start]

    def _rewrite(self) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self._columns, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_whole(self._path, lambda part: part.write_text(text.getvalue(), encoding="utf-8"))

    def add(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Appends a row."""
        row = {"step": str(step), "split": split, **{k: repr(float(v)) for k, v in values.items()}}
        self._rows.append(row)
        new = [name for name in row if name not in self._columns]
        if new:
            self._columns += new
            self._rewrite()
            return
        with writing(self._path), self._path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self._columns, restval="", lineterminator="\n").writerow(row)


class Stopwatch:
    """Time spent on training steps, without validation and saving."""

    def __init__(self) -> None:
        self._since = time.perf_counter()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside does not count."""
        began = time.perf_counter()
        yield
        self._since += time.perf_counter() - began

    def lap(self) -> float:
        """Seconds since the last lap."""
        now = time.perf_counter()
        seconds, self._since = now - self._since, now
        return seconds


class RunLog:
    """The progress bar, log.csv and tensorboard/ of a run.

    Args:
        run_dir: the run's folder.
        start: the step that the run starts from.
        steps: the step that it ends at.
    """

    def __init__(self, run_dir: Path, start: int, steps: int):
        self._csv = CsvLog(run_dir / "log.csv", start)
        self._events = tf.summary.create_file_writer(str(run_dir / "tensorboard"))
        terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=steps,
            initial=start,
            unit="step",
            dynamic_ncols=terminal,
            mininterval=0.1 if terminal else 30.0,
        )

    def scalars(self, step: int, split: str, values: Mapping[str, float]) -> None:
        """Reports values of "train" or "validation" after ``step`` steps."""
        self._csv.add(step, split, values)
        with self._events.as_default(step=step):
            for name, value in values.items():
                tf.summary.scalar(f"{split}/{name}", value)
        self._events.flush()
        if split == "train":
            rate = values["images_per_second"]
            self.bar.set_postfix_str(
                f"loss {values['loss']:.4g}, lr {values['learning_rate']:.3g}, {rate:.1f} images/s",
                refresh=False,
            )
        else:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
            self.bar.write(f"step {step}: {shown}", file=sys.stderr)

    def images(self, step: int, images: Mapping[str, np.ndarray]) -> None:
        """Reports uint8 images, each (H, W, C) or (N, H, W, C), C = 1, 3 or 4."""
        with self._events.as_default(step=step):
            for name, image in images.items():
                batch = image if image.ndim == 4 else image[None]
                tf.summary.image(name, batch, max_outputs=len(batch))
        self._events.flush()

    def close(self) -> None:
        """Ends the bar and the event file."""
        self.bar.close()
        self._events.close()
