"""The dilation networks: a VGG16 front end at an eighth of the resolution, and a context module.

Yu and Koltun, Multi-Scale Context Aggregation by Dilated Convolutions, ICLR 2016; details from
the authors' network.py, train.py, datasets/*.json and models/dilation*_deploy.prototxt, with
network.py's layer names behind the trunk.

Nothing in the front end is padded: inputs of 8 k + 372 give scores of k, whose cell (i, j) stands
for the pixel (186 + 8 i, 186 + 8 j). `tfseg.predict` pads images, tiles them and upsamples.
"""

from collections.abc import Sequence
from typing import Any

import keras

from tfseg.backbones import vgg16
from tfseg.backbones.vgg import fully_connected
from tfseg.layers.conv import MaxPool2D, conv2d
from tfseg.layers.upsample import DepthwiseConv2DTranspose
from tfseg.registry import Preprocessing, register

PAPER = (
    "Yu and Koltun, Multi-Scale Context Aggregation by Dilated Convolutions, ICLR 2016 "
    "(arXiv 1511.07122)"
)
#: mean BGR colours (datasets/*.json)
MEANS = {
    "voc2012": (102.93, 111.36, 116.52),
    "camvid": (110.70313206, 108.77808759, 105.41212523),
    "kitti": (96.19429688, 95.55136972, 91.34692262),
    "cityscapes": (72.39, 82.91, 73.16),
}
CONTEXT_INITS = ("identity", "random")
#: channels of the large context module's layers but the last, as multiples of the classes
LARGE = (2, 2, 4, 8, 16, 32, 32)


@keras.saving.register_keras_serializable(package="tfseg")
class BlockIdentity(keras.initializers.Initializer):
    """Kernels that pass on their input, whatever the numbers of channels (equations 4 and 5).

    The input and output channels are ``groups`` blocks each. At the kernel's centre an output
    channel takes groups / out times the sum of its block of input channels; all else is noise,
    which breaks ties between channels of a block. Layers one after the other that begin and end
    with ``groups`` channels are the identity where no channel is negative.

    Args:
        groups: channels that the layers begin and end with; divides those of each layer.
        std: of the noise where all layers have ``groups`` channels; it shrinks with the number
            of channels in a block, as in network.py.
        seed: of the noise; None: keras' own.
    """

    def __init__(self, groups: int, std: float = 0.01, seed: int | None = None):
        self.groups, self.std, self.seed = groups, std, seed

    def __call__(self, shape: tuple[int, ...], dtype: Any = None) -> Any:
        """The kernel.

        Args:
            shape: (n, n, in, out), n odd.

        Raises:
            ValueError: if n is even, or a number of channels is no multiple of ``groups``.
        """
        height, width, into, out = shape
        if into % self.groups or out % self.groups or not height % 2 or not width % 2:
            raise ValueError(
                f"a kernel {tuple(shape)} cannot pass on {self.groups} blocks of channels: "
                "its sides must be odd and its channels multiples of the blocks"
            )
        ops = keras.ops
        block_in = ops.arange(into)[:, None] * self.groups // into
        block_out = ops.arange(out)[None, :] * self.groups // out
        at_centre = ops.zeros((height, width, 1, 1), "bool")
        at_centre = ops.slice_update(
            at_centre, (height // 2, width // 2, 0, 0), ops.ones((1, 1, 1, 1), "bool")
        )
        passed = ops.logical_and(at_centre, ops.equal(block_in, block_out))
        std = self.std * self.groups / max(into, out)
        noise = keras.initializers.RandomNormal(stddev=std, seed=self.seed)(shape, dtype)
        return ops.where(passed, ops.cast(self.groups / out, noise.dtype), noise)

    def get_config(self) -> dict[str, Any]:
        """The arguments that make an equal initializer."""
        return {"groups": self.groups, "std": self.std, "seed": self.seed}


def _first_three(x: Any, stage: int, name: str) -> Any:
    """Caffe's pool, whose size is rounded up; the last two are left out."""
    return MaxPool2D(2, 2, ceil_mode=True, name=name)(x) if stage <= 3 else x


def _scores(x: Any, num_classes: int, initializer: Any, name: str) -> Any:
    """A 1x1 convolution to scores, float32 under mixed precision too."""
    return keras.layers.Conv2D(
        num_classes, 1, kernel_initializer=initializer, dtype="float32", name=name
    )(x)


def _front_end(
    image: Any, num_classes: int, *, base_filters: int, fc_filters: int, dropout: float
) -> Any:
    """Section 4: images (B, H, W, 3) to scores (B, (H - 372) / 8, (W - 372) / 8, num_classes)."""
    x = vgg16(
        image,
        pool=_first_three,
        padding=0,
        conv5_dilation=2,
        base_filters=base_filters,
        prefix="backbone.",
    )["c5"]
    x = fully_connected(x, 7, fc_filters, dropout=dropout, dilation=4)
    return _scores(x, num_classes, keras.initializers.RandomNormal(stddev=0.001), "final")


def context_layers(layers: int) -> dict[str, int]:
    """The names and dilations of a context module's 3x3 convolutions, the first to the last.

    Args:
        layers: of the module, its 1x1 convolution too: 8 in table 1.
    """
    exponential = {f"ctx_conv{n}_1": 2 ** (n - 1) for n in range(2, layers - 2)}
    return {"ctx_conv1_1": 1, "ctx_conv1_2": 1, **exponential, "ctx_fc1": 1}


def _context(
    x: Any, num_classes: int, *, layers: int, multiples: Sequence[int] | None, init: str
) -> Any:
    """Section 3, table 1: scores to scores of the same size.

    Args:
        x: (B, h, w, num_classes).
        layers: 3x3 convolutions and the 1x1 convolution.
        multiples: None: the basic module, each of whose layers keeps the size; else a layer's
            channels over the classes, and all padding (the sum of the dilations) comes first.
        init: one of CONTEXT_INITS.
    """
    if init not in CONTEXT_INITS:
        raise ValueError(f"context_init must be one of {CONTEXT_INITS}, not {init!r}")

    def initializer() -> Any:
        return BlockIdentity(num_classes) if init == "identity" else "glorot_uniform"

    dilations = context_layers(layers)
    padding = None if multiples is None else sum(dilations.values())
    for (name, dilation), multiple in zip(
        dilations.items(), multiples or [1] * len(dilations), strict=True
    ):
        x = conv2d(
            x,
            multiple * num_classes,
            3,
            padding=padding,
            dilation=dilation,
            use_bias=True,
            initializer=initializer(),
            name=name,
        )
        x = keras.layers.ReLU(name=f"{name}.relu")(x)
        padding = None if multiples is None else 0
    return _scores(x, num_classes, initializer(), "ctx_final")


def _preprocessing(options: dict[str, Any]) -> Preprocessing:
    mean = options["mean"]
    if mean not in MEANS:
        raise ValueError(f"mean must be one of {sorted(MEANS)}, not {mean!r}")
    return Preprocessing("bgr", MEANS[mean], (1.0, 1.0, 1.0))


@register(
    "dilated_vgg16", task="semantic", paper=PAPER, num_classes=21, preprocessing=_preprocessing
)
def dilated_vgg16(
    num_classes: int,
    mean: str = "voc2012",
    base_filters: int = 64,
    fc_filters: int = 4096,
    dropout: float = 0.5,
) -> keras.Model:
    """The front end (section 4).

    Args:
        num_classes: classes of the output.
        mean: the data set whose mean colour is subtracted, a key of MEANS.
        base_filters: channels of VGG16's first stage.
        fc_filters: channels of fc6 and fc7.
        dropout: rate behind fc6 and fc7.
    """
    image = keras.Input((None, None, 3), name="image")
    widths = {"base_filters": base_filters, "fc_filters": fc_filters}
    return keras.Model(image, _front_end(image, num_classes, dropout=dropout, **widths))


def _register(
    name: str,
    num_classes: int,
    released_mean: str,
    *,
    layers: int,
    multiples: Sequence[int] | None = None,
    upsample: bool = False,
) -> None:
    @register(
        name, task="semantic", paper=PAPER, num_classes=num_classes, preprocessing=_preprocessing
    )
    def build(
        num_classes: int,
        mean: str = released_mean,
        context_init: str = "identity",
        base_filters: int = 64,
        fc_filters: int = 4096,
        dropout: float = 0.5,
    ) -> keras.Model:
        """The front end with a context module.

        Args:
            num_classes: classes of the output.
            mean: the data set whose mean colour is subtracted, a key of MEANS.
            context_init: "identity", the paper's, or "random", Glorot's, with which the paper's
                module did not learn.
            base_filters: channels of VGG16's first stage.
            fc_filters: channels of fc6 and fc7.
            dropout: rate behind fc6 and fc7. 0 where the context is trained behind a frozen front
                end, whose features the authors store beforehand.
        """
        image = keras.Input((None, None, 3), name="image")
        widths = {"base_filters": base_filters, "fc_filters": fc_filters}
        x = _front_end(image, num_classes, dropout=dropout, **widths)
        x = _context(x, num_classes, layers=layers, multiples=multiples, init=context_init)
        if upsample:
            x = DepthwiseConv2DTranspose(
                16, 8, padding=4, trainable=False, dtype="float32", name="ctx_upsample"
            )(x)
        return keras.Model(image, x)


# Each released network's classes and mean colour; the defaults of "dilated8_vgg16" are those of
# Dilation8 for CamVid, as no network with the basic module was released for VOC.
_register("dilated7_vgg16", 11, "kitti", layers=7)
_register("dilated8_vgg16", 11, "camvid", layers=8)
_register("dilated8_large_vgg16", 21, "voc2012", layers=8, multiples=LARGE)
_register("dilated10_vgg16", 19, "cityscapes", layers=10, upsample=True)
