"""Two replicas against one device; `test_replicas.py` runs this in a process of its own.

The devices are two logical CPUs, which must be made before TensorFlow starts.
"""

import os
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from tiny import (  # noqa: E402
    LOSS,
    Stepper,
    batch,
    dataset,
    network,
    optimizer,
    train_settings,
    trainer,
)

from tfseg.losses import SemanticLoss  # noqa: E402
from tfseg.train import make_strategy  # noqa: E402
from tfseg.train.ema import WeightAverage  # noqa: E402
from tfseg.train.precision import LossScale, building_in  # noqa: E402

BATCHES = [batch(k) for k in range(5)]


@pytest.fixture(scope="module")
def mirrored():
    strategy = make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == 2
    return strategy


def mirrors(strategy, variables):
    """Each replica's values of Keras variables."""
    return [
        [local.numpy() for local in strategy.experimental_local_results(v.value)] for v in variables
    ]


def broken(k):
    """A batch whose last image, which the second replica gets, has an infinite pixel."""
    made = batch(k)
    made["image"][-1, 0, 0, 0] = np.inf
    return made


CASES = {
    "synchronized norm, weights, momentum, head rate": {
        "build": lambda: network("sync_batch", aux=True),
        "settings": optimizer(momentum=0.9, weight_decay=0.01, head_multiplier=5),
    },
    "clipping": {"build": network, "settings": optimizer(momentum=0.9, clip_norm=0.05)},
    "micro-batches": {"build": network, "settings": optimizer(momentum=0.9), "accumulate": 2},
    "nadam": {"build": network, "settings": optimizer(name="nadam", learning_rate=0.01)},
    "adamw": {
        "build": network,
        "settings": optimizer(name="adamw", learning_rate=0.01, weight_decay=0.1),
    },
    "unnormalised": {
        "build": network,
        "settings": optimizer(learning_rate=1e-3),
        "loss": SemanticLoss(reduction="sum"),
    },
}


@pytest.mark.parametrize("name", CASES)
def test_equal_one_device(mirrored, name):
    """Nearly all labels lie in the second replica's half: a mean of means would differ."""
    counted = [float(LOSS(tf.zeros((2, 8, 8, 3)), half)["cross_entropy"][1]) for half in halves()]
    assert counted[1] > 4 * counted[0]
    case = CASES[name]
    one, two = (
        Stepper(**case, strategy=s, average=lambda m: WeightAverage(m, 0.5))
        for s in (None, mirrored)
    )
    for a, b in zip(one.run(BATCHES), two.run(BATCHES), strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    for a, b in zip(one.values(), two.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
    for a, b in zip(one.average.averages, two.average.averages, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-5, atol=1e-5)
    for first, second in mirrors(mirrored, two.model.variables):
        np.testing.assert_array_equal(first, second)


def halves():
    return [{k: v[rows] for k, v in BATCHES[0].items()} for rows in (slice(2), slice(2, 4))]


def test_a_norm_that_is_not_synchronized_is_another_network(mirrored):
    """That the equality above is the synchronization's doing."""
    one, two = (
        Stepper(lambda: network("batch"), optimizer(), strategy=s) for s in (None, mirrored)
    )
    one.run(BATCHES)
    two.run(BATCHES)
    difference = one.model.get_layer("head").kernel - two.model.get_layer("head").kernel
    assert np.abs(difference).max() > 1e-3


@pytest.mark.parametrize("norm", ["batch", "sync_batch"])
def test_an_overflow_on_one_replica_alone_is_passed_over_by_both(mirrored, norm):
    def build():
        with building_in("float16"):
            return network(norm, dropout=0.5)

    with_scale = LossScale()
    stepper = Stepper(build, optimizer(momentum=0.9), strategy=mirrored, loss_scale=with_scale)
    stepper.run(BATCHES[:1])
    before = mirrors(mirrored, [*stepper.model.variables, *stepper.rule.optimizer.variables])
    stepper.run([broken(1)])
    after = mirrors(mirrored, [*stepper.model.variables, *stepper.rule.optimizer.variables])
    for a, b in zip(before, after, strict=True):
        np.testing.assert_array_equal(a, b)
    assert float(with_scale.scale) == LossScale.INITIAL / 2
    assert (int(stepper.progress.step), int(stepper.progress.stopped_at)) == (2, -1)
    stepper.run(BATCHES[2:])
    trained = mirrors(mirrored, stepper.model.trainable_variables)
    assert all(np.isfinite(first).all() for first, _ in trained)
    for first, second in trained:
        np.testing.assert_array_equal(first, second)


def test_the_scale_grows_again_on_both(mirrored, monkeypatch):
    monkeypatch.setattr(LossScale, "GROWTH_STEPS", 2)

    def build():
        with building_in("float16"):
            return network("sync_batch")

    stepper = Stepper(build, optimizer(), strategy=mirrored, loss_scale=LossScale())
    found = stepper.run([broken(0), *BATCHES[1:]])
    scales = [scalars["loss_scale"] / LossScale.INITIAL for scalars in found]
    assert scales == [1, 0.5, 0.5, 1, 1]
    for first, second in mirrors(mirrored, stepper.model.variables):
        np.testing.assert_array_equal(first, second)


def test_bfloat16_equals_one_device_as_far_as_it_goes(mirrored):
    def build():
        with building_in("bfloat16"):
            return network("sync_batch")

    settings = optimizer(momentum=0.9)
    one, two = (Stepper(build, settings, strategy=s) for s in (None, mirrored))
    exact = Stepper(lambda: network("sync_batch"), settings)
    for stepper in (one, two, exact):
        stepper.run(BATCHES)
    for a, b, c in zip(one.values(), two.values(), exact.values(), strict=True):
        np.testing.assert_allclose(a, b, atol=0.01)
        np.testing.assert_allclose(a, c, atol=0.05)
    for first, second in mirrors(mirrored, two.model.variables):
        np.testing.assert_array_equal(first, second)


def test_a_loss_that_is_not_finite_on_one_replica_alone_stops_both(mirrored):
    stepper = Stepper(lambda: network("batch"), optimizer(), strategy=mirrored)
    before = mirrors(mirrored, stepper.model.variables)
    stepper.run([broken(0), BATCHES[1]])
    for a, b in zip(before, mirrors(mirrored, stepper.model.variables), strict=True):
        np.testing.assert_array_equal(a, b)
    assert int(stepper.progress.stopped_at) == 0


def test_replicas_drop_different_units(mirrored, tmp_path):
    made = trainer(tmp_path / "run", strategy=mirrored)
    seeds = [v for v in made.model.variables if v.name == "seed_generator_state"]
    (first, second) = mirrors(mirrored, seeds)[0]
    assert list(second - first) == [1, 0]
    made.run()
    again = trainer(tmp_path / "run", strategy=mirrored, resume=True)
    seeds = [v for v in again.model.variables if v.name == "seed_generator_state"]
    (first_again, second_again) = mirrors(mirrored, seeds)[0]
    assert list(first_again) == [first[0], 12]
    assert list(second_again) == [second[0], 12]


class InterruptAt(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 4:
            os.kill(os.getpid(), signal.SIGINT)


def test_a_run_goes_on_with_two_replicas(mirrored, tmp_path):
    options = {
        "build": lambda: network("sync_batch", dropout=0.3),
        "settings": train_settings(strategy="mirrored"),
    }
    unbroken = trainer(tmp_path / "a", **options)
    unbroken.run()
    stopped = trainer(tmp_path / "b", callbacks=[InterruptAt()], **options)
    assert stopped.run().step == 5
    resumed = trainer(tmp_path / "b", resume=True, **options)
    assert (resumed.strategy.num_replicas_in_sync, resumed.start) == (2, 5)
    resumed.run()
    for a, b in zip(
        mirrors(unbroken.strategy, unbroken.model.variables),
        mirrors(resumed.strategy, resumed.model.variables),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


def test_batches_that_cannot_be_cut_evenly_are_refused(mirrored, tmp_path):
    with pytest.raises(ValueError, match="make it a multiple of 4"):
        trainer(
            tmp_path / "run",
            settings=train_settings(batch_size=6, accumulate=2),
            data=lambda start: dataset(start, rows=6),
            strategy=mirrored,
        )
    with pytest.raises(ValueError, match="one device only"):
        trainer(tmp_path / "run", settings=train_settings(jit_compile=True), strategy=mirrored)
    assert not (tmp_path / "run").exists()
