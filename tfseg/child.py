"""Programs that read what makes libraries crash, in processes of their own.

An EOFError says that one has ended before it had answered.
"""

import json
import math
import os
import sys
from pathlib import Path
from subprocess import DEVNULL, PIPE, Popen
from typing import IO, Any

import numpy as np


def start(
    program: Path, *arguments: str, stdin: int = DEVNULL, stderr: int | IO[bytes] = DEVNULL
) -> Popen[bytes]:
    """Starts one of tfseg's programs, with this process' packages and a pipe of its answers."""
    # -P: the program's folder's modules are not to be taken for other packages'.
    command = [sys.executable, "-P", str(program), *arguments]
    paths = os.pathsep.join(p for p in sys.path if p)
    # Threads of a BLAS that nothing here uses reserve gigabytes of addresses.
    env = os.environ | {"PYTHONPATH": paths, "OPENBLAS_NUM_THREADS": "1"}
    return Popen(command, env=env, stdin=stdin, stdout=PIPE, stderr=stderr)


def told(stream: IO[bytes]) -> Any:
    """What an answer begins with, a line of JSON."""
    line = stream.readline()
    if not line.endswith(b"\n"):
        raise EOFError
    return json.loads(line)


def array(stream: IO[bytes], dtype: str, shape: list[int]) -> np.ndarray:
    """The array that an answer has next, read-only."""
    size = math.prod(shape) * np.dtype(dtype).itemsize
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return np.frombuffer(data, dtype).reshape(shape)
