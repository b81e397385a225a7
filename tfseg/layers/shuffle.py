"""The order of channels between the branches of ShuffleNets."""

from typing import Any

import keras


@keras.saving.register_keras_serializable(package="tfseg")
class ChannelShuffle(keras.layers.Layer):
    """Deals channels out so that each group of the next layer sees all groups of the last.

    Output channel ``i * groups + g`` is channel ``i`` of group ``g`` (Zhang et al., ShuffleNet,
    CVPR 2018, section 3.1). ``C / groups`` in place of ``groups`` undoes it: with C / 2 the even
    channels come first, then the odd ones.

    Args:
        groups: runs of channels to deal from; C is a multiple.

    Input and output (B, H, W, C).
    """

    def __init__(self, groups: int, **kwargs: Any):
        super().__init__(**kwargs)
        self.groups = groups

    def call(self, x: Any) -> Any:
        channels = x.shape[-1]
        groups = keras.ops.reshape(x, (-1, self.groups, channels // self.groups))
        dealt = keras.ops.transpose(groups, (0, 2, 1))
        return keras.ops.reshape(dealt, keras.ops.shape(x))

    def compute_output_shape(self, shape: Any) -> Any:
        if shape[-1] % self.groups:
            raise ValueError(f"{shape[-1]} channels cannot be dealt from {self.groups} groups")
        return shape

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "groups": self.groups}
