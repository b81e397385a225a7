"""Runs: what they leave behind, how they end, and that they go on as if they had not."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import batch, dataset, network, optimizer, score, train_settings, trainer

from tfseg.train import NonFiniteLoss, RunDirError


def state(made):
    """All that a run's future depends on."""
    variables = [*made.model.variables, *made._step.rule.optimizer.variables]
    averages = made._step.average.averages if made._step.average else []
    return [v.numpy() for v in [*variables, *averages, made._step.progress.step]]


def same(a, b):
    for x, y in zip(state(a), state(b), strict=True):
        np.testing.assert_array_equal(x, y)


def rows(run_dir):
    with (run_dir / "log.csv").open() as file:
        return [
            {k: v for k, v in r.items() if k != "images_per_second"} for r in csv.DictReader(file)
        ]


class Signal(keras.callbacks.Callback):
    """Sends a signal to this process during the given batch."""

    def __init__(self, kind, batch):
        super().__init__()
        self.kind, self.batch = kind, batch

    def on_train_batch_begin(self, batch, logs=None):
        if batch == self.batch:
            os.kill(os.getpid(), self.kind)


@pytest.fixture
def unbroken(tmp_path):
    made = trainer(tmp_path / "unbroken")
    made.run()
    return made


def test_a_killed_run_ends_in_the_same_bits(tmp_path):
    run_dir = tmp_path / "killed"
    script = Path(__file__).with_name("killed.py")
    done = subprocess.run([sys.executable, str(script), str(run_dir)], check=False)
    assert done.returncode == -signal.SIGKILL
    options = {
        "settings": train_settings(checkpoint_every=4, validate_every=6),
        "validate": score,
    }
    resumed = trainer(run_dir, resume=True, **options)
    assert resumed.start == 8
    outcome = resumed.run()
    unbroken = trainer(tmp_path / "unbroken", **options)
    assert unbroken.run() == outcome
    same(resumed, unbroken)
    assert rows(run_dir) == rows(tmp_path / "unbroken")
    for name in ("best.json", "best.weights.h5", "last.weights.h5"):
        a, b = run_dir / name, tmp_path / "unbroken" / name
        assert a.exists()
        assert a.stat().st_size == b.stat().st_size


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_after_the_step(tmp_path, unbroken, capsys, kind):
    handler = signal.getsignal(kind)
    stopped = trainer(tmp_path / "run", callbacks=[Signal(kind, 6)])
    outcome = stopped.run()
    assert (outcome.step, outcome.interrupted) == (7, kind.name)
    assert f"{kind.name}: stopped after step 7 of 12" in capsys.readouterr().err
    assert signal.getsignal(kind) is handler
    resumed = trainer(tmp_path / "run", resume=True)
    assert resumed.start == 7
    outcome = resumed.run()
    assert (outcome.step, outcome.interrupted) == (12, None)
    same(resumed, unbroken)


def test_a_second_signal_acts_at_once(tmp_path):
    callbacks = [Signal(signal.SIGINT, 6), Signal(signal.SIGINT, 6)]
    # Programs started in the background of a script ignore it.
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            trainer(tmp_path / "run", callbacks=callbacks).run()
    finally:
        signal.signal(signal.SIGINT, handler)


def test_a_loss_that_is_not_finite_names_its_samples_and_spares_the_state(tmp_path, unbroken):
    # Batch 5 is bad; values are looked at after step 8.
    broken = trainer(tmp_path / "run", corrupt=5)
    with pytest.raises(NonFiniteLoss, match=r"at step 5 .* is nan.* 5-0, 5-1, 5-2, 5-3\. ") as e:
        broken.run()
    assert (e.value.step, e.value.names) == (5, ["5-0", "5-1", "5-2", "5-3"])
    assert [r["step"] for r in rows(tmp_path / "run")] == ["4"]
    resumed = trainer(tmp_path / "run", resume=True)
    assert resumed.start == 5
    resumed.run()
    same(resumed, unbroken)


def test_float16_passes_over_the_batch_and_keeps_its_scale(tmp_path):
    settings = train_settings(precision="float16")
    stopped = trainer(
        tmp_path / "run", corrupt=5, settings=settings, callbacks=[Signal(signal.SIGINT, 6)]
    )
    stopped.run()
    resumed = trainer(tmp_path / "run", settings=settings, corrupt=5, resume=True)
    resumed.run()
    logged = rows(tmp_path / "run")
    assert [float(r["loss_scale"]) for r in logged] == [2.0**15, 2.0**14, 2.0**14]
    assert all(np.isfinite(float(r["loss"])) for r in logged)
    assert int(resumed._step.loss_scale.finite_steps) == 6


def test_validates_saves_and_reports(tmp_path):
    seen = {}

    def validate(model):
        step = int(made._progress.step)
        seen[step] = [v.numpy() for v in model.variables]
        return {"score": {4: 1.0, 8: 3.0, 12: 2.0}[step]}

    image = np.zeros((2, 4, 4, 3), np.uint8)
    made = trainer(
        tmp_path / "run",
        settings=train_settings(validate_every=4, log_every=6),
        validate=validate,
        log_images=lambda model: {"picture": image},
    )
    outcome = made.run()
    assert (outcome.step, outcome.interrupted, outcome.best) == (12, None, 3.0)
    assert json.loads((tmp_path / "run/best.json").read_text()) == {
        "metric": "score",
        "value": 3.0,
        "step": 8,
    }
    assert [(r["step"], r["split"], r["score"]) for r in rows(tmp_path / "run")] == [
        ("4", "validation", "1.0"),
        ("6", "train", ""),
        ("8", "validation", "3.0"),
        ("12", "train", ""),
        ("12", "validation", "2.0"),
    ]
    # Validation sees the average, not the weights; so do the saved files.
    for name, step in (("best", 8), ("last", 12)):
        model = network("batch", dropout=0.3)
        model.load_weights(tmp_path / f"run/{name}.weights.h5")
        for a, b in zip(model.variables, seen[step], strict=True):
            if "seed" not in a.name:
                np.testing.assert_array_equal(a.numpy(), b)
    assert np.abs(seen[12][0] - made.model.variables[0].numpy()).max() > 1e-3
    (events,) = (tmp_path / "run/tensorboard").iterdir()
    tags = {
        (v.tag, e.step)
        for e in tf.compat.v1.train.summary_iterator(str(events))
        for v in e.summary.value
    }
    assert {("train/loss", 6), ("train/learning_rate", 12)} <= tags
    assert {("validation/score", 8), ("picture", 8)} <= tags


def test_logs_the_mean_loss_and_the_rate_of_the_last_step(tmp_path):
    losses = []

    class Keep(keras.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            losses.append(float(logs["loss"]))

    trainer(tmp_path / "run", callbacks=[Keep()]).run()
    logged = rows(tmp_path / "run")
    means = np.reshape(losses, (3, 4)).mean(1)
    np.testing.assert_allclose([float(r["loss"]) for r in logged], means, rtol=1e-6)
    rates = [0.1 * (1 - step / 12) ** 0.9 for step in (3, 7, 11)]
    np.testing.assert_allclose([float(r["learning_rate"]) for r in logged], rates, rtol=1e-5)


def test_callbacks_see_epochs_and_may_stop_the_run(tmp_path):
    calls = []

    class Stop(keras.callbacks.Callback):
        def on_epoch_begin(self, epoch, logs=None):
            calls.append(("begin", epoch))

        def on_epoch_end(self, epoch, logs=None):
            calls.append(("end", epoch, logs["val_score"], "loss" in logs))
            self.model.stop_training = epoch == 1

    made = trainer(
        tmp_path / "run",
        settings=train_settings(validate_every=4),
        validate=lambda model: {"score": 0.5},
        callbacks=[Stop()],
    )
    assert made.run().step == 8
    assert calls == [("begin", 0), ("end", 0, 0.5, True), ("begin", 1), ("end", 1, 0.5, True)]


def test_a_validation_that_failed_is_made_up_for(tmp_path):
    settings = train_settings(validate_every=6)
    made = trainer(tmp_path / "run", settings=settings, validate=lambda model: {"other": 1.0})
    with pytest.raises(ValueError, match="best_metric is 'score', but validation gives other"):
        made.run()
    resumed = trainer(tmp_path / "run", settings=settings, validate=score, resume=True)
    assert resumed.start == 6
    resumed.run()
    validations = [r["step"] for r in rows(tmp_path / "run") if r["split"] == "validation"]
    assert validations == ["6", "12"]


def test_an_error_of_the_data_loses_no_step(tmp_path):
    def failing(start):
        def check(sample):
            good = tf.debugging.Assert(sample["name"][0] != "7-0", ["cannot read 7-0"])
            with tf.control_dependencies([good]):
                return {key: tf.identity(value) for key, value in sample.items()}

        return dataset(start).map(check)

    with pytest.raises(tf.errors.InvalidArgumentError, match="cannot read 7-0"):
        trainer(tmp_path / "a", data=failing).run()
    assert trainer(tmp_path / "a", resume=True).start == 7
    with pytest.raises(ValueError, match="ended before batch 3"):
        trainer(tmp_path / "b", data=lambda start: dataset(start).take(3)).run()
    assert trainer(tmp_path / "b", resume=True).start == 3


def test_a_batch_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="'image' has 6 rows, but batch_size is 4"):
        trainer(tmp_path / "run", data=lambda start: dataset(start, rows=6))


def test_a_run_folder_is_not_overwritten(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/notes.txt").touch()
    with pytest.raises(RunDirError, match="--resume"):
        trainer(tmp_path / "run")
    with pytest.raises(RunDirError, match="no folder"):
        trainer(tmp_path / "absent", resume=True)
    with pytest.raises(RunDirError, match="is a file"):
        trainer(tmp_path / "run/notes.txt")
    # Killed before its first checkpoint: the seed gives the same start.
    assert trainer(tmp_path / "run", resume=True).start == 0


def test_a_checkpoint_of_another_model_is_refused(tmp_path, unbroken):
    other = {
        "wider": {"build": lambda: network("batch", dropout=0.3, aux=True)},
        "other shape": {"build": lambda: network("batch", dropout=0.3, classes=5)},
        "other precision": {"settings": train_settings(precision="float16")},
        "without average": {"settings": train_settings(optimizer=optimizer(momentum=0.9))},
    }
    for options in other.values():
        with pytest.raises(RunDirError, match="ckpt-12 is of another model"):
            trainer(tmp_path / "unbroken", resume=True, **options)


def test_keeps_as_many_checkpoints_as_asked(tmp_path):
    settings = train_settings(checkpoint_every=2, keep_checkpoints=2)
    trainer(tmp_path / "run", settings=settings).run()
    kept = sorted(p.name for p in (tmp_path / "run/checkpoints").glob("*.index"))
    assert kept == ["ckpt-10.index", "ckpt-12.index"]


def test_the_seed_decides_the_start(tmp_path):
    made = [trainer(tmp_path / str(i), seed=seed) for i, seed in enumerate((1, 1, 2))]
    same(made[0], made[1])
    kernels = [m.model.get_layer("head").kernel.numpy() for m in made]
    assert not np.array_equal(kernels[0], kernels[2])


def test_learns(tmp_path):
    """The labels are the image's first channel, cut in three: a tiny network can tell."""
    settings = train_settings(steps=200, optimizer=optimizer(learning_rate=0.5, momentum=0.9))
    made = trainer(tmp_path / "run", build=lambda: network("batch"), settings=settings)
    made.run()
    fresh = batch(1000, rows=16)
    found = made.model(fresh["image"]).numpy().argmax(-1)
    scored = fresh["mask"] != 255
    assert (found == fresh["mask"])[scored].mean() > 0.85
