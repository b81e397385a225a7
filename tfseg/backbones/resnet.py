"""ResNet and ResNeXt, strided or dilated, as Caffe and torch have them.

He et al., Deep Residual Learning for Image Recognition, 2016; Xie et al., Aggregated Residual
Transformations for Deep Neural Networks, 2017.
"""

from dataclasses import dataclass
from typing import Any

import keras

from tfseg.layers.context import add_global_context
from tfseg.layers.conv import MaxPool2D, Norm, batch_norm, conv2d, filler


@dataclass(frozen=True)
class ResNetLayout:
    """Blocks of each stage, groups of the 3x3 convolutions, and channels of a group."""

    blocks: tuple[int, int, int, int]
    groups: int = 1
    group_width: int = 64


RESNETS = {
    "resnet50": ResNetLayout((3, 4, 6, 3)),
    "resnet101": ResNetLayout((3, 4, 23, 3)),
    "resnet152": ResNetLayout((3, 8, 36, 3)),
    "resnext50_32x4d": ResNetLayout((3, 4, 6, 3), 32, 4),
    "resnext101_32x8d": ResNetLayout((3, 4, 23, 3), 32, 8),
    "resnext101_64x4d": ResNetLayout((3, 4, 23, 3), 64, 4),
    "resnext152_32x8d": ResNetLayout((3, 8, 36, 3), 32, 8),
}

#: ResNets are initialised for the signal's backward path: fan-out, as in the released code.
FAN_OUT = filler("VarianceScaling", scale=2.0, mode="fan_out", distribution="untruncated_normal")


def _stem(x: Any, kind: str, norm: Norm, ceil_mode: bool, prefix: str) -> Any:
    def unit(x: Any, filters: int, kernel: int, stride: int, number: int) -> Any:
        name = f"{prefix}conv{number}"
        x = conv2d(x, filters, kernel, stride=stride, name=name, initializer=FAN_OUT)
        x = norm(x, f"{prefix}bn{number}")
        return keras.layers.ReLU(name=f"{prefix}relu{number}")(x)

    if kind == "plain":
        x = unit(x, 64, 7, 2, 1)
    else:
        x = unit(x, 64, 3, 2, 1)
        x = unit(x, 64, 3, 1, 2)
        x = unit(x, 128, 3, 1, 3)
    return MaxPool2D(3, 2, padding=1, ceil_mode=ceil_mode, name=f"{prefix}maxpool")(x)


def _bottleneck(
    x: Any,
    filters: int,
    inner: int,
    *,
    strides: tuple[int, int],
    dilation: int,
    groups: int,
    project: bool,
    global_context: bool,
    norm: Norm,
    name: str,
) -> Any:
    """1x1 -> 3x3 -> 1x1 with ``strides`` of the first two, beside the identity or a projection."""
    y = conv2d(x, inner, 1, stride=strides[0], name=f"{name}.conv1", initializer=FAN_OUT)
    y = keras.layers.ReLU(name=f"{name}.relu1")(norm(y, f"{name}.bn1"))
    y = conv2d(
        y,
        inner,
        3,
        stride=strides[1],
        dilation=dilation,
        padding=dilation,
        groups=groups,
        name=f"{name}.conv2",
        initializer=FAN_OUT,
    )
    y = norm(y, f"{name}.bn2")
    if global_context:
        y = add_global_context(y, name)
    y = keras.layers.ReLU(name=f"{name}.relu2")(y)
    y = conv2d(y, filters, 1, name=f"{name}.conv3", initializer=FAN_OUT)
    y = norm(y, f"{name}.bn3")
    if project:
        stride = strides[0] * strides[1]
        x = conv2d(x, filters, 1, stride=stride, name=f"{name}.downsample.0", initializer=FAN_OUT)
        x = norm(x, f"{name}.downsample.1")
    return keras.layers.ReLU(name=f"{name}.relu")(keras.layers.Add(name=f"{name}.add")([x, y]))


def resnet_stage(
    x: Any,
    layout: str,
    number: int,
    *,
    stride: int,
    stride_in: str = "3x3",
    dilation: int = 1,
    first_dilation: int | None = None,
    global_context: bool = False,
    norm: Norm,
    name: str,
) -> Any:
    """One of a ResNet's four stages.

    Args:
        x: (B, H, W, C).
        layout: a key of RESNETS.
        number: 1 to 4.
        stride: of the stage, in its first block.
        stride_in: see `resnet`.
        dilation: of the 3x3 convolutions.
        first_dilation: that of the first block; None: the same.
        global_context: see `tfseg.layers.context.add_global_context`.
        norm: see `tfseg.layers.conv.batch_norm`.
        name: of the stage; its blocks are "<name>.0" and so on.

    Returns:
        (B, H / stride, W / stride, 128 * 2 ** number).
    """
    net = RESNETS[layout]
    width = 64 * 2 ** (number - 1)
    inner = width * net.group_width // 64 * net.groups
    for block in range(net.blocks[number - 1]):
        step = stride if block == 0 else 1
        x = _bottleneck(
            x,
            width * 4,
            inner,
            strides=(step, 1) if stride_in == "1x1" else (1, step),
            dilation=first_dilation or dilation if block == 0 else dilation,
            groups=net.groups,
            project=block == 0,
            global_context=global_context,
            norm=norm,
            name=f"{name}.{block}",
        )
    return x


def resnet(
    x: Any,
    layout: str,
    *,
    output_stride: int = 32,
    stages: int = 4,
    stride_in: str = "3x3",
    stem: str = "plain",
    ceil_mode: bool = False,
    dilate_first_block: bool = False,
    global_context: bool = False,
    norm: Norm | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    """A ResNet or ResNeXt trunk.

    Args:
        x: images (B, H, W, C), preprocessed.
        layout: a key of RESNETS.
        output_stride: 8, 16 or 32; later stages dilate instead of striding.
        stages: the first so many; a C4 detector's trunk has three.
        stride_in: the convolution of a stage's first block that strides: "1x1" (the paper and
            Caffe) or "3x3" (torch).
        stem: "plain", 7x7 stride 2 to 64 channels, or "deep", PSPNet's three 3x3.
        ceil_mode: the stem's pool rounds sizes up, as in Caffe.
        dilate_first_block: the first block of a dilated stage has the stage's dilation, as in
            PSPNet's prototxt, and not the previous one's, as in torchvision.
        global_context: see `tfseg.layers.context.add_global_context`: on the 3x3 of each block.
        norm: see `tfseg.layers.conv.batch_norm`; None: batch, epsilon 1e-5, momentum 0.9.
        prefix: of every layer name.

    Returns:
        {"c2", "c3", "c4", "c5"}: (B, h, w, C) with C = 256, 512, 1024, 2048; fewer of fewer
        stages.

    Raises:
        ValueError: for a value not listed above.
    """
    if layout not in RESNETS:
        raise ValueError(f"layout must be one of {sorted(RESNETS)}, not {layout!r}")
    for what, value, allowed in (
        ("output_stride", output_stride, (8, 16, 32)),
        ("stride_in", stride_in, ("1x1", "3x3")),
        ("stem", stem, ("plain", "deep")),
    ):
        if value not in allowed:
            raise ValueError(f"{what} must be one of {allowed}, not {value!r}")
    norm = norm or batch_norm("batch")
    x = _stem(x, stem, norm, ceil_mode, prefix)
    stride_now, dilation, features = 4, 1, {}
    for stage in range(1, stages + 1):
        stride = 1 if stage == 1 else 2
        before = dilation
        if stride_now * stride > output_stride:
            dilation, stride = dilation * stride, 1
        stride_now *= stride
        x = resnet_stage(
            x,
            layout,
            stage,
            stride=stride,
            stride_in=stride_in,
            dilation=dilation,
            first_dilation=None if dilate_first_block else before,
            global_context=global_context,
            norm=norm,
            name=f"{prefix}layer{stage}",
        )
        features[f"c{stage + 1}"] = x
    return features
