"""What can be wrong with a run's folder, and with writing to it."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import tensorflow as tf


class RunDirError(ValueError):
    """A run folder that cannot be used; the message says what would be right."""


class SaveError(RuntimeError):
    """A file of a run that could not be written, as on a full disk; older ones are whole."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What Python, h5py and TensorFlow raise while a file is written becomes a `SaveError`."""
    try:
        yield
    except (OSError, tf.errors.OpError) as e:
        reason = e.strerror or str(e) if isinstance(e, OSError) else e.message
        raise SaveError(
            f"cannot write {path}: {reason}. Free some space, or set right what else is the "
            "matter, and continue with --resume"
        ) from e
