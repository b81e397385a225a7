"""One training step, the same code for one device and for many."""

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import keras
import tensorflow as tf

from tfseg.losses import Parts
from tfseg.train.ema import WeightAverage
from tfseg.train.optimizers import UpdateRule
from tfseg.train.precision import LossScale

Loss = Callable[[Any, Mapping[str, Any]], Parts]
Batch = dict[str, tf.Tensor]


class Progress:
    """Where a run stands, in variables that the step advances and checkpoints hold.

    Attributes:
        step: int64, batches that have been used; the index of the next one.
        stopped_at: int64, the step whose loss or gradient was not finite, or -1.
    """

    def __init__(self) -> None:
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.stopped_at = tf.Variable(-1, dtype=tf.int64, trainable=False, name="stopped_at")


def _normalised(parts: Parts) -> list[tuple[tf.Tensor, tf.Tensor | None]]:
    """The weighted sums of the parts that share a normaliser, with it."""
    groups: dict[int, tuple[tf.Tensor, tf.Tensor | None]] = {}
    for total, normaliser, weight in parts.values():
        so_far = groups.get(id(normaliser), (0.0, normaliser))[0]
        groups[id(normaliser)] = (so_far + weight * total, normaliser)
    return list(groups.values())


def _add(so_far: list[tf.Tensor], more: list[tf.Tensor]) -> list[tf.Tensor]:
    return [a + b for a, b in zip(so_far, more, strict=True)] if so_far else more


class TrainStep:
    """Forward, backward, reduce, check, update.

    A replica splits its share of the batch into micro-batches and adds up their gradients; each
    part of the loss is divided by its normaliser summed over micro-batches and replicas, so
    that neither changes the result (unsynchronized batch normalisation apart). The gradients
    are summed over the replicas, unscaled, checked and clipped, in this order, so all replicas
    decide alike.

    A step whose loss or gradient is not finite changes nothing: weights, optimizer, average,
    and also moving statistics and random states, which the forward pass had moved, are as
    before. With a loss scale the batch is passed over and the scale halved; without one
    ``progress.stopped_at`` is set and all later steps change nothing, so that the caller may
    look at it whenever it likes instead of waiting for the device every step.

    Args:
        model: built in the strategy's scope.
        loss: gives the parts of the loss; see `tfseg.losses.Parts`.
        rule: the update rule.
        progress: where the run stands.
        strategy: the distribution strategy.
        learning_rate: the rate at a step.
        signature: the element spec of the (distributed) data set: one trace serves batches of
            all shapes that it allows.
        accumulate: micro-batches a step; it must divide a replica's batch.
        loss_scale: float16's loss scale, or None.
        average: the average of the weights, or None.
        jit_compile: compile the step with XLA; on one device only.
    """

    def __init__(
        self,
        model: keras.Model,
        loss: Loss,
        rule: UpdateRule,
        progress: Progress,
        *,
        strategy: tf.distribute.Strategy,
        learning_rate: Callable[[tf.Tensor], tf.Tensor],
        signature: Any,
        accumulate: int = 1,
        loss_scale: LossScale | None = None,
        average: WeightAverage | None = None,
        jit_compile: bool = False,
    ):
        self.model, self.loss, self.rule, self.progress = model, loss, rule, progress
        self.strategy, self.learning_rate = strategy, learning_rate
        self.accumulate, self.loss_scale, self.average = accumulate, loss_scale, average
        self._state = [v.value for v in model.non_trainable_variables]
        self._function = tf.function(
            self._step,
            autograph=False,
            input_signature=[signature],
            jit_compile=jit_compile or None,
        )

    def __call__(self, batch: Any) -> dict[str, tf.Tensor]:
        """Uses one global batch.

        Args:
            batch: an element of the distributed data set; has "image", and what the loss needs.

        Returns:
            float32 scalars: "loss", its parts by name, "gradient_norm" (before clipping),
            "learning_rate" (of the backbone) and, in float16, "loss_scale". They may still be
            under computation.
        """
        return self._function(batch)

    def _step(self, batch: Any) -> dict[str, tf.Tensor]:
        rate = self.learning_rate(self.progress.step)
        scale = tf.ones(()) if self.loss_scale is None else tf.identity(self.loss_scale.scale)
        gradients, state, scalars = self.strategy.run(self._gradients, args=(batch, scale))
        scalars = {k: self.strategy.experimental_local_results(v)[0] for k, v in scalars.items()}
        norm = scalars["gradient_norm"]
        finite = tf.math.is_finite(scalars["loss"]) & tf.math.is_finite(norm)
        running = self.progress.stopped_at < 0

        def update() -> tf.Tensor:
            self.rule.apply(self.strategy, gradients, norm, rate)
            if self.average is not None:
                self.average.update(self.strategy)
            return tf.constant(True)

        def undo() -> tf.Tensor:
            for variable, before in zip(self._state, state, strict=True):
                self.strategy.extended.update(
                    variable, lambda v, x: v.assign(x), args=(before,), group=False
                )
            return tf.constant(False)

        tf.cond(finite & running, update, undo)
        self._advance(finite, running)
        scalars["learning_rate"] = rate
        if self.loss_scale is not None:
            scalars["loss_scale"] = scale
        return scalars

    def _advance(self, finite: tf.Tensor, running: tf.Tensor) -> None:
        step, stopped_at = self.progress.step, self.progress.stopped_at
        hopeless = ~finite
        if self.loss_scale is not None:
            update = functools.partial(self.loss_scale.update, finite)
            hopeless = tf.cond(running, update, lambda: tf.constant(True))
        stopped_at.assign(tf.where(running & hopeless, step, stopped_at))
        step.assign_add(tf.cast(running & ~hopeless, tf.int64))

    def _gradients(
        self, batch: Batch, scale: tf.Tensor
    ) -> tuple[list[tf.Tensor], list[tf.Tensor], dict[str, tf.Tensor]]:
        """Gradients and scalars of the global batch, and the state before; in replica context."""
        context = tf.distribute.get_replica_context()
        state = [tf.identity(v) for v in self._state]
        pieces = tf.nest.map_structure(lambda x: tf.split(x, self.accumulate), batch)
        gradients: list[list[tf.Tensor]] = []
        sums: list[tf.Tensor] = []
        for i in range(self.accumulate):
            # Without the dependency the micro-batches would run, and need memory, all at once.
            with tf.control_dependencies(tf.nest.flatten(gradients)):
                piece = {key: tf.identity(values[i]) for key, values in pieces.items()}
            parts, groups, found = self._backward(piece, scale)
            counts = [n for _, n in groups if n is not None]
            sums = _add(sums, [total for total, _, _ in parts.values()] + counts)
            gradients = [
                _add(g, f) for g, f in zip(gradients or [[]] * len(found), found, strict=True)
            ]
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, sums)
        counted = iter(sums[len(parts) :])
        # One normaliser a group, None where the group is not normalised.
        normalisers = {id(n): None if n is None else next(counted) for _, n in groups}
        combined = _combine(gradients, list(normalisers.values()))
        combined = context.all_reduce(tf.distribute.ReduceOp.SUM, combined)
        combined = [g / scale for g in combined]
        scalars = {
            name: total if n is None else tf.math.divide_no_nan(total, normalisers[id(n)])
            for (name, (_, n, _)), total in zip(parts.items(), sums[: len(parts)], strict=True)
        }
        weights = [weight for _, _, weight in parts.values()]
        loss = tf.add_n([w * s for w, s in zip(weights, scalars.values(), strict=True)])
        norm = tf.linalg.global_norm(combined)
        return combined, state, {"loss": loss, **scalars, "gradient_norm": norm}

    def _backward(self, batch: Batch, scale: tf.Tensor) -> Any:
        """The parts, their groups, and a group's gradients: those of its sum, times ``scale``."""
        variables = [v.value for v in self.rule.variables]
        with tf.GradientTape(persistent=True) as tape:
            parts = self.loss(self.model(batch["image"], training=True), batch)
            groups = _normalised(parts)
            # float16 cannot hold gradients of sums over many pixels: differentiate the local
            # mean, and multiply the (float32) gradients of the variables.
            objectives = [
                scale * (total if n is None else tf.math.divide_no_nan(total, n))
                for total, n in groups
            ]
        if self.model.losses:
            raise ValueError(
                f"{self.model.name!r} adds {len(self.model.losses)} losses of its own "
                "(regularizers?), which are not counted here; use weight_decay"
            )
        gradients = []
        for objective, (_, n) in zip(objectives, groups, strict=True):
            found = tape.gradient(
                objective, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO
            )
            gradients.append(found if n is None else [g * n for g in found])
        return parts, groups, gradients


def _combine(
    gradients: list[list[tf.Tensor]], normalisers: Iterable[tf.Tensor | None]
) -> list[tf.Tensor]:
    combined: list[tf.Tensor] = []
    for group, n in zip(gradients, normalisers, strict=True):
        divided = group if n is None else [tf.math.divide_no_nan(g, n) for g in group]
        combined = _add(combined, divided)
    return combined
