"""U-Net, as the paper draws it and as the authors released it.

Ronneberger, Fischer, Brox, U-Net: Convolutional Networks for Biomedical Image Segmentation,
MICCAI 2015; the release is phseg_v5.prototxt, whose layer names are used here.
"""

from typing import Any

import keras

from tfseg.layers.conv import MSRA, MaxPool2D
from tfseg.layers.resize import CenterCropLike, PadLike
from tfseg.registry import Preprocessing, register

PAPER = "Ronneberger et al., U-Net, MICCAI 2015"
DEPTH = 4


def _preprocessing(options: dict[str, Any]) -> Preprocessing:
    """Values to -0.5 .. 0.5; the paper does not say what it feeds."""
    if options["in_channels"] == 1:
        return Preprocessing("gray", (127.5,), (255.0,))
    return Preprocessing("rgb", (127.5,) * 3, (255.0,) * 3)


def _conv_relu(x: Any, filters: int, padding: str, name: str) -> Any:
    x = keras.layers.Conv2D(filters, 3, padding=padding, kernel_initializer=MSRA, name=name)(x)
    return keras.layers.ReLU(name=f"{name}.relu")(x)


def _up(x: Any, filters: int, relu: bool, name: str) -> Any:
    """The 2x2 "up-convolution": a transposed convolution of stride 2."""
    x = keras.layers.Conv2DTranspose(filters, 2, strides=2, kernel_initializer=MSRA, name=name)(x)
    return keras.layers.ReLU(name=f"{name}.relu")(x) if relu else x


def _unet(
    num_classes: int,
    *,
    in_channels: int,
    base_filters: int,
    padding: str,
    dropout: float,
    up_relu: bool,
    last_up_filters: int,
) -> keras.Model:
    if padding not in ("valid", "same"):
        raise ValueError(f"padding must be 'valid' or 'same', not {padding!r}")
    if in_channels not in (1, 3):
        raise ValueError(f"in_channels must be 1 or 3, not {in_channels!r}")
    image = keras.Input((None, None, in_channels), name="image")
    x, skips = image, []
    for level in range(DEPTH + 1):
        filters = base_filters * 2**level
        x = _conv_relu(x, filters, padding, f"conv_d{level}a-b")
        x = _conv_relu(x, filters, padding, f"conv_d{level}b-c")
        if level >= DEPTH - 1:
            # In place in the release: the skip of level 3 carries it too.
            x = keras.layers.Dropout(dropout, name=f"dropout_d{level}c")(x)
        if level < DEPTH:
            skips.append(x)
            x = MaxPool2D(2, 2, name=f"pool_d{level}c-{level + 1}a")(x)
    for level in reversed(range(DEPTH)):
        filters = base_filters * 2**level
        below = f"d{level + 1}c" if level == DEPTH - 1 else f"u{level + 1}d"
        up_filters = last_up_filters if level == 0 else filters
        x = _up(x, up_filters, up_relu, f"upconv_{below}_u{level}a")
        skip = skips[level]
        if padding == "valid":
            skip = CenterCropLike(name=f"crop_d{level}c")([skip, x])
        else:
            # The pool dropped an odd last row or column: put zeros in its place.
            x = PadLike(name=f"pad_u{level}a")([x, skip])
        x = keras.layers.Concatenate(name=f"concat_u{level}b")([x, skip])
        x = _conv_relu(x, filters, padding, f"conv_u{level}b-c")
        x = _conv_relu(x, filters, padding, f"conv_u{level}c-d")
    score = keras.layers.Conv2D(
        num_classes, 1, kernel_initializer=MSRA, dtype="float32", name="conv_u0d-score"
    )
    return keras.Model(image, score(x))


@register("unet", task="semantic", paper=PAPER, num_classes=2, preprocessing=_preprocessing)
def unet(
    num_classes: int,
    in_channels: int = 1,
    base_filters: int = 64,
    padding: str = "valid",
    dropout: float = 0.5,
) -> keras.Model:
    """The network of figure 1.

    Args:
        num_classes: classes of the output.
        in_channels: 1 (grey) or 3.
        base_filters: channels of the first level, doubled at each of the four below.
        padding: "valid", the paper's: inputs of 16 k + 60 give outputs of 16 k - 124 (572 gives
            388); or "same": any size gives its own size.
        dropout: rate at the end of the two lowest levels.
    """
    return _unet(
        num_classes,
        in_channels=in_channels,
        base_filters=base_filters,
        padding=padding,
        dropout=dropout,
        up_relu=False,
        last_up_filters=base_filters,
    )


#: im2double of 8-bit images (segmentAndTrack2.m with normImage false, as for phseg_v5)
RELEASE_GRAY = Preprocessing("gray", (0.0,), (255.0,))


@register("unet_release", task="semantic", paper=PAPER, num_classes=2, preprocessing=RELEASE_GRAY)
def unet_release(num_classes: int) -> keras.Model:
    """The released network: ReLU after each up-convolution, the last of which keeps 128 channels.

    Inputs of 16 k + 60 give outputs of 16 k - 124.
    """
    return _unet(
        num_classes,
        in_channels=1,
        base_filters=64,
        padding="valid",
        dropout=0.5,
        up_relu=True,
        last_up_filters=128,
    )
