"""MobileNetV2, as torchvision and as keras.applications have it.

Sandler et al., MobileNetV2: Inverted Residuals and Linear Bottlenecks, 2018.
"""

from typing import Any

import keras

from tfseg.layers.conv import Norm, batch_norm, conv2d

#: expansion, channels, repeats, stride of the first (table 2 of the paper)
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STYLES = ("keras", "torchvision")
#: what a stage's last map is called
_FEATURES = {24: "c2", 32: "c3", 96: "c4", 320: "c5"}


def style_norm(style: str, kind: str) -> Norm:
    """The batch normalisation of a style: epsilon 1e-3 in Keras, 1e-5 in torchvision."""
    if style == "keras":
        return batch_norm(kind, epsilon=1e-3, momentum=0.999)
    return batch_norm(kind, epsilon=1e-5, momentum=0.9)


def _strided(x: Any, style: str, stride: int, name: str) -> tuple[Any, str]:
    """The padding before a 3x3 of this stride: keras.applications pads as TensorFlow's "same"."""
    if stride == 1 or style == "keras":
        return x, "same"
    return keras.layers.ZeroPadding2D(1, name=f"{name}.pad")(x), "valid"


def _inverted_residual(
    x: Any,
    filters: int,
    *,
    expansion: int,
    stride: int,
    dilation: int,
    style: str,
    norm: Norm,
    name: str,
) -> Any:
    channels = x.shape[-1]
    y, step = x, 0
    if expansion != 1:
        y = conv2d(y, channels * expansion, 1, name=f"{name}.conv.0.0")
        y = keras.layers.ReLU(6.0, name=f"{name}.conv.0.2")(norm(y, f"{name}.conv.0.1"))
        step = 1
    depthwise = f"{name}.conv.{step}"
    y, padding = _strided(y, style, stride, depthwise)
    y = keras.layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding=padding,
        dilation_rate=dilation,
        use_bias=False,
        depthwise_initializer="he_normal",
        name=f"{depthwise}.0",
    )(y)
    y = keras.layers.ReLU(6.0, name=f"{depthwise}.2")(norm(y, f"{depthwise}.1"))
    y = conv2d(y, filters, 1, name=f"{name}.conv.{step + 1}")
    y = norm(y, f"{name}.conv.{step + 2}")
    if stride == 1 and channels == filters:
        y = keras.layers.Add(name=f"{name}.add")([x, y])
    return y


def mobilenet_v2(
    x: Any,
    *,
    style: str = "torchvision",
    output_stride: int = 32,
    norm: Norm | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    """A MobileNetV2 trunk of width 1.

    Args:
        x: images (B, H, W, 3), preprocessed.
        style: "torchvision" (symmetric padding, epsilon 1e-5) or "keras" (keras.applications:
            "same" padding, epsilon 1e-3). The weights of one are wrong in the other.
        output_stride: 8, 16 or 32; past it blocks dilate instead of striding, the striding
            block itself with the dilation before it.
        norm: None: the style's own, trained.
        prefix: of every layer name; names are torchvision's.

    Returns:
        {"c2": 24, "c3": 32, "c4": 96, "c5": 320 channels, "last": 1280 channels}.

    Raises:
        ValueError: for another style or output_stride.
    """
    if style not in STYLES:
        raise ValueError(f"style must be one of {STYLES}, not {style!r}")
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, not {output_stride!r}")
    norm = norm or style_norm(style, "batch")
    stem = f"{prefix}features.0"
    y, padding = _strided(x, style, 2, stem)
    y = keras.layers.Conv2D(
        32,
        3,
        strides=2,
        padding=padding,
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{stem}.0",
    )(y)
    y = keras.layers.ReLU(6.0, name=f"{stem}.2")(norm(y, f"{stem}.1"))
    index, stride_now, dilation, features = 1, 2, 1, {}
    for expansion, filters, repeats, first_stride in STAGES:
        for repeat in range(repeats):
            stride = first_stride if repeat == 0 else 1
            before = dilation
            if stride_now * stride > output_stride:
                dilation, stride = dilation * stride, 1
            stride_now *= stride
            y = _inverted_residual(
                y,
                filters,
                expansion=expansion,
                stride=stride,
                dilation=before,
                style=style,
                norm=norm,
                name=f"{prefix}features.{index}",
            )
            index += 1
        if filters in _FEATURES:
            features[_FEATURES[filters]] = y
    y = conv2d(y, 1280, 1, name=f"{prefix}features.{index}.0")
    y = norm(y, f"{prefix}features.{index}.1")
    features["last"] = keras.layers.ReLU(6.0, name=f"{prefix}features.{index}.2")(y)
    return features
