"""One training step, the same code for one device and for many."""

import functools
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import keras
import tensorflow as tf

from tfseg.losses import Parts
from tfseg.train.ema import WeightAverage
from tfseg.train.optimizers import UpdateRule
from tfseg.train.precision import LossScale

Batch = dict[str, tf.Tensor]


class Loss(Protocol):
    """What a model learns to minimise."""

    def parts(self, model: keras.Model, batch: Mapping[str, Any], training: bool = True) -> Parts:
        """Runs the model on a batch; see `tfseg.losses.Parts`."""
        ...


class Progress:
    """Where a run stands, in variables that the step advances and checkpoints hold.

    Attributes:
        step: int64, batches that have been used; the index of the next one.
        stopped_at: int64, the step whose loss or gradient was not finite, or -1.
    """

    def __init__(self) -> None:
        self.step = tf.Variable(0, dtype=tf.int64, trainable=False, name="step")
        self.stopped_at = tf.Variable(-1, dtype=tf.int64, trainable=False, name="stopped_at")


def _divide(x: tf.Tensor, normaliser: tf.Tensor | None) -> tf.Tensor:
    return x if normaliser is None else tf.math.divide_no_nan(x, normaliser)


class _Found(NamedTuple):
    """What a replica finds in micro-batches. Parts that share a normaliser form a group.

    Attributes:
        sums: each part's sum, over this replica's pixels.
        weights: each part's weight.
        groups: each part's group.
        normalisers: each group's, summed over the replicas; None: not normalised.
        gradients: each group's: of its weighted sum, in each variable. Of a single micro-batch,
            whose normalisers are known, one list: of the loss.
    """

    sums: dict[str, tf.Tensor]
    weights: list[float]
    groups: list[int]
    normalisers: list[tf.Tensor | None]
    gradients: list[list[tf.Tensor]]

    def plus(self, other: "_Found") -> "_Found":
        """What was found in the micro-batches of both."""
        return self._replace(
            sums={name: total + other.sums[name] for name, total in self.sums.items()},
            normalisers=[
                None if a is None else a + b
                for a, b in zip(self.normalisers, other.normalisers, strict=True)
            ],
            gradients=[
                [a + b for a, b in zip(group, more, strict=True)]
                for group, more in zip(self.gradients, other.gradients, strict=True)
            ],
        )


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
            batch: an element of the distributed data set; has what the loss needs.

        Returns:
            float32 scalars: "loss", its parts by name, "gradient_norm" (before clipping),
            "learning_rate" (of the backbone) and, in float16, "loss_scale". They may still be
            under computation.
        """
        scalars: dict[str, tf.Tensor] = self._function(batch)
        return scalars

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
        pieces = {key: tf.split(value, self.accumulate) for key, value in batch.items()}
        found: _Found | None = None
        for i in range(self.accumulate):
            # Without the dependency the micro-batches would run, and need memory, all at once.
            with tf.control_dependencies(tf.nest.flatten(found.gradients) if found else []):
                piece = {key: tf.identity(values[i]) for key, values in pieces.items()}
            more = self._backward(piece, scale)
            found = found.plus(more) if found else more
        assert found is not None
        divisors = [None] if self.accumulate == 1 else found.normalisers
        gradients = [
            tf.add_n([_divide(g, n) for g, n in zip(groups, divisors, strict=True)])
            for groups in zip(*found.gradients, strict=True)
        ]
        gradients = context.all_reduce(tf.distribute.ReduceOp.SUM, gradients)
        gradients = [g / scale for g in gradients]
        sums = context.all_reduce(tf.distribute.ReduceOp.SUM, found.sums)
        means = {
            name: _divide(total, found.normalisers[group])
            for (name, total), group in zip(sums.items(), found.groups, strict=True)
        }
        loss = tf.add_n([w * m for w, m in zip(found.weights, means.values(), strict=True)])
        norm = tf.linalg.global_norm(gradients)
        return gradients, state, {"loss": loss, **means, "gradient_norm": norm}

    def _backward(self, batch: Batch, scale: tf.Tensor) -> _Found:
        """Forward and backward of a micro-batch; the gradients are ``scale`` times too large."""
        context = tf.distribute.get_replica_context()
        variables = [v.value for v in self.rule.variables]
        with tf.GradientTape(persistent=self.accumulate > 1) as tape:
            parts = self.loss.parts(self.model, batch)
            distinct = {id(n): n for _, n, _ in parts.values()}
            groups = [list(distinct).index(id(n)) for _, n, _ in parts.values()]
            # float16 cannot hold gradients of sums over many pixels: the micro-batch's mean is
            # differentiated. It must be the mean over all replicas, since gradients flow
            # between them through synchronized norms.
            normalisers = [
                n
                if n is None
                else context.all_reduce(tf.distribute.ReduceOp.SUM, tf.stop_gradient(n))
                for n in distinct.values()
            ]
            totals = [tf.zeros(())] * len(normalisers)
            for group, (total, _, weight) in zip(groups, parts.values(), strict=True):
                totals[group] += weight * total
            objectives = [scale * _divide(t, n) for t, n in zip(totals, normalisers, strict=True)]
            if self.accumulate == 1:  # one way back through the network, not one a group
                objectives = [tf.add_n(objectives)]
        if self.model.losses:
            raise ValueError(
                f"{self.model.name!r} adds {len(self.model.losses)} losses of its own "
                "(regularizers?), which are not counted here; use weight_decay"
            )
        gradients = [
            tape.gradient(o, variables, unconnected_gradients=tf.UnconnectedGradients.ZERO)
            for o in objectives
        ]
        return _Found(
            sums={name: total for name, (total, _, _) in parts.items()},
            weights=[weight for _, _, weight in parts.values()],
            groups=groups,
            normalisers=normalisers,
            gradients=gradients
            if self.accumulate == 1
            else [
                found if n is None else [g * n for g in found]
                for found, n in zip(gradients, normalisers, strict=True)
            ],
        )
