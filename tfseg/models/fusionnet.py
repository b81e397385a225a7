"""FusionNet: a U-Net of residual blocks whose skips are sums.

Quan, Hildebrand, Jeong, FusionNet: A Deep Fully Residual Convolutional Neural Network for Image
Segmentation in Connectomics, arXiv 1612.05360. The release, tmquan/FusionNet, is Keras 1 code;
its Model.py gives the network and the names of its variables, which the layers here have.
"""

from typing import Any

import keras

from tfseg.layers.conv import MaxPool2D
from tfseg.layers.resize import PadLike
from tfseg.registry import Preprocessing, register

PAPER = "Quan et al., FusionNet, arXiv 1612.05360"
DEPTH = 4


def _conv_relu(x: Any, filters: int, name: str) -> Any:
    return keras.layers.Conv2D(filters, 3, padding="same", activation="relu", name=name)(x)


def _norm(x: Any, name: str) -> Any:
    """Keras 1's ``BatchNormalization(mode=2)`` of one image: its own statistics, always."""
    return keras.layers.GroupNormalization(groups=-1, epsilon=1e-3, name=name)(x)


def _residual(x: Any, filters: int, convs: int, name: str) -> Any:
    """Norms in front of the convolutions, ReLUs behind them, and none behind the sum."""
    branch = x
    for index in range(1, convs + 1):
        branch = _norm(branch, f"{name}.norm{index}")
        branch = _conv_relu(branch, filters, f"{name}.conv{index}")
    return keras.layers.Add(name=f"{name}.sum")([x, branch])


@register(
    "fusionnet",
    task="semantic",
    paper=PAPER,
    num_classes=1,
    preprocessing=Preprocessing("gray", (0.0,), (1.0,)),
)
def fusionnet(
    num_classes: int,
    base_filters: int = 64,
    residual_convs: int = 2,
    dropout: float = 0.25,
) -> keras.Model:
    """The released network; takes grey images of any size, 0 .. 255 as the release feeds them.

    Train.py sets up per-image standardisation, but trains on arrays that it was not applied to.
    Norms use each image's own mean and variance in training and in inference: so do the release's
    (``mode=2``, batches of one). Its norms stand on axis 1, the channels before its arrays
    became channels-last and the rows since; here they normalise channels.

    Args:
        num_classes: channels of the output; 1, the release's, is the logit of the foreground,
            class 1 of two.
        base_filters: channels of the first level, doubled at each of the four below.
        residual_convs: convolutions of a residual block: 2 in the release, 3 in the paper.
        dropout: rate at the end of each level, in the skips too, and after each sum.

    Raises:
        ValueError: for another ``residual_convs``.
    """
    if residual_convs not in (2, 3):
        raise ValueError(f"residual_convs must be 2 or 3, not {residual_convs!r}")
    drop = keras.layers.Dropout
    image = keras.Input((None, None, 1), name="image")
    x, skips = image, []
    for level in range(DEPTH + 1):
        filters, name = base_filters * 2**level, f"conv{level + 1}a"
        x = _conv_relu(x, filters, f"{name}.in")
        x = _residual(x, filters, residual_convs, f"{name}.residual")
        if level == DEPTH:
            x = drop(dropout, name=f"{name}.dropout")(x)
            x = _conv_relu(x, filters, f"{name}.out")
        else:
            x = _conv_relu(x, filters, f"{name}.out")
            x = drop(dropout, name=f"{name}.dropout")(x)
            skips.append(x)
            x = MaxPool2D(2, 2, name=f"pool{level + 1}a")(x)
    for level in reversed(range(DEPTH)):
        filters, up = base_filters * 2**level, f"up{2 * DEPTH + 1 - level}a"
        name = up.replace("up", "conv")
        x = _conv_relu(x, filters, f"{up}.conv")
        x = keras.layers.Conv2DTranspose(
            filters, 3, strides=2, padding="same", activation="relu", name=f"{up}.deconv"
        )(x)
        # The pool dropped an odd last row or column: put zeros in its place.
        x = PadLike(name=f"{up}.pad")([x, skips[level]])
        x = keras.layers.Add(name=f"{name}.sum")([x, skips[level]])
        x = drop(dropout, name=f"{name}.dropout")(x)
        x = _residual(x, filters, residual_convs, f"{name}.residual")
        x = _conv_relu(x, filters, f"{name}.out")
    score = keras.layers.Conv2D(num_classes, 1, dtype="float32", name="conv10")
    return keras.Model(image, score(x))
