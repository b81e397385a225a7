"""Context pyramids: PSPNet's pooling pyramid."""

from typing import Any

import keras

from tfseg.layers.conv import Norm, conv2d
from tfseg.layers.resize import AdaptiveAveragePool2D, ResizeLike


def pyramid_pooling(
    x: Any, filters: int, *, norm: Norm, bins: tuple[int, ...] = (1, 2, 3, 6), name: str = "ppm"
) -> Any:
    """PSPNet's pyramid pooling module (section 3.2).

    Averages over grids of ``bins``, a 1x1 convolution each, resized with aligned corners, and
    concatenated behind the input from the finest grid to the coarsest, as in the released
    prototxt's ``conv5_3_concat``.

    Args:
        x: (B, H, W, C).
        filters: channels of each level, C / len(bins) in the paper.

    Returns:
        (B, H, W, C + filters * len(bins)).
    """
    levels = [x]
    for b in sorted(bins, reverse=True):
        y = AdaptiveAveragePool2D(b, name=f"{name}.bin{b}.pool")(x)
        y = conv2d(y, filters, 1, name=f"{name}.bin{b}.conv")
        y = norm(y, f"{name}.bin{b}.bn")
        y = keras.layers.ReLU(name=f"{name}.bin{b}.relu")(y)
        levels.append(ResizeLike(align_corners=True, name=f"{name}.bin{b}.resize")([y, x]))
    return keras.layers.Concatenate(name=f"{name}.concat")(levels)
