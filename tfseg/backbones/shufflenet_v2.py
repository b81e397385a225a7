"""ShuffleNetV2, as torchvision and as Megvii released it.

Ma et al., ShuffleNet V2: Practical Guidelines for Efficient CNN Architecture Design, ECCV 2018;
code in github.com/megvii-model/ShuffleNet-Series, ShuffleNetV2/{blocks,network}.py.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import keras

from tfseg.layers.context import add_global_context
from tfseg.layers.conv import MaxPool2D, Norm, batch_norm, conv2d, filler
from tfseg.layers.shuffle import ChannelShuffle

#: channels of the three stages and of the last convolution (table 5 of the paper)
SHUFFLENETS = {
    "shufflenet_v2_x0_5": (48, 96, 192, 1024),
    "shufflenet_v2_x1_0": (116, 232, 464, 1024),
    "shufflenet_v2_x1_5": (176, 352, 704, 1024),
    "shufflenet_v2_x2_0": (244, 488, 976, 2048),
}
#: blocks of the three stages
BLOCKS = (4, 8, 4)
STYLES = ("megvii", "torchvision")
_STEM = 24


def style_norm(style: str, kind: str, epsilon: float = 1e-5) -> Norm:
    """The batch normalisation of a style: Megvii's offsets start at 1e-4."""
    return batch_norm(kind, epsilon=epsilon, shift=1e-4 if style == "megvii" else 0.0)


def megvii_filler(inputs: int) -> dict[str, Any]:
    """Megvii's initialisation: gaussian of deviation 1 / the input channels of one output."""
    return filler("RandomNormal", stddev=1 / inputs)


#: of Megvii's stems and fully connected layers
MEGVII_FIRST = filler("RandomNormal", stddev=0.01)


def _filler(style: str, inputs: int, kernel: int = 1) -> dict[str, Any]:
    """A style's initialisation of a kernel of which one output sees so many channels."""
    if style == "megvii":
        return megvii_filler(inputs)
    # As `TORCH`; of depthwise kernels Keras would count all channels into the fan-in.
    bound = (inputs * kernel**2) ** -0.5
    return filler("RandomUniform", minval=-bound, maxval=bound)


def depthwise_conv(
    x: Any, *, stride: int = 1, dilation: int = 1, name: str, initializer: Any
) -> Any:
    """A 3x3 depthwise convolution with torch's padding: ``dilation`` zeros on each side."""
    if stride > 1:
        x = keras.layers.ZeroPadding2D(dilation, name=f"{name}.pad")(x)
    return keras.layers.DepthwiseConv2D(
        3,
        strides=stride,
        padding="valid" if stride > 1 else "same",
        dilation_rate=dilation,
        use_bias=False,
        depthwise_initializer=initializer,
        name=name,
    )(x)


def shuffled_halves(x: Any, name: str) -> tuple[Any, Any]:
    """The even channels and the odd ones: Megvii's shuffle, at the input of a block."""
    x = ChannelShuffle(x.shape[-1] // 2, name=f"{name}.shuffle")(x)
    even, odd = keras.ops.split(x, 2, axis=-1)
    return even, odd


def stage_steps(strides: Sequence[int], output_stride: int) -> Iterator[tuple[int, int, int]]:
    """How stages behind a stem of stride 4 stride and dilate.

    Args:
        strides: of the stages, undilated.
        output_stride: 8, 16 or 32; past it stages dilate instead of striding.

    Yields:
        A stage's stride, the dilation of what strides in it, and that of all behind.

    Raises:
        ValueError: for another output_stride.
    """
    if output_stride not in (8, 16, 32):
        raise ValueError(f"output_stride must be 8, 16 or 32, not {output_stride!r}")
    stride_now, dilation = 4, 1
    for stride in strides:
        before = dilation
        if stride_now * stride > output_stride:
            dilation, stride = dilation * stride, 1
        stride_now *= stride
        yield stride, before, dilation


def _unit(x: Any, filters: int, *, style: str, norm: Norm, name: str, first: int) -> Any:
    """A 1x1 convolution, its norm and ReLU, which are ``name`` + first, first + 1, first + 2."""
    initializer = _filler(style, x.shape[-1])
    x = conv2d(x, filters, 1, name=f"{name}.{first}", initializer=initializer)
    return keras.layers.ReLU(name=f"{name}.{first + 2}")(norm(x, f"{name}.{first + 1}"))


def _block(
    x: Any,
    filters: int,
    *,
    project: bool,
    stride: int,
    dilation: int,
    global_context: bool,
    style: str,
    norm: Norm,
    name: str,
) -> Any:
    """Half of the channels, or a projection of all, beside 1x1 -> 3x3 depthwise -> 1x1."""
    depthwise: dict[str, Any] = {
        "stride": stride,
        "dilation": dilation,
        "initializer": _filler(style, 1, kernel=3),
    }
    if project:
        kept = depthwise_conv(x, name=f"{name}.branch1.0", **depthwise)
        kept = norm(kept, f"{name}.branch1.1")
        width = x.shape[-1] if style == "megvii" else filters // 2
        kept = _unit(kept, width, style=style, norm=norm, name=f"{name}.branch1", first=2)
    elif style == "megvii":
        kept, x = shuffled_halves(x, name)
    else:
        kept, x = keras.ops.split(x, 2, axis=-1)
    branch = f"{name}.branch2"
    x = _unit(x, filters // 2, style=style, norm=norm, name=branch, first=0)
    x = norm(depthwise_conv(x, name=f"{branch}.3", **depthwise), f"{branch}.4")
    width = filters - kept.shape[-1]
    x = _unit(x, width, style=style, norm=norm, name=branch, first=5)
    if global_context:
        x = add_global_context(x, name)
    x = keras.layers.Concatenate(name=f"{name}.concat")([kept, x])
    return x if style == "megvii" else ChannelShuffle(2, name=f"{name}.shuffle")(x)


def shufflenet_v2(
    x: Any,
    layout: str,
    *,
    style: str = "torchvision",
    output_stride: int = 32,
    global_context: bool = False,
    norm: Norm | None = None,
    prefix: str = "",
) -> dict[str, Any]:
    """A ShuffleNetV2 trunk.

    Channels flow between the two branches by the shuffle alone. The styles differ in where it is,
    in the width of the projections, and in initialisation; the weights of one are of other shapes
    than the other's.

    Args:
        x: images (B, H, W, 3), preprocessed.
        layout: a key of SHUFFLENETS.
        style: "torchvision" (blocks end with the shuffle; a projection has half of a stage's
            channels) or "megvii" (blocks start with it; a projection keeps its input's).
        output_stride: 8, 16 or 32; past it stages dilate instead of striding, their first block
            with the dilation before it.
        global_context: see `tfseg.layers.context.add_global_context`.
        norm: None: the style's own, trained.
        prefix: of every layer name; names are torchvision's, in both styles.

    Returns:
        {"c2": the stem's 24 channels, "c3", "c4", "c5": the stages' channels in SHUFFLENETS,
        "last": its last}.

    Raises:
        ValueError: for another layout, style or output_stride.
    """
    for what, value, allowed in (("layout", layout, SHUFFLENETS), ("style", style, STYLES)):
        if value not in allowed:
            raise ValueError(f"{what} must be one of {sorted(allowed)}, not {value!r}")
    norm = norm or style_norm(style, "batch")
    *widths, last = SHUFFLENETS[layout]
    first = MEGVII_FIRST if style == "megvii" else _filler(style, x.shape[-1], 3)
    x = conv2d(x, _STEM, 3, stride=2, initializer=first, name=f"{prefix}conv1.0")
    x = keras.layers.ReLU(name=f"{prefix}conv1.2")(norm(x, f"{prefix}conv1.1"))
    x = MaxPool2D(3, 2, padding=1, name=f"{prefix}maxpool")(x)
    features = {"c2": x}
    steps = stage_steps((2, 2, 2), output_stride)
    for stage, (width, blocks, step) in enumerate(zip(widths, BLOCKS, steps, strict=True), 2):
        stride, before, dilation = step
        for block in range(blocks):
            x = _block(
                x,
                width,
                project=block == 0,
                stride=stride if block == 0 else 1,
                dilation=before if block == 0 else dilation,
                global_context=global_context,
                style=style,
                norm=norm,
                name=f"{prefix}stage{stage}.{block}",
            )
        features[f"c{stage + 1}"] = x
    features["last"] = _unit(x, last, style=style, norm=norm, name=f"{prefix}conv5", first=0)
    return features
