"""VGG16 (configuration D), plain, padded, dilated, with and without batch normalisation.

Simonyan and Zisserman, Very Deep Convolutional Networks for Large-Scale Image Recognition, 2015.
"""

from collections.abc import Callable
from typing import Any

import keras

from tfseg.layers.conv import MaxPool2D, Norm, conv2d

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


def fully_connected(
    x: Any,
    kernel: int,
    filters: int,
    *,
    dropout: float,
    dilation: int = 1,
    keep_size: bool = False,
    branch: str = "",
) -> Any:
    """An ImageNet classifier's fc6 and fc7 as convolutions, each with ReLU and dropout.

    Layers are "backbone.fc6", "backbone.fc7" and so on: ImageNet weights fit them.

    Args:
        x: (B, H, W, C), the trunk's last map.
        kernel: side of fc6: 7 of VGG16's; fc7 has 1.
        filters: channels of both.
        dropout: rate behind both.
        dilation: of fc6.
        keep_size: pad fc6 so that the map keeps its size; else nothing is padded.
        branch: end of every layer name.
    """
    for number, side in ((6, kernel), (7, 1)):
        x = conv2d(
            x,
            filters,
            side,
            padding=(side - 1) * dilation // 2 if keep_size else 0,
            dilation=dilation if number == 6 else 1,
            use_bias=True,
            name=f"backbone.fc{number}{branch}",
        )
        x = keras.layers.ReLU(name=f"backbone.relu{number}{branch}")(x)
        x = keras.layers.Dropout(dropout, name=f"backbone.drop{number}{branch}")(x)
    return x


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
