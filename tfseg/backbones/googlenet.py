"""GoogLeNet (Inception v1), as torchvision and as BVLC's Caffe model have it.

Szegedy et al., Going Deeper with Convolutions, CVPR 2015, table 1.
"""

from typing import Any

import keras

from tfseg.layers.conv import MaxPool2D, batch_norm, conv2d
from tfseg.layers.lrn import LocalResponseNormalization

STYLES = ("torchvision", "caffe")
#: 1x1; 1x1 before 3x3, 3x3; 1x1 before 5x5, 5x5; 1x1 behind the pool
INCEPTIONS = {
    "3a": (64, 96, 128, 16, 32, 32),
    "3b": (128, 128, 192, 32, 96, 64),
    "4a": (192, 96, 208, 16, 48, 64),
    "4b": (160, 112, 224, 24, 64, 64),
    "4c": (128, 128, 256, 24, 64, 64),
    "4d": (112, 144, 288, 32, 64, 64),
    "4e": (256, 160, 320, 32, 128, 128),
    "5a": (256, 160, 320, 32, 128, 128),
    "5b": (384, 192, 384, 48, 128, 128),
}


def _unit(x: Any, filters: int, kernel: int, stride: int, style: str, name: str) -> Any:
    """A convolution and ReLU; in torchvision's network with batch normalisation between."""
    normalised = style == "torchvision"
    x = conv2d(
        x,
        filters,
        kernel,
        stride=stride,
        padding=kernel // 2,
        use_bias=not normalised,
        name=f"{name}.conv",
    )
    if normalised:
        x = batch_norm("batch", epsilon=1e-3)(x, f"{name}.bn")
    return keras.layers.ReLU(name=f"{name}.relu")(x)


def _inception(x: Any, filters: tuple[int, ...], style: str, name: str) -> Any:
    one, reduce3, three, reduce5, five, pooled = filters
    # torchvision's "5x5" is a 3x3 (pytorch/vision, issue 906).
    large = 3 if style == "torchvision" else 5
    branch2 = _unit(x, reduce3, 1, 1, style, f"{name}.branch2.0")
    branch3 = _unit(x, reduce5, 1, 1, style, f"{name}.branch3.0")
    branch4 = MaxPool2D(3, 1, padding=1, name=f"{name}.branch4.0")(x)
    branches = [
        _unit(x, one, 1, 1, style, f"{name}.branch1"),
        _unit(branch2, three, 3, 1, style, f"{name}.branch2.1"),
        _unit(branch3, five, large, 1, style, f"{name}.branch3.1"),
        _unit(branch4, pooled, 1, 1, style, f"{name}.branch4.1"),
    ]
    return keras.layers.Concatenate(name=name)(branches)


def googlenet(x: Any, *, style: str = "torchvision", prefix: str = "") -> dict[str, Any]:
    """GoogLeNet up to inception 5b, stride 32.

    Args:
        x: images (B, H, W, C), preprocessed.
        style: "torchvision" (batch normalisation, 3x3 for 5x5, a last pool of 2x2) or "caffe"
            (BVLC's: biases, local response normalisation, the paper's 5x5).
        prefix: of every layer name; names are torchvision's modules.

    Returns:
        {"c5"}: (B, h, w, 1024).

    Raises:
        ValueError: for another style.
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {STYLES}, not {style!r}")
    caffe = style == "caffe"

    def pool(x: Any, number: int, size: int = 3) -> Any:
        return MaxPool2D(size, 2, ceil_mode=True, name=f"{prefix}maxpool{number}")(x)

    x = pool(_unit(x, 64, 7, 2, style, f"{prefix}conv1"), 1)
    if caffe:
        x = LocalResponseNormalization(name=f"{prefix}norm1")(x)
    x = _unit(x, 64, 1, 1, style, f"{prefix}conv2")
    x = _unit(x, 192, 3, 1, style, f"{prefix}conv3")
    if caffe:
        x = LocalResponseNormalization(name=f"{prefix}norm2")(x)
    x = pool(x, 2)
    for block, filters in INCEPTIONS.items():
        if block == "4a":
            x = pool(x, 3)
        elif block == "5a":
            x = pool(x, 4, 3 if caffe else 2)
        x = _inception(x, filters, style, f"{prefix}inception{block}")
    return {"c5": x}
