from types import SimpleNamespace

import keras
import numpy as np
import pytest

from tfseg.experiment import measure_batch_statistics
from tfseg.train import RunDirError
from tfseg.train.batch_statistics import estimate_batch_statistics
from tfseg.train.locks import RunLock


@pytest.fixture
def model():
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 2))
    x = keras.layers.Conv2D(3, 3, name="conv")(image)
    x = keras.layers.BatchNormalization(name="first", epsilon=1e-9)(x)
    x = keras.layers.BatchNormalization(name="frozen", trainable=False)(x)
    x = keras.layers.ReLU()(x)
    x = keras.layers.Conv2D(4, 3, strides=4)(x)
    x = keras.layers.BatchNormalization(name="second", epsilon=1e-9)(x)
    return keras.Model(image, x)


@pytest.fixture
def batches():
    random = np.random.default_rng(0)
    shape = (3, 9, 11, 2)
    return [random.normal(i, 1 + i, shape).astype("float32") for i in range(4)]


def _moments(x):
    rows = np.asarray(x, np.float64).reshape(-1, x.shape[-1])
    return rows.mean(0), rows.var(0, ddof=1)


def _by_hand(model, batches):
    """Averages of each batch's statistics, with a norm in front of the second by the batch's."""
    first, second = [], []
    norm = model.get_layer("first")
    for batch in batches:
        x = model.get_layer("conv")(batch).numpy()
        first.append(_moments(x))
        x = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 1e-9)
        x = x * norm.gamma.numpy() + norm.beta.numpy()
        x = np.maximum(model.get_layer("frozen")(x, training=False).numpy(), 0)
        second.append(_moments(model.layers[-2](x).numpy()))
    return [[np.mean(values, axis=0) for values in zip(*s, strict=True)] for s in (first, second)]


def test_averages_over_batches(model, batches):
    model.get_layer("first").gamma.assign([2, -1, 0.5])
    kept = [v.numpy() for v in model.trainable_variables]
    frozen = [v.numpy() for v in model.get_layer("frozen").weights]
    expected = _by_hand(model, batches[:3])
    # Moving statistics of before leave no trace.
    model.get_layer("second").moving_mean.assign([7, 7, 7, 7])
    estimate_batch_statistics(model, batches, 3)
    for name, (mean, variance) in zip(("first", "second"), expected, strict=True):
        np.testing.assert_allclose(model.get_layer(name).moving_mean, mean, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model.get_layer(name).moving_variance, variance, rtol=1e-4)
    for before, variable in zip(kept, model.trainable_variables, strict=True):
        np.testing.assert_array_equal(before, variable)
    for before, variable in zip(frozen, model.get_layer("frozen").weights, strict=True):
        np.testing.assert_array_equal(before, variable)


def test_inference_equals_training_on_the_measured_batch(model, batches):
    """Up to the unbiased variance, which is (m / (m - 1)) as large."""
    estimate_batch_statistics(model, batches, 1)
    trained = model(batches[0], training=True).numpy()
    second = trained.size // trained.shape[-1]
    estimate_batch_statistics(model, batches, 1)
    inferred = model(batches[0], training=False).numpy()
    assert np.abs(inferred - trained).max() < 3 / second * np.abs(trained).max()


def test_what_cannot_be_measured(model, batches):
    with pytest.raises(ValueError, match="there are 4 batches, 5 were asked for"):
        estimate_batch_statistics(model, batches, 5)
    model.trainable = False
    with pytest.raises(ValueError, match="no batch norms that train"):
        estimate_batch_statistics(model, batches, 1)


def test_nothing_is_measured_into_a_folder_that_another_run_holds(tmp_path):
    experiment = SimpleNamespace(train=SimpleNamespace(batch_statistics=3))
    lock = RunLock(tmp_path)
    with pytest.raises(RunDirError, match="is in use by process"):
        measure_batch_statistics(experiment, tmp_path, None)
    lock.release()
