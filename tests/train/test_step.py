"""The training step on one device."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tiny import LOSS, OfOutputs, Stepper, batch, network, optimizer

from tfseg.losses import SemanticLoss, SparseCrossEntropy
from tfseg.train.ema import WeightAverage
from tfseg.train.precision import LossScale, building_in

BATCHES = [batch(k) for k in range(4)]


def broken(k):
    made = batch(k)
    made["image"][-1, 0, 0, 0] = np.inf
    return made


def close(a, b, tolerance=1e-5):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_allclose(x, y, rtol=tolerance, atol=tolerance)


def same(a, b):
    for x, y in zip(a, b, strict=True):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("micro", [2, 4])
def test_micro_batches_equal_the_big_batch(reduction, micro):
    """The labelled pixels lie unevenly: the mean of the micro-batches' means would differ."""
    loss = SemanticLoss(reduction=reduction, use_pixel_weights=True)
    settings = optimizer(momentum=0.9, learning_rate=0.1 if reduction == "mean" else 1e-4)
    whole, parts = (
        Stepper(lambda: network(aux=True), settings, loss=loss, accumulate=n) for n in (1, micro)
    )
    for a, b in zip(whole.run(BATCHES), parts.run(BATCHES), strict=True):
        assert a == pytest.approx(b, rel=1e-5)
    close(whole.values(), parts.values())


def test_scalars_by_hand():
    stepper = Stepper(lambda: network(aux=True), optimizer(), accumulate=2)
    outputs = stepper.model(BATCHES[0]["image"])
    kernel = stepper.model.get_layer("head").kernel.numpy()
    parts = LOSS(outputs, BATCHES[0])
    main, aux = (float(s / n) for s, n, _ in parts.values())
    scalars = stepper.run(BATCHES[:1])[0]
    assert scalars["cross_entropy"] == pytest.approx(main, rel=1e-5)
    assert scalars["aux"] == pytest.approx(aux, rel=1e-5)
    assert scalars["loss"] == pytest.approx(main + 0.4 * aux, rel=1e-5)
    assert scalars["learning_rate"] == pytest.approx(0.1)
    moved = np.linalg.norm(stepper.model.get_layer("head").kernel.numpy() - kernel)
    assert 0 < moved < 0.1 * scalars["gradient_norm"]


def test_parts_with_normalisers_of_their_own():
    def loss(outputs, batch):
        squares = tf.reduce_sum(outputs**2)
        return {
            "a": (squares, tf.reduce_sum(batch["weights"]), 2.0),
            "b": (3 * squares, tf.constant(10.0), 0.5),
            "c": (squares, None, 0.25),
        }

    whole, parts = (
        Stepper(network, optimizer(), loss=OfOutputs(loss), accumulate=n) for n in (1, 2)
    )
    squares = float(tf.reduce_sum(whole.model(BATCHES[0]["image"]) ** 2))
    weights = BATCHES[0]["weights"].sum()
    factors = [2 / weights + 1.5 / (10 * n) + 0.25 for n in (1, 2)]
    with tf.GradientTape() as tape:
        objective = tf.reduce_sum(whole.model(BATCHES[0]["image"]) ** 2)
    norm = float(tf.linalg.global_norm(tape.gradient(objective, whole.model.trainable_weights)))
    # The normaliser of b is 10 a micro-batch, 20 in all with two of them.
    for stepper, factor in zip((whole, parts), factors, strict=True):
        scalars = stepper.run(BATCHES[:1])[0]
        assert scalars["loss"] == pytest.approx(factor * squares, rel=1e-5)
        assert scalars["gradient_norm"] == pytest.approx(factor * norm, rel=1e-5)


def test_equals_keras_compile_and_fit():
    stepper = Stepper(lambda: network("batch"), optimizer(momentum=0.9))
    keras.utils.set_random_seed(1)
    model = network("batch")
    model.compile(
        keras.optimizers.SGD(0.1, momentum=0.9),
        loss=SparseCrossEntropy(class_weights=[1.0, 2.0, 0.5]),
    )
    data = tf.data.Dataset.from_generator(
        lambda: ((b["image"], b["mask"], b["weights"]) for b in BATCHES),
        output_signature=tuple(
            tf.TensorSpec(BATCHES[0][k].shape, BATCHES[0][k].dtype)
            for k in ("image", "mask", "weights")
        ),
    )
    model.fit(data.repeat(), steps_per_epoch=len(BATCHES), shuffle=False, verbose=0)
    stepper.run(BATCHES)
    # A compiled model has its metrics' variables too.
    own = model.trainable_variables + model.non_trainable_variables
    expected = stepper.model.trainable_variables + stepper.model.non_trainable_variables
    close([v.numpy() for v in own], [v.numpy() for v in expected])


def test_a_step_that_is_not_finite_changes_nothing_and_ends_the_run():
    stepper = Stepper(
        lambda: network("batch", dropout=0.5),
        optimizer(momentum=0.9),
        average=lambda model: WeightAverage(model, 0.5),
    )
    stepper.run(BATCHES[:2])

    def everything():
        optimizer_variables = [v.numpy() for v in stepper.rule.optimizer.variables]
        averages = [a.numpy() for a in stepper.average.averages]
        return [*stepper.values(), *optimizer_variables, *averages]

    before = everything()
    scalars = stepper.run([broken(2), BATCHES[3]])
    assert not np.isfinite(scalars[0]["loss"])
    assert np.isfinite(scalars[1]["loss"])
    same(before, everything())
    assert (int(stepper.progress.step), int(stepper.progress.stopped_at)) == (2, 2)


def test_a_gradient_that_is_not_finite_under_a_finite_loss_counts_too():
    def loss(outputs, batch):
        # The root of zero: its value is finite, its slope is not.
        return {"root": (tf.sqrt(0.0 * tf.reduce_sum(outputs)), None, 1.0)}

    stepper = Stepper(network, optimizer(), loss=OfOutputs(loss))
    before = stepper.values()
    assert stepper.run(BATCHES[:1])[0]["loss"] == 0
    same(before, stepper.values())
    assert int(stepper.progress.stopped_at) == 0


def test_a_batch_without_labels_leaves_the_weights():
    empty = {**BATCHES[0], "mask": np.full_like(BATCHES[0]["mask"], 255)}
    stepper = Stepper(network, optimizer())
    before = stepper.values()
    assert stepper.run([empty])[0]["loss"] == 0
    same(before, stepper.values())
    assert int(stepper.progress.step) == 1


def float16_network():
    with building_in("float16"):
        return network("batch")


def test_float16_passes_over_a_batch_and_halves_the_scale():
    scale = LossScale()
    stepper = Stepper(float16_network, optimizer(momentum=0.9), loss_scale=scale)
    first = stepper.run(BATCHES[:1])[0]
    assert first["loss_scale"] == LossScale.INITIAL
    before = stepper.values()
    stepper.run([broken(1)])
    same(before, stepper.values())
    assert float(scale.scale) == LossScale.INITIAL / 2
    assert (int(stepper.progress.step), int(stepper.progress.stopped_at)) == (2, -1)
    assert stepper.run(BATCHES[2:3])[0]["loss_scale"] == LossScale.INITIAL / 2
    assert all(np.isfinite(v).all() for v in stepper.values())


def test_float16_gives_up_where_the_scale_is_exhausted():
    scale = LossScale()
    scale.scale.assign(LossScale.MINIMUM)
    stepper = Stepper(float16_network, optimizer(), loss_scale=scale)
    stepper.run([broken(0), BATCHES[1]])
    assert (int(stepper.progress.step), int(stepper.progress.stopped_at)) == (0, 0)
    assert (float(scale.scale), int(scale.finite_steps)) == (LossScale.MINIMUM, 0)


def test_the_scale_cancels():
    """Powers of two: scaling changes no bit of a float32 gradient."""
    plain, scaled = (Stepper(network, optimizer(), loss_scale=s) for s in (None, LossScale()))
    plain.run(BATCHES)
    scaled.run(BATCHES)
    same(plain.values(), scaled.values())


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_low_precision_follows_float32(precision):
    def build():
        with building_in(precision):
            return network("batch")

    exact = Stepper(lambda: network("batch"), optimizer())
    rough = Stepper(build, optimizer(), loss_scale=LossScale() if precision == "float16" else None)
    exact.run(BATCHES)
    rough.run(BATCHES)
    close(exact.values(), rough.values(), 0.02)


def test_xla_gives_the_same_step():
    options = {"accumulate": 2, "average": lambda model: WeightAverage(model, 0.5)}
    settings = optimizer(momentum=0.9, clip_norm=0.1)
    plain = Stepper(lambda: network("batch"), settings, **options)
    compiled = Stepper(lambda: network("batch"), settings, jit_compile=True, **options)
    plain.run(BATCHES)
    compiled.run(BATCHES)
    close(plain.values(), compiled.values())


def test_one_trace_serves_images_of_all_sizes():
    signature = {
        "image": tf.TensorSpec((4, None, None, 3)),
        "mask": tf.TensorSpec((4, None, None), tf.int32),
        "weights": tf.TensorSpec((4, None, None)),
    }
    stepper = Stepper(lambda: network(size=None), optimizer(), signature=signature)
    for size in (6, 8, 10):
        scalars = stepper.step({k: tf.constant(v) for k, v in batch(0, size=size).items()})
        assert np.isfinite(float(scalars["loss"]))
    assert stepper.step._function.experimental_get_tracing_count() == 1


def test_losses_of_the_model_itself_are_refused():
    def build():
        image = keras.Input((8, 8, 3))
        return keras.Model(image, keras.layers.Conv2D(3, 1, kernel_regularizer="l2")(image))

    with pytest.raises(ValueError, match="weight_decay"):
        Stepper(build, optimizer()).run(BATCHES[:1])
