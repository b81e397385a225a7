"""Runs a target's worker, and starts it again behind every input that ends it or holds it up."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

_WORKER = Path(__file__).with_name("worker.py")


@dataclass
class Outcome:
    """What a target did.

    Attributes:
        inputs: how many it was fed.
        problems: by the input's number, what was amiss.
        grown: by how many MiB the process's memory grew at most.
    """

    inputs: int = 0
    problems: dict[int, str] = field(default_factory=dict)
    grown: int = 0


def run(name: str, count: int, seed: int, folder: Path, seconds: float = 30) -> Outcome:
    """Feeds a target inputs.

    Args:
        name: of the target.
        count: of inputs.
        seed: of the mutations.
        folder: where inputs are written.
        seconds: the longest time for one input, or for a worker's start.
    """
    outcome, start = Outcome(), 0
    while start < count:
        last = _worker(name, seed, start, count, folder, seconds, outcome)
        if last < start:
            raise RuntimeError(f"the worker of {name} does not start: {outcome.problems}")
        start = last + 1
    outcome.inputs = count
    return outcome


def _worker(
    name: str, seed: int, start: int, stop: int, folder: Path, seconds: float, outcome: Outcome
) -> int:
    """Runs one worker until its end; the number of the last input that it took."""
    command = [sys.executable, str(_WORKER), name, *map(str, (seed, start, stop, folder))]
    # One thread, so that where a crash is does not depend on the machine.
    environment = os.environ | {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    last, held_up = start - 1, threading.Event()
    with (
        tempfile.TemporaryFile() as errors,
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment
        ) as process,
    ):
        assert process.stdout is not None

        def give_up() -> None:
            held_up.set()
            process.kill()

        timer = threading.Timer(4 * seconds, give_up)
        timer.start()
        for line in process.stdout:
            timer.cancel()
            if line.startswith("done"):
                outcome.grown = max(outcome.grown, int(line.split()[1]))
                break
            if line.startswith("{"):
                told = json.loads(line)
                outcome.problems[told["index"]] = told["problem"]
            else:
                last = int(line)
            timer = threading.Timer(seconds, give_up)
            timer.start()
        timer.cancel()
        code = process.wait()
        errors.seek(0)
        said = errors.read().decode(errors="replace")
    if held_up.is_set():
        outcome.problems[last] = f"hangs: over {seconds} s"
    elif code < 0:
        outcome.problems[last] = f"crash: {signal.Signals(-code).name}"
    elif code > 0:
        outcome.problems[last] = f"the worker failed: {said[-600:]}"
    return last
