"""An exponential moving average of a model's weights."""

from collections.abc import Iterator
from contextlib import contextmanager

import keras
import tensorflow as tf


class WeightAverage:
    """``average = decay * average + (1 - decay) * weight`` after every update.

    Averages all floating-point variables, moving statistics of norms included, so that the
    averaged network is whole. Starts at the weights as they are. Build it in the strategy's
    scope.

    Args:
        model: the model whose weights are averaged.
        decay: in (0, 1).
    """

    def __init__(self, model: keras.Model, decay: float):
        self.decay = decay
        self.weights = [v.value for v in model.variables if "float" in v.dtype]
        self.averages = [
            tf.Variable(tf.convert_to_tensor(w), trainable=False, name="average")
            for w in self.weights
        ]

    def update(self, strategy: tf.distribute.Strategy) -> None:
        """Takes in the weights as they are; call it in cross-replica context."""

        def blend(average: tf.Variable, weight: tf.Tensor) -> None:
            average.assign(self.decay * average + (1.0 - self.decay) * weight)

        for average, weight in zip(self.averages, self.weights, strict=True):
            strategy.extended.update(average, blend, args=(weight,), group=False)

    @contextmanager
    def swapped_in(self, strategy: tf.distribute.Strategy) -> Iterator[None]:
        """The model has the averages inside, and its own weights again afterwards."""
        self._swap(strategy)
        try:
            yield
        finally:
            self._swap(strategy)

    def _swap(self, strategy: tf.distribute.Strategy) -> None:
        # A replica at a time: statistics of norms that are not synchronized differ among them.
        mirrors = strategy.experimental_local_results
        for pair in zip(self.weights, self.averages, strict=True):
            for weight, average in zip(*map(mirrors, pair), strict=True):
                kept = weight.numpy()
                weight.assign(average)
                average.assign(kept)
