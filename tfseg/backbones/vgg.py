"""VGG16 (configuration D), plain, padded, dilated, with and without batch normalisation.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015.
"""

from collections.abc import Callable
from typing import Any

import keras

from tfseg.layers.conv import MSRA, MaxPool2D, Norm, conv2d

#: channels, as multiples of the first stage's, and convolutions of each stage
STAGES = ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3))
#: (map, stage, layer name) -> the pooled map
Pool = Callable[[Any, int, str], Any]


def halve(x: Any, stage: int, name: str) -> Any:
    """The paper's pool: 2x2, stride 2, an odd last row or column dropped."""
    return MaxPool2D(2, 2, name=name)(x)


def vgg16(
    x: Any,
    *,
    norm: Norm | None = None,
    pool: Pool = halve,
    first_padding: int = 1,
    padding: int | None = None,
    conv5_dilation: int = 1,
    base_filters: int = 64,
    initializer: Any = MSRA,
    prefix: str = "",
) -> dict[str, Any]:
    """VGG16's thirteen convolutions and five pools.

    Layers are named after the index of torchvision's ``features``, whatever ``pool`` leaves out.

    Args:
        x: images (B, H, W, C), preprocessed.
        norm: batch normalisation after every convolution; None: none, as in the paper.
        pool: what follows each stage, 1 to 5.
        first_padding: of the first convolution: FCN's is 100.
        padding: of the others, and of the first too where it is 0; None: what keeps the size.
        conv5_dilation: of the last stage's convolutions.
        base_filters: channels of the first stage; 64 in the paper.
        initializer: of kernels.
        prefix: of every layer name.

    Returns:
        {"c1", ..., "c5"}: the maps after each pool, 64 to 512 channels, stride 2 to 32.
    """
    features, index = {}, 0
    for stage, (multiple, count) in enumerate(STAGES, start=1):
        for _ in range(count):
            dilation = conv5_dilation if stage == 5 else 1
            x = conv2d(
                x,
                multiple * base_filters,
                3,
                padding=first_padding if index == 0 and padding is None else padding,
                dilation=dilation,
                use_bias=True,
                initializer=initializer,
                name=f"{prefix}features.{index}",
            )
            index += 1
            if norm is not None:
                x = norm(x, f"{prefix}features.{index}")
                index += 1
            x = keras.layers.ReLU(name=f"{prefix}features.{index}")(x)
            index += 1
        x = pool(x, stage, f"{prefix}features.{index}")
        index += 1
        features[f"c{stage}"] = x
    return features


def layer_names(norms: bool = False) -> dict[str, str]:
    """The released Caffe networks' names ("conv1_1", "bn1_1") of the layers with weights.

    Args:
        norms: of the network with batch normalisation.

    Returns:
        {"features.N": the Caffe name}.
    """
    names, index = {}, 0
    for stage, (_, count) in enumerate(STAGES, start=1):
        for number in range(1, count + 1):
            names[f"features.{index}"] = f"conv{stage}_{number}"
            if norms:
                names[f"features.{index + 1}"] = f"bn{stage}_{number}"
            index += 3 if norms else 2
        index += 1
    return names
