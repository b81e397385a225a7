"""SBD's .mat files, read by a process of their own."""

import json
import os
import signal
import subprocess
import threading
from pathlib import Path
from typing import Any

import numpy as np

from tfseg import child
from tfseg.data.sample import DataError

#: for one file, of which the process reads hundreds a second
SECONDS = 20.0
_PROGRAM = Path(__file__).with_name("mat_child.py")


class MatReader:
    """Reads the class labels of SBD's .mat files, ``GTcls.Segmentation``.

    SciPy crashes on some damaged files. Here that ends another process, which is started when it
    is first asked, and again when a file has ended it. It is no sandbox: that process may do what
    its user may.
    """

    def __init__(self) -> None:
        """Starts nothing yet."""
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0

    def read(self, path: Path) -> np.ndarray:
        """Reads a file, of MATLAB 7.2 or before; one at a time.

        Returns:
            Integers (H, W), read-only.

        Raises:
            DataError: a file that is damaged, of MATLAB 7.3, or without such labels.
        """
        with self._lock:
            process = self._started()
            timer = threading.Timer(SECONDS, process.kill)
            timer.start()
            try:
                return _asked(process, path)
            except (EOFError, BrokenPipeError):
                self._process = None
                code = process.wait()
                raise DataError(f"{path} is damaged: {_reason(code)}") from None
            finally:
                timer.cancel()

    def _started(self) -> "subprocess.Popen[bytes]":
        # A forked process must not talk through its parent's pipes.
        if self._process is None or self._owner != os.getpid():
            self._process = child.start(_PROGRAM, stdin=subprocess.PIPE)
            self._owner = os.getpid()
        return self._process


def _asked(process: "subprocess.Popen[bytes]", path: Path) -> np.ndarray:
    stdin: Any = process.stdin
    stdout: Any = process.stdout
    stdin.write(json.dumps(os.fspath(path.absolute())).encode() + b"\n")
    stdin.flush()
    told = child.told(stdout)
    if "refused" in told:
        raise DataError(f"{path} {told['refused']}")
    return child.array(stdout, **told)


def _reason(code: int) -> str:
    """Why the other process ended."""
    if code == -signal.SIGKILL:
        return f"reading it takes over {SECONDS:.0f} s, or more memory than there is"
    if code < 0:
        return f"it crashes SciPy ({signal.Signals(-code).name})"
    return f"the process that reads it ended with status {code}"
