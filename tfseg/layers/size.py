"""Sizes that a network cannot take."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="tfseg")
class MinimumSize(keras.layers.Layer):
    """Passes maps (B, H, W, C) on, and refuses those lower or narrower than ``side``.

    Sizes that are not known until a graph runs are not checked.

    Args:
        side: the least height and width.
    """

    def __init__(self, side: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.side = side

    def call(self, x: Any) -> Any:
        self._check(x.shape)
        return x

    def compute_output_shape(self, shape: Any) -> Any:
        self._check(shape)
        return shape

    def _check(self, shape: Any) -> None:
        height, width = shape[1:3]
        if any(n is not None and n < self.side for n in (height, width)):
            raise ValueError(
                f"the network takes images of at least {self.side} x {self.side} pixels, not of "
                f"{height} x {width}"
            )

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "side": self.side}
