"""Runs that are killed again and again: ``killed_at_random.py FOLDER KILLS SEED``.

FOLDER/unbroken is a run of its own, FOLDER/killed one that is killed KILLS times by SIGKILL: every
other time at a random moment, else when a random checkpoint is being written. Printed is a line of
JSON for each process of the killed run: the step it began at, and where it was killed.

Each run is a fork of this process, which has imported TensorFlow but not begun to use it: that
spares the seconds of its import.
"""

import json
import os
import random
import signal
import sys
import time
from pathlib import Path

from tiny import score, train_settings, trainer


def train(run_dir, steps, pipe):
    settings = train_settings(steps=steps, checkpoint_every=1, validate_every=7)
    made = trainer(run_dir, settings=settings, validate=score, resume=run_dir.exists())
    os.write(pipe, str(made.start).encode() + b"\n")
    made.run()


def start(run_dir, steps):
    """A process that trains, and its first step."""
    reading, writing = os.pipe()
    process = os.fork()
    if not process:
        status = 1
        try:
            train(run_dir, steps, writing)
            status = 0
        finally:
            os._exit(status)
    os.close(writing)
    with os.fdopen(reading) as file:
        return process, int(file.readline())


def kill(process, ready):
    """Kills the process once ``ready()``; whether it was alive."""
    while not ready():
        if os.waitpid(process, os.WNOHANG)[0] == process:
            return False
        time.sleep(0.0002)
    os.kill(process, signal.SIGKILL)
    return os.waitpid(process, 0)[1] == signal.SIGKILL


def after(seconds):
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def names(folder):
    """The files of a folder, which comes and goes."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def while_writing(folder, step, seconds):
    """When so many seconds have passed since the checkpoint of a step was begun."""
    begun = []

    def ready():
        if not begun and any(name.startswith(f"ckpt-{step}") for name in names(folder)):
            begun.append(time.monotonic())
        return bool(begun) and time.monotonic() - begun[0] >= seconds

    return ready


def main(folder, kills, seed):
    begun, steps = time.monotonic(), 10 + 4 * kills
    process, _ = start(folder / "unbroken", steps)
    assert os.waitpid(process, 0)[1] == 0
    duration = time.monotonic() - begun
    rng, run_dir, done = random.Random(seed), folder / "killed", 0
    part = run_dir / "checkpoints" / "part"
    while done < kills:
        process, step = start(run_dir, steps)
        ready = after(rng.uniform(0, duration / 2))
        if done % 2 == 0:
            ready = while_writing(part, step + rng.randint(1, 6), rng.uniform(0, 0.01))
        killed = kill(process, ready)
        print(json.dumps({"start": step, "killed": killed, "torn": names(part)}), flush=True)
        done += killed
        if not killed:  # it ended first: once more from the start
            run_dir.rename(folder / f"ended-{done}-{step}")
    process, step = start(run_dir, steps)
    print(json.dumps({"start": step, "killed": False, "torn": []}), flush=True)
    assert os.waitpid(process, 0)[1] == 0


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
