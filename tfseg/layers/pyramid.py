"""Context pyramids: PSPNet's pooling pyramid, DeepLab v3's atrous pyramid."""

from typing import Any

import keras

from tfseg.layers.conv import TORCH, Norm, conv2d
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


def atrous_pyramid(
    x: Any, filters: int, *, rates: tuple[int, ...], norm: Norm, dropout: float, name: str
) -> Any:
    """DeepLab v3's atrous spatial pyramid pooling (Chen et al., arXiv 1706.05587, section 3.3).

    A 1x1 convolution, a 3x3 one for each rate and the image's average, concatenated and
    projected. Layers, order and dropout are those of torchvision's ``ASPP``.

    Args:
        x: (B, H, W, C).
        filters: channels of each branch and of the result.
        rates: dilations of the 3x3 convolutions.
        norm: behind every convolution.
        dropout: rate behind the projection.
        name: prefix of every layer name.

    Returns:
        (B, H, W, filters).
    """

    def unit(x: Any, kernel: int, rate: int, prefix: str, first: int) -> Any:
        x = conv2d(x, filters, kernel, dilation=rate, initializer=TORCH, name=f"{prefix}.{first}")
        x = norm(x, f"{prefix}.{first + 1}")
        return keras.layers.ReLU(name=f"{prefix}.{first + 2}")(x)

    branches = [unit(x, 1, 1, f"{name}.convs.0", 0)]
    for index, rate in enumerate(rates, start=1):
        branches.append(unit(x, 3, rate, f"{name}.convs.{index}", 0))
    pooled = f"{name}.convs.{len(rates) + 1}"
    y = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{pooled}.0")(x)
    y = unit(y, 1, 1, pooled, 1)
    branches.append(ResizeLike(align_corners=False, name=f"{pooled}.resize")([y, x]))
    x = keras.layers.Concatenate(name=f"{name}.concat")(branches)
    x = unit(x, 1, 1, f"{name}.project", 0)
    return keras.layers.Dropout(dropout, name=f"{name}.project.3")(x)
