"""Runs on a machine that kills, tears, fills up and is shared."""

import json
import logging
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tiny import network, score, train_settings, trainer

from tfseg import runs
from tfseg.train import RunDirError, SaveError, checkpoints
from tfseg.train.locks import RunLock

SETTINGS = {"steps": 8, "checkpoint_every": 2, "keep_checkpoints": 3}


def make(run_dir, **options):
    settings = train_settings(**{**SETTINGS, **options.pop("settings", {})})
    return trainer(run_dir, settings=settings, build=lambda: network("batch"), **options)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A run of 8 steps with the checkpoints 4, 6 and 8, and its weights."""
    run_dir = tmp_path_factory.mktemp("finished") / "run"
    made = make(run_dir)
    made.run()
    return run_dir, [v.numpy() for v in made.model.variables]


@pytest.fixture
def run_dir(finished, tmp_path):
    """A copy of that run, for damage."""
    return shutil.copytree(finished[0], tmp_path / "run")


def names(run_dir):
    return sorted(p.name for p in (run_dir / "checkpoints").glob("*.index"))


def truncate(path, share=0.5):
    os.truncate(path, int(path.stat().st_size * share))


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


DAMAGE = {
    "torn data": ("data-00000-of-00001", truncate),
    "empty data": ("data-00000-of-00001", lambda path: truncate(path, 0)),
    "flipped data": ("data-00000-of-00001", flip),
    "missing data": ("data-00000-of-00001", Path.unlink),
    "torn index": ("index", truncate),
    "empty index": ("index", lambda path: truncate(path, 0)),
    "flipped index": ("index", flip),
    "foreign": ("index", lambda path: path.write_bytes(b"<!DOCTYPE html>" * 100)),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_used(
    run_dir, finished, caplog, damage
):
    suffix, apply = DAMAGE[damage]
    apply(run_dir / "checkpoints" / f"ckpt-8.{suffix}")
    with caplog.at_level(logging.WARNING):
        resumed = make(run_dir, resume=True)
    assert resumed.start == 6
    assert "ckpt-8 is damaged: " in caplog.text
    assert "step 6 is used" in caplog.text
    assert (run_dir / "checkpoints/unusable/ckpt-8.index").exists()
    resumed.run()
    for found, expected in zip(resumed.model.variables, finished[1], strict=True):
        np.testing.assert_array_equal(found.numpy(), expected)
    assert names(run_dir) == ["ckpt-4.index", "ckpt-6.index", "ckpt-8.index"]


def test_a_checkpoint_of_another_model_is_set_aside_too(run_dir, tmp_path, caplog):
    make(tmp_path / "other", settings={"precision": "float16"}).run()
    for file in (tmp_path / "other/checkpoints").glob("ckpt-8.*"):
        shutil.copy(file, run_dir / "checkpoints")
    assert make(run_dir, resume=True).start == 6
    assert "ckpt-8 is of another model, optimizer or precision" in caplog.text


def test_no_usable_checkpoint_is_an_error_that_says_why_of_each(run_dir):
    for step, suffix in ((4, "index"), (6, "data-00000-of-00001"), (8, "index")):
        truncate(run_dir / f"checkpoints/ckpt-{step}.{suffix}")
    with pytest.raises(RunDirError, match=r"(?s)none|no checkpoint.*ckpt-8 is .*ckpt-6.*ckpt-4"):
        make(run_dir, resume=True)
    # Nothing was moved, and the folder is free for another try.
    assert len(names(run_dir)) == 3
    RunLock(run_dir).release()


def test_random_damage_gives_no_other_error(run_dir):
    """Whatever bytes of the newest checkpoint change, it is used, or the one before."""
    rng = np.random.default_rng(0)
    made = make(run_dir, resume=True)
    state = made._checkpoints
    made._lock.release()
    for suffix in ("index", "data-00000-of-00001"):
        path = run_dir / f"checkpoints/ckpt-8.{suffix}"
        whole = path.read_bytes()
        for _ in range(40):
            data = bytearray(whole)
            for place in rng.integers(0, len(data), rng.integers(1, 4)):
                data[place] = rng.integers(0, 256)
            path.write_bytes(data[: rng.integers(1, len(data))] if rng.random() < 0.3 else data)
            assert state.restore(tf.distribute.get_strategy())
            for file in (run_dir / "checkpoints/unusable").glob("*"):
                file.replace(run_dir / "checkpoints" / file.name)
        path.write_bytes(whole)


def test_what_killed_processes_leave_is_cleared_away(run_dir):
    folder = run_dir / "checkpoints"
    (folder / "part").mkdir()
    (folder / "part/ckpt-9.index").touch()
    (folder / "ckpt-7.data-00000-of-00001").touch()  # killed before its index was moved
    resumed = make(run_dir, resume=True, settings={"steps": 10})
    assert resumed.start == 8
    resumed.run()
    assert {p.name.partition(".")[0] for p in folder.iterdir()} == {"ckpt-6", "ckpt-8", "ckpt-10"}


class Kill(BaseException):
    """Stands for the end of the process: nothing catches it."""


@pytest.mark.parametrize("moment", range(7))
def test_no_moment_of_a_save_is_a_bad_one(run_dir, monkeypatch, moment):
    """The process ends before the nth change of a name on the disk, or wait for it."""
    made = make(run_dir, resume=True, settings={"steps": 10})
    left = [moment]

    def ending(function):
        def call(*arguments, **options):
            left[0] -= 1
            if left[0] < 0:
                raise Kill
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.os, "replace", ending(os.replace))
        patch.setattr(checkpoints, "_sync", ending(checkpoints._sync))
        patch.setattr(Path, "unlink", ending(Path.unlink))
        patch.setattr(checkpoints.shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(Kill):
            made._checkpoints.save(9)
    made._lock.release()
    assert make(run_dir, resume=True).start in (8, 9 if moment > 3 else 8)


def full(*_, **__):
    raise OSError(28, "No space left on device")


def test_a_full_disk_leaves_the_last_good_checkpoint(run_dir, monkeypatch):
    kept = {p.name: p.read_bytes() for p in (run_dir / "checkpoints").glob("ckpt-*")}
    made = make(run_dir, resume=True, settings={"steps": 10})
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "_sync", full)
        with pytest.raises(SaveError, match=r"ckpt-10: No space left .*--resume.*of step 8\)"):
            made.run()
    assert {p.name: p.read_bytes() for p in (run_dir / "checkpoints").glob("*")} == kept
    assert make(run_dir, resume=True, settings={"steps": 10}).run().step == 10


@pytest.mark.parametrize("target", ["save_weights", "write_whole"])
def test_a_full_disk_elsewhere_saves_the_state(run_dir, monkeypatch, target):
    """Here the weights of the best score, or their description, cannot be written."""
    settings = {"steps": 10, "validate_every": 9}
    made = make(run_dir, resume=True, settings=settings, validate=score)
    place = "save_weights" if target == "save_weights" else "replace"
    with monkeypatch.context() as patch:
        if place == "replace":
            patch.setattr(Path, "write_text", full)
        else:
            patch.setattr(type(made.model), "save_weights", full)
        with pytest.raises(SaveError, match=r"cannot write .*No space left on device"):
            made.run()
    assert names(run_dir)[-1] in ("ckpt-8.index", "ckpt-9.index")
    assert make(run_dir, resume=True, settings=settings, validate=score).run().step == 10


def test_tensorflow_says_that_the_disk_is_full(tmp_path):
    """Files of this process may not grow beyond 4 KiB, as if the disk were full."""
    code = """
import resource, signal, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tensorflow as tf
from tfseg.train.checkpoints import Checkpoints
from tfseg.train.errors import SaveError
variable = tf.Variable(tf.zeros(100))
state = Checkpoints(Path(sys.argv[2]), {"x": [variable]}, 2)
state.save(1)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
variable.assign_add(tf.ones(100))
try:
    state.save(2)
except SaveError as e:
    print(e)
print(state.steps(), state.restore(tf.distribute.get_strategy()), float(variable[0]))
"""
    place = tmp_path / "checkpoints"
    command = [sys.executable, "-c", code, str(Path(__file__).parent), str(place)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    message, state = done.stdout.strip().splitlines()
    assert message.startswith(f"cannot write {place}/ckpt-2: ")
    assert "(the newest whole checkpoint is of step 1)" in message
    assert state == "[1] True 0.0"


def test_two_runs_never_write_one_folder(run_dir):
    """The other process says that it holds the lock, and holds it until it is killed."""
    code = (
        "import sys, time; from pathlib import Path; from tfseg.train.locks import RunLock\n"
        "lock = RunLock(Path(sys.argv[1])); print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(run_dir)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            before = sorted(run_dir.rglob("*"))
            with pytest.raises(RunDirError, match=rf"is in use by process {other.pid} on "):
                make(run_dir, resume=True)
            assert sorted(run_dir.rglob("*")) == before
        finally:
            other.kill()
    # The lock of a dead process is none, though its file is there.
    assert (run_dir / RunLock.NAME).read_text().startswith(f"process {other.pid}")
    assert make(run_dir, resume=True).start == 8


def test_a_new_run_and_one_in_the_same_process_respect_the_lock(tmp_path):
    (tmp_path / "run").mkdir()
    first = RunLock(tmp_path / "run")
    with pytest.raises(RunDirError, match=f"in use by process {os.getpid()}"):
        make(tmp_path / "run")
    first.release()
    made = make(tmp_path / "run")
    with pytest.raises(RunDirError, match="in use"):
        RunLock(tmp_path / "run")
    made.run()
    RunLock(tmp_path / "run").release()


def test_a_file_system_without_locks_gives_a_warning(tmp_path, monkeypatch, caplog):
    def flock(*_):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("tfseg.train.locks.fcntl.flock", flock)
    RunLock(tmp_path).release()
    assert "cannot be locked ([Errno 95] Operation not supported): see that no two" in caplog.text


def test_last_weights_tell_their_step(run_dir, tmp_path):
    """A run killed between its last checkpoint and its last weights is not finished."""
    assert runs.trained_steps(run_dir) == 8
    assert runs.trained_steps(tmp_path) is None
    made = make(run_dir, resume=True, settings={"steps": 10})

    def killed(model, path):
        raise Kill

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(made.model), "save_weights", killed)
        with pytest.raises(Kill):
            made.run()
    assert names(run_dir)[-1] == "ckpt-8.index" or runs.trained_steps(run_dir) == 8


@pytest.mark.slow
def test_killed_at_random_moments_it_ends_in_the_same_weights(tmp_path):
    """TFSEG_KILLS and TFSEG_SEED make more kills, and others."""
    kills, seed = os.environ.get("TFSEG_KILLS", "3"), os.environ.get("TFSEG_SEED", "1")
    script = Path(__file__).with_name("killed_at_random.py")
    command = [sys.executable, str(script), str(tmp_path), kills, seed]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert sum(one["killed"] for one in told) == int(kills)
    assert any(one["torn"] for one in told)  # one of them while a checkpoint was written
    assert_equal_weights(tmp_path / "unbroken", tmp_path / "killed")


def assert_equal_weights(a, b):
    for name in ("best.weights.h5", "last.weights.h5"):
        first, second = network("batch", dropout=0.3), network("batch", dropout=0.3)
        first.load_weights(a / name)
        second.load_weights(b / name)
        for x, y in zip(first.weights, second.weights, strict=True):
            np.testing.assert_array_equal(x.numpy(), y.numpy())
    for name in ("best.json", "last.json"):
        assert (a / name).read_text() == (b / name).read_text()
