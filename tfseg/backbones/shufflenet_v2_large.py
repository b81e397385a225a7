"""The deep ShuffleNetV2s that Megvii released: Large and ExLarge.

github.com/megvii-model/ShuffleNet-Series, ShuffleNetV2.Large/network.py and
ShuffleNetV2.ExLarge/network.py. By its cost (12.7 G) and error (18.56 %), Large is the paper's
SE-ShuffleNet v2-164 with residual; ExLarge (46.2 G, 15.52 %, trained with data beside ImageNet) is
in no paper. The auxiliary classifiers behind the first three stages, which only their training
uses (losses weigh 1, 0.7, 0.5 and 0.3), are left out.
"""

from dataclasses import dataclass
from typing import Any

import keras

from tfseg.backbones.shufflenet_v2 import (
    MEGVII_FIRST,
    depthwise_conv,
    megvii_filler,
    shuffled_halves,
    stage_steps,
    style_norm,
)
from tfseg.layers.context import add_global_context
from tfseg.layers.conv import MaxPool2D, Norm, conv2d


@dataclass(frozen=True)
class DeepLayout:
    """The sizes of a deep ShuffleNetV2.

    Attributes:
        stem: channels of the three 3x3 convolutions.
        blocks: of each stage.
        channels: of each stage's output.
        groups: of the 3x3 convolutions.
        epsilon: of the batch normalisation.
        last: channels of a 3x3 convolution behind the last stage; None: ExLarge's blocks, of
            whose stages each ends with a 1x1 convolution.
    """

    stem: tuple[int, int, int]
    blocks: tuple[int, int, int, int]
    channels: tuple[int, int, int, int]
    groups: int
    epsilon: float = 1e-5
    last: int | None = None

    def block(self, stage: int, index: int) -> str:
        """A block's name: 2a, 2b, ... in Large, 0, 1, ... in ExLarge; both count from 0."""
        return str(index) if self.last is None else f"{stage + 2}{chr(ord('a') + index)}"


DEEP_SHUFFLENETS = {
    "shufflenet_v2_large": DeepLayout(
        (64, 64, 128), (10, 10, 23, 10), (256, 512, 1024, 2048), 8, 1e-9, 1280
    ),
    "shufflenet_v2_exlarge": DeepLayout(
        (64, 128, 256), (8, 16, 36, 10), (320, 640, 1280, 2560), 16
    ),
}


def deep_norm(layout: str, kind: str) -> Norm:
    """The batch normalisation of a deep ShuffleNetV2: Large's epsilon is 1e-9."""
    return style_norm("megvii", kind, DEEP_SHUFFLENETS[layout].epsilon)


def _unit(
    x: Any,
    filters: int,
    kernel: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    relu: bool = True,
    initializer: Any = None,
    norm: Norm,
    name: str,
) -> Any:
    """A convolution, its norm and, mostly, a ReLU."""
    x = conv2d(
        x,
        filters,
        kernel,
        stride=stride,
        dilation=dilation,
        groups=groups,
        initializer=initializer or megvii_filler(x.shape[-1] // groups),
        name=f"{name}.conv",
    )
    x = norm(x, f"{name}.bn")
    return keras.layers.ReLU(name=f"{name}.relu")(x) if relu else x


def _excited(x: Any, inner: int, name: str, leaf: str = "") -> Any:
    """Squeeze-and-excitation: channels times a gate that their global averages open."""
    gate = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.se_globalpool")(x)
    for number, (units, activation) in enumerate(((inner, "relu"), (x.shape[-1], "sigmoid")), 1):
        gate = keras.layers.Dense(
            units,
            activation=activation,
            kernel_initializer=MEGVII_FIRST,
            name=f"{name}.se_fc{number}{leaf}",
        )(gate)
    return keras.layers.Multiply(name=f"{name}.se_scale")([x, gate])


@dataclass(frozen=True)
class _Block:
    """How a block differs from those beside it.

    Attributes:
        stride: of its 3x3 convolutions.
        before: the dilation of the convolutions that stride.
        dilation: of those behind.
        project: first of its stage: no residual, and what it keeps is convolved.
        down: ends with a 1x1 convolution of Large's striding blocks.
    """

    stride: int
    before: int
    dilation: int
    project: bool
    down: bool


def _large_block(
    x: Any, filters: int, block: _Block, groups: int, context: bool, norm: Norm, name: str
) -> Any:
    half = filters // 2
    step: dict[str, Any] = {"stride": block.stride, "dilation": block.before, "norm": norm}
    kept, entry = shuffled_halves(x, name)
    if block.project:
        kept = _unit(kept, half, 3, relu=False, name=f"{name}.proj", **step)
    branch = f"{name}.branch_main"
    x = _unit(entry, half, 1, norm=norm, name=f"{branch}.0")
    x = _unit(x, half, 3, groups=groups, name=f"{branch}.1", **step)
    x = _unit(x, half, 1, relu=False, norm=norm, name=f"{branch}.2")
    x = _excited(x, half, name)
    if context:
        x = add_global_context(x, name)
    if not block.project:
        x = keras.layers.Add(name=f"{name}.add")([entry, x])
    x = keras.layers.Concatenate(name=f"{name}.concat")([kept, x])
    x = keras.layers.ReLU(name=f"{name}.relu")(x)
    return _unit(x, filters, 1, norm=norm, name=f"{name}.down") if block.down else x


def _exlarge_block(
    x: Any, filters: int, block: _Block, groups: int, context: bool, norm: Norm, name: str
) -> Any:
    half = filters // 2
    step: dict[str, Any] = {"stride": block.stride, "dilation": block.before, "norm": norm}
    if block.project:
        entry = x
        kept = _unit(x, filters - half, 3, name=f"{name}.proj", **step)
    else:
        kept, entry = shuffled_halves(x, name)
    branch = f"{name}.branch_main"
    x = _unit(entry, filters, 1, norm=norm, name=f"{branch}.0")
    x = _unit(x, filters, 3, groups=groups, name=f"{branch}.1", **step)
    x = depthwise_conv(
        x, dilation=block.dilation, initializer=megvii_filler(1), name=f"{branch}.2.conv"
    )
    x = norm(x, f"{branch}.2.bn")
    x = _unit(x, half, 1, relu=False, norm=norm, name=f"{branch}.3")
    x = _excited(x, half // 4, name, ".fc")
    if context:
        x = add_global_context(x, name)
    if not block.project:
        x = keras.layers.Add(name=f"{name}.add")([entry, x])
        x = keras.layers.ReLU(name=f"{name}.relu")(x)
    return keras.layers.Concatenate(name=f"{name}.concat")([kept, x])


def shufflenet_v2_deep(
    x: Any,
    layout: str,
    *,
    output_stride: int = 32,
    global_context: bool = False,
    norm: Norm | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    """The trunk of ShuffleNetV2.Large or ShuffleNetV2.ExLarge.

    Args:
        x: images (B, H, W, 3), preprocessed.
        layout: a key of DEEP_SHUFFLENETS.
        output_stride: 8, 16 or 32; past it stages dilate instead of striding, as in
            `tfseg.backbones.resnet`.
        global_context: see `tfseg.layers.context.add_global_context`.
        norm: None: the layout's own, trained.
        prefix: of every layer name; names are those of the released modules.

    Returns:
        {"c2", "c3", "c4", "c5": the channels of the layout}, and "last": 1280 channels in Large.

    Raises:
        ValueError: for another layout or output_stride.
    """
    if layout not in DEEP_SHUFFLENETS:
        raise ValueError(f"layout must be one of {sorted(DEEP_SHUFFLENETS)}, not {layout!r}")
    net, norm = DEEP_SHUFFLENETS[layout], norm or deep_norm(layout, "batch")
    for index, (filters, stride) in enumerate(zip(net.stem, (2, 1, 1), strict=True)):
        name = f"{prefix}first_conv.{index}"
        x = _unit(x, filters, 3, stride=stride, initializer=MEGVII_FIRST, norm=norm, name=name)
    x = MaxPool2D(3, 2, padding=1, name=f"{prefix}maxpool")(x)
    make = _exlarge_block if net.last is None else _large_block
    features, strides, dilation = {}, (1, 2, 2, 2), 1
    for stage, (stride, before, dilation) in enumerate(stage_steps(strides, output_stride)):
        filters, blocks = net.channels[stage], net.blocks[stage]
        down = net.last is not None and strides[stage] == 2
        rest = _Block(1, dilation, dilation, project=False, down=False)
        first = _Block(stride, before, dilation, project=True, down=down)
        for index in range(blocks):
            name = f"{prefix}features.{stage}.{net.block(stage, index)}"
            block = rest if index else first
            x = make(x, filters, block, net.groups, global_context, norm, name)
        if net.last is None:
            x = _unit(x, filters, 1, norm=norm, name=f"{prefix}features.{stage}.{blocks}")
        features[f"c{stage + 2}"] = x
    if net.last is not None:
        name = f"{prefix}conv_last"
        features["last"] = _unit(x, net.last, 3, dilation=dilation, norm=norm, name=name)
    return features
