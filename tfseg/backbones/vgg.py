"""VGG16 (configuration D), with and without batch normalisation.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015.
"""

from typing import Any

import keras

from tfseg.layers.conv import MaxPool2D, Norm, conv2d

STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def vgg16(x: Any, *, norm: Norm | None = None, prefix: str = "") -> dict[str, Any]:
    """VGG16's thirteen convolutions and five pools.

    Layers are named after the index of torchvision's ``features``.

    Args:
        x: images (B, H, W, C), preprocessed.
        norm: batch normalisation after every convolution; None: none, as in the paper.
        prefix: of every layer name.

    Returns:
        {"c1", ..., "c5"}: the maps after each pool, 64 to 512 channels, stride 2 to 32.
    """
    features, index = {}, 0
    for stage, (filters, count) in enumerate(STAGES, start=1):
        for _ in range(count):
            x = conv2d(x, filters, 3, use_bias=True, name=f"{prefix}features.{index}")
            index += 1
            if norm is not None:
                x = norm(x, f"{prefix}features.{index}")
                index += 1
            x = keras.layers.ReLU(name=f"{prefix}features.{index}")(x)
            index += 1
        x = MaxPool2D(2, 2, name=f"{prefix}features.{index}")(x)
        index += 1
        features[f"c{stage}"] = x
    return features
