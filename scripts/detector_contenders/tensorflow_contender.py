"""tfseg's Mask R-CNN on TensorFlow."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

import tfseg
from detector_contenders import parts
from detector_contenders.inputs import DetectorJob, read
from tfseg.benchmark import MATRIX, Session
from tfseg.losses import RCNNLoss
from tfseg.models.rcnn import RCNN
from tfseg.predict.graph import frozen


def session(job: DetectorJob, freeze: bool = False) -> Session:
    """tfseg's contender: graphs of TensorFlow.

    Args:
        job: the job.
        freeze: for inference, the weights are constants, as ``detect.freeze`` makes them.
    """
    model = parts.build(job)
    arrays = read(job.folder).items()
    batch = {name: tf.constant(value) for name, value in arrays if name != "masks"}
    matrix = tf.random.stateless_normal((MATRIX, MATRIX), (0, 1))
    product = _finished(lambda: tf.linalg.matmul(matrix, matrix))
    facts: dict[str, Any] = {
        "versions": {
            "keras": keras.__version__,
            "tensorflow": tf.__version__,
            "tfseg": tfseg.__version__,
        },
        "parameters": parts.trained_parameters(model),
    }
    if job.mode == "infer":
        images, sizes = batch["image"], batch["size"]

        def compiled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            return _compiled(function, arguments, freeze)

        if job.split:
            split, facts["proposals"] = parts.split(model, images, sizes, compiled)
            own = {name: _finished(part) for name, part in split.items()}
            return Session(lambda: None, product, facts, own)
        run = compiled(lambda *given: parts.detect(model, *given), (images, sizes))
        facts["detections"] = parts.first_image(run())
    else:
        run = _training(model, batch)
        facts["losses"] = {name: float(value) for name, value in run().items()}
    return Session(_finished(run), product, facts)


def frozen_session(job: DetectorJob) -> Session:
    """`session` with the weights as constants."""
    return session(job, freeze=True)


def _compiled(
    function: Callable[..., Any], arguments: tuple[Any, ...], freeze: bool
) -> Callable[[], Any]:
    if not freeze:
        graph = tf.function(function, autograph=False)
        return lambda: graph(*arguments)
    specs = tf.nest.map_structure(lambda t: tf.TensorSpec(t.shape, t.dtype), arguments)
    graph = frozen(tf.function(function, input_signature=specs, autograph=False))
    tensors = tf.nest.flatten(arguments)
    return lambda: graph(*tensors)


def _finished(function: Callable[[], Any]) -> Callable[[], object]:
    """The function, waited for: reading a value does."""
    return lambda: tf.reshape(tf.nest.flatten(function())[-1], (-1,))[:1].numpy()


def _training(model: RCNN, batch: dict[str, Any]) -> Callable[[], Any]:
    """A step, which gives the losses before it."""
    loss = RCNNLoss(only_positives=True)  # as in training without XLA
    variables = model.trainable_variables
    optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)
    optimizer.build(variables)

    @tf.function(autograph=False)
    def step() -> Any:
        with tf.GradientTape() as tape:
            losses = parts.losses(model, loss, batch)
            total = tf.add_n(list(losses.values()))
        gradients = tape.gradient(total, variables)
        optimizer.apply_gradients(zip(gradients, variables, strict=True))
        return losses

    return step
