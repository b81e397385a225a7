"""tfseg's Mask R-CNN on JAX; Keras' backend must be JAX before it is imported."""

from collections.abc import Callable
from typing import Any

import jax
import keras

import tfseg
from detector_contenders import parts
from detector_contenders.inputs import DetectorJob, read
from tfseg.benchmark import MATRIX, Session
from tfseg.losses import RCNNLoss
from tfseg.models.rcnn import RCNN


def session(job: DetectorJob) -> Session:
    """tfseg's contender: functions that JAX compiles."""
    model = parts.build(job)
    arrays = read(job.folder).items()
    batch = {name: jax.numpy.asarray(value) for name, value in arrays if name != "masks"}
    matrix = jax.random.normal(jax.random.key(0), (MATRIX, MATRIX))
    multiply = jax.jit(jax.numpy.matmul)
    product = _finished(lambda: multiply(matrix, matrix))
    facts: dict[str, Any] = {
        "versions": {
            "jax": jax.__version__,
            "keras": keras.__version__,
            "tfseg": tfseg.__version__,
        },
        "device": jax.devices()[0].device_kind,
        "parameters": parts.trained_parameters(model),
    }
    if job.mode == "infer":
        images, sizes = batch["image"], batch["size"]

        def compiled(function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
            return _compiled(model, function, arguments)

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


def _finished(function: Callable[[], Any]) -> Callable[[], object]:
    return lambda: jax.block_until_ready(function())


def _compiled(
    model: RCNN, function: Callable[..., Any], arguments: tuple[Any, ...]
) -> Callable[[], Any]:
    # The variables are arguments: as constants they would be folded, and in every program.
    variables = model.variables
    values = [variable.value for variable in variables]

    @jax.jit
    def run(values: Any, arguments: Any) -> Any:
        with keras.StatelessScope(list(zip(variables, values, strict=True))):
            return function(*arguments)

    return lambda: run(values, arguments)


def _training(model: RCNN, batch: dict[str, Any]) -> Callable[[], Any]:
    """A step, which gives the losses before it."""
    loss = RCNNLoss()
    learnt, rest = model.trainable_variables, model.non_trainable_variables
    optimizer = keras.optimizers.SGD(1e-6, momentum=0.9)
    optimizer.build(learnt)

    def objective(values: Any, others: Any, batch: Any) -> Any:
        given = [*zip(learnt, values, strict=True), *zip(rest, others, strict=True)]
        with keras.StatelessScope(given) as scope:
            losses = parts.losses(model, loss, batch)
        after = [scope.get_current_value(variable) for variable in rest]
        return sum(losses.values()), (losses, after)

    @jax.jit
    def update(values: Any, others: Any, rule: Any, batch: Any) -> Any:
        gradient = jax.value_and_grad(objective, has_aux=True)
        (_, (losses, others)), gradients = gradient(values, others, batch)
        values, rule = optimizer.stateless_apply(rule, gradients, values)
        return values, others, rule, losses

    state = tuple([v.value for v in part] for part in (learnt, rest, optimizer.variables))

    def step() -> Any:
        nonlocal state
        *state, losses = update(*state, batch)
        return losses

    return step
