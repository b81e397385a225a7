"""Two workers: `worker.py`, in two processes on this host."""

import contextlib
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny import network, optimizer, score, train_settings, trainer

#: seconds in which a worker ends after another one's death, as docs/scaling.md says
LIMIT = 120


@contextlib.contextmanager
def two_workers(folder, task):
    """Both processes; none is left over."""
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        addresses = ",".join(f"127.0.0.1:{s.getsockname()[1]}" for s in (one, two))
    script = Path(__file__).with_name("worker.py")
    environment = {k: v for k, v in os.environ.items() if k != "TF_CONFIG"}
    started = []
    try:
        for index in range(2):
            with (folder / f"{task}-{index}.log").open("w") as log:
                command = [sys.executable, script, str(index), addresses, folder, task]
                started.append(subprocess.Popen(command, stdout=log, stderr=log, env=environment))
        yield started
    finally:
        for process in started:
            process.kill()
            process.wait()


def log(folder, task, index):
    return (folder / f"{task}-{index}.log").read_text()


def finish(folder, task):
    """Runs both to their good end."""
    with two_workers(folder, task) as started:
        codes = [process.wait(timeout=900) for process in started]
    assert codes == [0, 0], log(folder, task, 0) + log(folder, task, 1)


@pytest.fixture(scope="module")
def together(tmp_path_factory):
    folder = tmp_path_factory.mktemp("together")
    finish(folder, "together")
    return folder


def both(folder, name):
    """What the workers have left: each variable and the like, as a pair."""
    first, second = (np.load(folder / f"{name}-{index}.npz") for index in range(2))
    assert set(first) == set(second)
    return {key: (first[key], second[key]) for key in first}


def weights(found):
    return {key: pair for key, pair in found.items() if key.startswith("v")}


def assert_equal_on_both(found):
    for key, (first, second) in found.items():
        np.testing.assert_array_equal(first, second, err_msg=key)


@pytest.mark.slow
def test_workers_are_equal_to_each_other_and_to_one_process(together, tmp_path):
    found = both(together, "whole")
    assert_equal_on_both(found)
    settings = train_settings(
        checkpoint_every=4,
        validate_every=6,
        optimizer=optimizer(momentum=0.9, clip_norm=0.5, ema_decay=0.9),
    )
    alone = trainer(
        tmp_path / "alone",
        build=lambda: network("sync_batch"),
        settings=settings,
        validate=score,
    )
    outcome = alone.run()
    for (first, _), variable in zip(weights(found).values(), alone.model.variables, strict=True):
        np.testing.assert_allclose(first, variable.numpy(), rtol=1e-5, atol=1e-5)
    assert outcome.step == found["step"][0] == 12

    def files(run):
        return {p.relative_to(run).parts[0] for p in run.rglob("*")}

    assert files(together / "whole") == files(tmp_path / "alone")
    kept = sorted(p.name for p in (together / "whole/checkpoints").iterdir())
    assert kept == sorted(p.name for p in (tmp_path / "alone/checkpoints").iterdir())
    assert len(list((together / "whole/tensorboard").iterdir())) == 1
    runs = {p.name for p in together.iterdir() if p.is_dir()}
    assert runs == {"whole", "stopped", "dropout", "bfloat16", "float16"}


@pytest.mark.slow
def test_a_signal_to_one_stops_both_and_both_go_on(together):
    """Resumed, the chief validates for longer than TensorFlow waits for a dead worker."""
    for index in range(2):
        assert "SIGTERM: stopped after step 5 of 12" in log(together, "together", index)
    found = both(together, "stopped")
    assert found["start"] == (5, 5)
    assert_equal_on_both(found)
    for key, (first, _) in weights(both(together, "whole")).items():
        np.testing.assert_allclose(first, found[key][0], rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_workers_drop_different_units(together):
    first, second = both(together, "dropout")["seed"]
    assert list(second - first) == [1, 0]


@pytest.mark.slow
def test_an_overflow_on_one_worker_alone_is_passed_over_by_both(together):
    found = both(together, "float16")
    assert_equal_on_both(found)
    assert all(np.isfinite(first).all() for first, _ in found.values() if first.dtype != "<U1")
    # Doubled after three finite steps: after step 2, halved at 5, doubled after 8 and 11.
    assert found["scale"][0] == 4
    whole = weights(both(together, "whole"))
    for name, tolerance in (("float16", 0.3), ("bfloat16", 0.1)):
        found = both(together, name)
        assert_equal_on_both(found)
        for key, (first, _) in weights(found).items():
            assert np.abs(first - whole[key][0]).max() < tolerance


@pytest.mark.slow
@pytest.mark.parametrize("how", ["SIGKILL", "SIGSTOP"])
def test_a_dead_worker_ends_the_other_and_both_go_on(together, tmp_path, how):
    with two_workers(tmp_path, how) as (chief, _):
        assert chief.wait(timeout=900) == 1
        seconds = time.time() - float((tmp_path / "signalled").read_text())
    assert "another worker has died or cannot be reached" in log(tmp_path, how, 0)
    assert seconds < LIMIT
    if how == "SIGKILL":
        finish(tmp_path, "resume")
        found = both(tmp_path, "killed")
        assert found["start"] == (6, 6)
        assert_equal_on_both(found)
        for key, (first, _) in weights(both(together, "whole")).items():
            np.testing.assert_array_equal(first, found[key][0])
