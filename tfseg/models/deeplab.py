"""DeepLab v1: VGG16 with holes, and its multi-scale features.

Chen, Papandreou, Kokkinos, Murphy, Yuille, Semantic Image Segmentation with Deep Convolutional
Nets and Fully Connected CRFs, ICLR 2015 (arXiv 1412.7062); details from the released prototxts
DeepLab, DeepLab-LargeFOV, DeepLab-MSc and DeepLab-MSc-LargeFOV, whose layer names are used
behind the trunk. The CRF is a step of prediction.
"""

from dataclasses import dataclass
from typing import Any

import keras

from tfseg.backbones import vgg16
from tfseg.backbones.vgg import fully_connected
from tfseg.layers.conv import MaxPool2D, conv2d, filler
from tfseg.layers.resize import CropLike, Interp
from tfseg.models.classification import by_style
from tfseg.registry import Preprocessing, register

PAPER = "Chen et al., Semantic Image Segmentation with Deep Convolutional Nets, ICLR 2015"

#: the released networks'
DEEPLAB_BGR = Preprocessing("bgr", (104.008, 116.669, 122.675), (1.0, 1.0, 1.0))
style_preprocessing = by_style(DEEPLAB_BGR)
#: the filler of new classifiers
CLASSIFIER = filler("RandomNormal", stddev=0.01)
STRIDE = 8
#: where the image's first pixel lies in the upsampled scores of the first release
EVEN_OFFSET = 7


@dataclass(frozen=True)
class Field:
    """How fc6 looks at the map (table 2 of the paper).

    Attributes:
        kernel: side of fc6.
        dilation: the paper's input stride.
        filters: channels of fc6 and fc7.
        average: a 3x3 average pool, pool5a, comes first, as in the released LargeFOV networks.
    """

    kernel: int
    dilation: int
    filters: int = 4096
    average: bool = False


FIELDS = {
    "3x3r12": Field(3, 12, 1024, average=True),
    "7x7r4": Field(7, 4),
    "4x4r4": Field(4, 4),
    "4x4r8": Field(4, 8),
}


def aligned_pool(x: Any, stage: int, name: str) -> Any:
    """A 3x3 max pool, of stride 1 in the last two stages; cell i is centred on sample 2i."""
    stride = 2 if stage < 4 else 1
    return MaxPool2D(3, stride, padding=1, ceil_mode=True, name=name)(x)


def _even_pool(x: Any, stage: int, name: str) -> Any:
    """The first release's (DeepLab/test.prototxt): 2x2, whose cells lie between the samples."""
    if stage == 5:
        return aligned_pool(x, stage, name)
    return MaxPool2D(2, 2 if stage < 4 else 1, padding=1, name=name)(x)


def upsampled(scores: Any, image: Any, factor: int, name: str, offset: int = 0) -> Any:
    """Scores of stride ``factor`` at the image's size.

    Interpolated to (n - 1) * factor + 1 samples, whose every ``factor``-th is a score, and cut
    where the image ends; the released networks do so with images filled up to 8k + 1 pixels.
    """
    # Logits stay float32 under mixed precision.
    x = Interp(factor, dtype="float32", name=f"{name}_interp")(scores)
    return CropLike(offset, dtype="float32", name=f"{name}_crop")([x, image])


def _branch(x: Any, num_classes: int, source: str, dropout: float) -> Any:
    """Two layers and a classifier on an early map (section 4.3, multi-scale prediction)."""
    # The fillers of DeepLab-MSc/train.prototxt: pool3_ms has none, that is zero.
    units = (("conv", 3, 0.001), ("fc", 1, 0.005 if source == "pool4" else 0.001))
    for unit, kernel, deviation in units:
        name, gaussian = f"{source}_{unit}", keras.initializers.RandomNormal(0.0, deviation)
        x = conv2d(x, 128, kernel, use_bias=True, initializer=gaussian, name=name)
        x = keras.layers.ReLU(name=f"relu_{name}")(x)
        x = keras.layers.Dropout(dropout, name=f"drop_{name}")(x)
    last = "zeros" if source == "pool3" else CLASSIFIER
    return conv2d(x, num_classes, 1, use_bias=True, initializer=last, name=f"{source}_ms")


def _deeplab(
    num_classes: int,
    *,
    fc6: str,
    multiscale_features: bool,
    base_filters: int,
    fc_filters: int | None,
    dropout: float,
) -> keras.Model:
    if fc6 not in FIELDS:
        raise ValueError(f"fc6 must be one of {sorted(FIELDS)}, not {fc6!r}")
    field = FIELDS[fc6]
    filters = field.filters if fc_filters is None else fc_filters
    even = fc6 == "4x4r4" and not multiscale_features
    image = keras.Input((None, None, 3), name="image")
    pool = _even_pool if even else aligned_pool
    features = vgg16(
        image, pool=pool, conv5_dilation=2, base_filters=base_filters, prefix="backbone."
    )
    x = features["c5"]
    if field.average:
        # Caffe's average counts the padding.
        x = keras.layers.ZeroPadding2D(1, name="backbone.pool5a.pad")(x)
        x = keras.layers.AveragePooling2D(3, 1, name="backbone.pool5a")(x)
    x = fully_connected(
        x, field.kernel, filters, dropout=dropout, dilation=field.dilation, keep_size=True
    )
    x = conv2d(x, num_classes, 1, use_bias=True, initializer=CLASSIFIER, name="fc8")
    logits = upsampled(x, image, STRIDE, "fc8", EVEN_OFFSET if even else 0)
    if not multiscale_features:
        return keras.Model(image, logits)
    maps = [(image, "data", 1)]
    maps += [(features[f"c{i}"], f"pool{i}", min(2**i, STRIDE)) for i in (1, 2, 3, 4)]
    scores = [
        upsampled(_branch(x, num_classes, source, dropout), image, factor, source)
        for x, source, factor in maps
    ]
    return keras.Model(
        image, keras.layers.Add(dtype="float32", name="fc_fusion")([*scores, logits])
    )


def _register(name: str, multiscale_features: bool) -> None:
    @register(name, task="semantic", paper=PAPER, num_classes=21, preprocessing=style_preprocessing)
    def build(
        num_classes: int,
        fc6: str = "3x3r12",
        style: str = "caffe",
        base_filters: int = 64,
        fc_filters: int | None = None,
        dropout: float = 0.5,
    ) -> keras.Model:
        """DeepLab v1; with "msc", also with branches on the image and the first four pools.

        Branches run at the resolution of their map, as in the released test.prototxt. The
        training prototxt strides them instead, to a common eighth: the loss with a label stride
        of 8 sees just those scores.

        Args:
            num_classes: classes of the output.
            fc6: its kernel and dilation: "3x3r12" (LargeFOV), "7x7r4", "4x4r4" or "4x4r8". The
                release has 2x2 pools in "4x4r4" without branches, 3x3 ones elsewhere.
            style: whose ImageNet weights fit, "caffe" or "torchvision": it is the
                preprocessing.
            base_filters: channels of the first stage.
            fc_filters: channels of fc6 and fc7; None: 1024 for LargeFOV, else 4096.
            dropout: rate behind fc6 and fc7 and in the branches.
        """
        return _deeplab(
            num_classes,
            fc6=fc6,
            multiscale_features=multiscale_features,
            base_filters=base_filters,
            fc_filters=fc_filters,
            dropout=dropout,
        )


_register("deeplab_largefov_vgg16", multiscale_features=False)
_register("deeplab_msc_largefov_vgg16", multiscale_features=True)
