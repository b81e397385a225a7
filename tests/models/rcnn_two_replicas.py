"""Detectors on two replicas against one device; `test_rcnn_training.py` runs this by itself.

The devices are two logical CPUs, which must be made before TensorFlow starts.
"""

import keras
import numpy as np
import pytest
import tensorflow as tf

tf.config.set_logical_device_configuration(
    tf.config.list_physical_devices("CPU")[0], [tf.config.LogicalDeviceConfiguration()] * 2
)

from rcnn_training import MASK, OBJECTS, batch, detector, loss  # noqa: E402

from tfseg import config  # noqa: E402
from tfseg.train import make_strategy  # noqa: E402
from tfseg.train.optimizers import UpdateRule  # noqa: E402
from tfseg.train.step import Progress, TrainStep  # noqa: E402

SETTINGS = config.Optimizer(learning_rate=1e-3, momentum=0.9)


@pytest.fixture(scope="module")
def mirrored():
    strategy = make_strategy("mirrored")
    assert strategy.num_replicas_in_sync == 2
    return strategy


def _run(strategy, made, norm, steps):
    """The scalars of some steps on one batch, and the weights after them."""
    keras.utils.set_random_seed(4)
    with strategy.scope():
        model = detector(MASK, proposals=16, norm=norm)
        rule = UpdateRule(SETTINGS, model)
    data = strategy.experimental_distribute_dataset(
        tf.data.Dataset.from_tensors(made).repeat(steps)
    )
    step = TrainStep(
        model,
        loss(roi_samples=24),
        rule,
        Progress(),
        strategy=strategy,
        learning_rate=lambda step: tf.constant(SETTINGS.learning_rate),
        signature=data.element_spec,
    )
    scalars = [{k: float(v) for k, v in step(some).items()} for some in data]
    return scalars, {v.path: v.numpy() for v in model.trainable_variables}


@pytest.mark.parametrize(
    ("objects", "norm", "steps", "tolerance"),
    [
        # Each replica has an image; of some batches one of no object, of one both.
        ((OBJECTS[0], ()), "frozen_batch", 2, 1e-4),
        (((), ()), "frozen_batch", 2, 1e-4),
        # The last maps have six cells: their statistics enlarge what rounding leaves.
        (OBJECTS, "sync_batch", 1, 1e-2),
    ],
)
def test_equal_one_device(mirrored, objects, norm, steps, tolerance):
    made = batch(objects)
    (scalars, weights), (expected, wanted) = (
        _run(strategy, made, norm, steps) for strategy in (mirrored, tf.distribute.get_strategy())
    )
    for a, b in zip(scalars, expected, strict=True):
        assert np.isfinite(list(a.values())).all()
        assert a.pop("gradient_norm") == pytest.approx(b.pop("gradient_norm"), rel=tolerance)
        assert a == pytest.approx(b, rel=1e-4)
    for path, value in wanted.items():
        close = {"rtol": tolerance, "atol": 0.1 * tolerance}
        np.testing.assert_allclose(weights[path], value, err_msg=path, **close)
