"""AlexNet as torchvision has it, and CaffeNet, Caffe's variant, which FCN-AlexNet is built on.

Krizhevsky, Sutskever, Hinton, ImageNet Classification with Deep Convolutional Neural Networks,
NIPS 2012; torchvision's one tower is Krizhevsky's of arXiv 1404.5997.
"""

from typing import Any

import keras

from tfseg.layers.conv import MaxPool2D, conv2d
from tfseg.layers.lrn import LocalResponseNormalization


def alexnet(x: Any, *, prefix: str = "") -> dict[str, Any]:
    """torchvision's features: five convolutions without normalisation, stride 32.

    Args:
        x: images (B, H, W, C), preprocessed.
        prefix: of every layer name; names are the index of torchvision's ``features``.

    Returns:
        {"c5"}: (B, h, w, 256), after the last pool.
    """
    # index, filters, kernel, stride, padding, pooled afterwards
    for index, filters, kernel, stride, padding, pooled in (
        (0, 64, 11, 4, 2, True),
        (3, 192, 5, 1, 2, True),
        (6, 384, 3, 1, 1, False),
        (8, 256, 3, 1, 1, False),
        (10, 256, 3, 1, 1, True),
    ):
        name = f"{prefix}features.{index}"
        x = conv2d(x, filters, kernel, stride=stride, padding=padding, use_bias=True, name=name)
        x = keras.layers.ReLU(name=f"{prefix}features.{index + 1}")(x)
        if pooled:
            x = MaxPool2D(3, 2, name=f"{prefix}features.{index + 2}")(x)
    return {"c5": x}


def caffenet(x: Any, *, first_padding: int = 0, prefix: str = "") -> dict[str, Any]:
    """CaffeNet's features: two groups of filters, normalisation after the pool, stride 32.

    Args:
        x: images (B, H, W, C), preprocessed.
        first_padding: of the first convolution: 0, or FCN's 100.
        prefix: of every layer name; names are those of bvlc_reference_caffenet.

    Returns:
        {"c5"}: (B, h, w, 256), after the last pool.
    """
    # name, filters, kernel, stride, padding, groups, pooled, normalised
    for number, filters, kernel, stride, padding, groups, pooled, normalised in (
        (1, 96, 11, 4, first_padding, 1, True, True),
        (2, 256, 5, 1, 2, 2, True, True),
        (3, 384, 3, 1, 1, 1, False, False),
        (4, 384, 3, 1, 1, 2, False, False),
        (5, 256, 3, 1, 1, 2, True, False),
    ):
        x = conv2d(
            x,
            filters,
            kernel,
            stride=stride,
            padding=padding,
            groups=groups,
            use_bias=True,
            name=f"{prefix}conv{number}",
        )
        x = keras.layers.ReLU(name=f"{prefix}relu{number}")(x)
        if pooled:
            x = MaxPool2D(3, 2, ceil_mode=True, name=f"{prefix}pool{number}")(x)
        if normalised:
            x = LocalResponseNormalization(name=f"{prefix}norm{number}")(x)
    return {"c5": x}
