"""The feature pyramid that detectors and semantic FPN share."""

from typing import Any

import keras

from tfseg.layers.conv import conv2d, filler

#: Caffe2's XavierFill: uniform, by fan-in alone
XAVIER_FILL = filler("VarianceScaling", scale=1.0, mode="fan_in", distribution="uniform")


def feature_pyramid(features: dict[str, Any], filters: int = 256) -> dict[str, Any]:
    """A feature pyramid network (Lin et al., CVPR 2017, section 3).

    Each level is a 1x1 convolution of the trunk's map plus the level above, twice as large by
    repetition; a 3x3 convolution makes its output. No norms, no ReLU, biases: as Detectron and
    detectron2, whose layer names these are.

    Args:
        features: {"c2", ..., "c5"}: (B, h, w, C), each half as large as the one before.
        filters: channels of every level.

    Returns:
        {"p2", ..., "p5"}: (B, h, w, filters).
    """
    levels: dict[str, Any] = {}
    above = None
    for level in (5, 4, 3, 2):
        x = conv2d(
            features[f"c{level}"],
            filters,
            1,
            use_bias=True,
            initializer=XAVIER_FILL,
            name=f"fpn_lateral{level}",
        )
        if above is not None:
            up = keras.layers.UpSampling2D(2, interpolation="nearest", name=f"fpn_up{level}")
            x = keras.layers.Add(name=f"fpn_sum{level}")([x, up(above)])
        above = x
        levels[f"p{level}"] = conv2d(
            x, filters, 3, use_bias=True, initializer=XAVIER_FILL, name=f"fpn_output{level}"
        )
    return levels
