"""The update rule: a Keras optimizer with rates and weight decay of each variable's own."""

from typing import Any

import keras
import tensorflow as tf

from tfseg import config

BACKBONE = "backbone."


def _keras_optimizer(settings: config.Optimizer) -> keras.optimizers.Optimizer:
    if settings.name == "sgd":
        return keras.optimizers.SGD(
            settings.learning_rate, momentum=settings.momentum, nesterov=settings.nesterov
        )
    # AdamW is Adam plus the decoupled decay, which `UpdateRule` adds.
    rule = keras.optimizers.Nadam if settings.name == "nadam" else keras.optimizers.Adam
    return rule(settings.learning_rate, beta_1=settings.beta_1, beta_2=settings.beta_2)


def _multipliers(settings: config.Optimizer, model: keras.Model) -> list[float]:
    layers = {id(v): layer.name for layer in model.layers for v in layer.trainable_variables}
    in_backbone = [layers.get(id(v), "").startswith(BACKBONE) for v in model.trainable_variables]
    head = settings.head_multiplier
    head_bias = settings.head_bias_multiplier or head * settings.bias_multiplier
    has_backbone = any(layer.name.startswith(BACKBONE) for layer in model.layers)
    if not has_backbone and (head, head_bias) != (1.0, settings.bias_multiplier):
        raise ValueError(
            f"head_multiplier or head_bias_multiplier is set, but no layer of "
            f"{model.name!r} has a name that starts with {BACKBONE!r}: "
            "all would be head; set learning_rate instead"
        )

    def multiplier(is_bias: bool, inside: bool) -> float:
        if inside:
            return settings.bias_multiplier if is_bias else 1.0
        return head_bias if is_bias else head

    return [
        multiplier(v.name == "bias", inside)
        for v, inside in zip(model.trainable_variables, in_backbone, strict=True)
    ]


def _decays(settings: config.Optimizer, variable: keras.Variable) -> bool:
    if variable.name == "bias":
        return settings.decay_bias
    # Scales and offsets are vectors, all else has more axes.
    return len(variable.shape) > 1 or settings.decay_norm


class UpdateRule:
    """Applies reduced gradients to the trainable variables of a model.

    - Rates: kernels of layers named "backbone.*" have the schedule's rate, all others have it
      times ``head_multiplier``; biases have their layer's times ``bias_multiplier``, or in heads
      the schedule's times ``head_bias_multiplier``. The rate goes into the optimizer's own
      ``update_step`` a variable, which is exact for every rule: nothing is done by scaling
      gradients, which Adam would undo.
    - Decay: SGD, Adam and Nadam add ``weight_decay * variable`` to the (clipped) gradient, as
      Caffe and torch do; AdamW shrinks the variable by ``rate * weight_decay`` beforehand
      (arXiv 1711.05101). Biases do not decay unless ``decay_bias``, nor do scales and offsets of
      norms unless ``decay_norm``.
    - Momentum is Caffe's: ``m = momentum * m - rate * gradient``, so a change of the rate does
      not rescale the past.

    Gradients come in already summed over the replicas. Keras' own ``apply`` would sum them again
    and clip a replica at a time, so `apply` calls ``update_step`` in cross-replica context.

    Args:
        settings: the rule and its options.
        model: the model; build both in the strategy's scope.

    Raises:
        ValueError: a head multiplier for a model without backbone layers.
    """

    def __init__(self, settings: config.Optimizer, model: keras.Model):
        self.settings = settings
        self.variables = list(model.trainable_variables)
        self.multipliers = _multipliers(settings, model)
        self.decays = [
            settings.weight_decay if _decays(settings, variable) else 0.0
            for variable in self.variables
        ]
        self.optimizer = _keras_optimizer(settings)
        self.optimizer.build(self.variables)

    def apply(
        self, strategy: tf.distribute.Strategy, gradients: list[Any], norm: Any, rate: Any
    ) -> None:
        """Updates all variables; call it in cross-replica context.

        Args:
            strategy: the strategy whose scope the model was built in.
            gradients: one a variable, summed over replicas, the same on each.
            norm: float32 scalar, their global norm; they are clipped to ``clip_norm``.
            rate: float32 scalar, the schedule's learning rate.
        """
        shrink = None
        if self.settings.clip_norm is not None:
            shrink = self.settings.clip_norm / tf.maximum(norm, self.settings.clip_norm)
        if isinstance(self.optimizer, keras.optimizers.Nadam):
            self._advance_nadam()
        for variable, gradient, multiplier, decay in zip(
            self.variables, gradients, self.multipliers, self.decays, strict=True
        ):
            strategy.extended.update(
                variable.value,
                self._update,
                args=(gradient, rate * multiplier, shrink, decay),
                group=False,
            )
        self.optimizer.iterations.assign_add(1)

    def _update(self, variable: Any, gradient: Any, rate: Any, shrink: Any, decay: float) -> None:
        if shrink is not None:
            gradient *= shrink
        if decay and self.settings.name == "adamw":
            variable.assign_sub(variable * decay * rate)
        elif decay:
            gradient += decay * variable
        self.optimizer.update_step(gradient, variable, rate)

    def _advance_nadam(self) -> None:
        # The running product of its momentum schedule, which Keras advances outside update_step.
        product = self.optimizer._u_product
        step = tf.cast(self.optimizer.iterations.value, tf.float32) + 1.0
        product.assign(product * self.settings.beta_1 * (1.0 - 0.5 * 0.96**step))
