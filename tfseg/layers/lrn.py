"""Local response normalisation, which AlexNet and GoogLeNet use."""

from typing import Any

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="tfseg")
class LocalResponseNormalization(keras.layers.Layer):
    """Divides by ``(1 + alpha / size * sum of squares over size channels) ** beta``, as Caffe.

    Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural
    Networks, 2012, section 3.3; Caffe's LRN across channels divides alpha by the size.

    Args:
        size: channels of the window, odd, centred on the normalised one.
        alpha: of the sum.
        beta: exponent.

    Input and output (B, H, W, C).
    """

    def __init__(self, size: int = 5, alpha: float = 1e-4, beta: float = 0.75, **kwargs: Any):
        super().__init__(**kwargs)
        self.size, self.alpha, self.beta = size, alpha, beta

    def call(self, x: Any) -> Any:
        reach, channels = self.size // 2, x.shape[-1]
        squares = ops.pad(ops.square(x), ((0, 0), (0, 0), (0, 0), (reach, reach)))
        total = sum(squares[..., i : i + channels] for i in range(self.size))
        return x * ops.power(1.0 + self.alpha / self.size * total, -self.beta)

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "size": self.size,
            "alpha": self.alpha,
            "beta": self.beta,
        }
