"""FCN-32s, 16s and 8s: fully convolutional networks.

Long, Shelhamer, Darrell, Fully Convolutional Networks for Semantic Segmentation, CVPR 2015;
Shelhamer, Long, Darrell, PAMI 2017. Details from the authors' voc-fcn*/net.py and surgery.py,
whose layer names are used behind the trunk.
"""

from typing import Any

import keras

from tfseg.backbones import caffenet, googlenet, vgg16
from tfseg.backbones.vgg import fully_connected
from tfseg.layers.conv import MaxPool2D, conv2d
from tfseg.layers.resize import CropLike
from tfseg.layers.upsample import bilinear_deconvolution
from tfseg.models.classification import CAFFE_BGR_MEAN, by_style, googlenet_preprocessing
from tfseg.registry import register

PAPER = "Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015"
#: zeros around the image, so that the 7x7 fc6 has somewhere to look from in small images
MARGIN = 100


def _ceil_pool(x: Any, stage: int, name: str) -> Any:
    return MaxPool2D(2, 2, ceil_mode=True, name=name)(x)


def _score(x: Any, num_classes: int, name: str) -> Any:
    """A classifier that starts at zero."""
    return conv2d(x, num_classes, 1, use_bias=True, initializer="zeros", name=name)


def _fused(x: Any, skip: Any, *, number: int, scale: float, offset: int, classes: int) -> Any:
    """Twice-upsampled scores plus those of an earlier pool."""
    if scale != 1.0:
        skip = keras.layers.Rescaling(scale, name=f"scale_pool{number}")(skip)
    skip = _score(skip, classes, f"score_pool{number}")
    skip = CropLike(offset, dtype="float32", name=f"score_pool{number}c")([skip, x])
    return keras.layers.Add(dtype="float32", name=f"fuse_pool{number}")([x, skip])


def _fcn_vgg16(
    num_classes: int,
    *,
    stride: int,
    scales: tuple[float, float],
    learned_upsampling: bool,
    base_filters: int,
    fc_filters: int,
    dropout: float,
) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    features = vgg16(
        image,
        pool=_ceil_pool,
        first_padding=MARGIN,
        base_filters=base_filters,
        prefix="backbone.",
    )
    x = fully_connected(features["c5"], 7, fc_filters, dropout=dropout)
    x = _score(x, num_classes, "score_fr")
    if stride < 32:
        x = bilinear_deconvolution(x, 2, 4, trainable=learned_upsampling, name="upscore2")
        skip = features["c4"]
        x = _fused(x, skip, number=4, scale=scales[0], offset=5, classes=num_classes)
    if stride < 16:
        x = bilinear_deconvolution(x, 2, 4, trainable=learned_upsampling, name="upscore_pool4")
        skip = features["c3"]
        x = _fused(x, skip, number=3, scale=scales[1], offset=9, classes=num_classes)
    name = "upscore" if stride == 32 else f"upscore{stride}"
    x = bilinear_deconvolution(x, stride, 2 * stride, trainable=False, name=name)
    offset = {32: 19, 16: 27, 8: 31}[stride]
    return keras.Model(image, CropLike(offset, dtype="float32", name="score")([x, image]))


def _register_vgg16(name: str, stride: int, scales: tuple[float, float]) -> None:
    preprocessing = by_style(CAFFE_BGR_MEAN)

    @register(name, task="semantic", paper=PAPER, num_classes=21, preprocessing=preprocessing)
    def build(
        num_classes: int,
        style: str = "caffe",
        learned_upsampling: bool = False,
        base_filters: int = 64,
        fc_filters: int = 4096,
        dropout: float = 0.5,
    ) -> keras.Model:
        """FCN on VGG16.

        Args:
            num_classes: classes of the output.
            style: whose ImageNet weights fit, "caffe" or "torchvision": it is the preprocessing.
            learned_upsampling: the twofold upsamplings between the skips learn, from bilinear
                interpolation, as in the CVPR paper (section 4.2) and its 2014 release; False:
                they are fixed, as in the later release. The last upsampling is always fixed.
            base_filters: channels of the first stage.
            fc_filters: channels of fc6 and fc7.
            dropout: rate behind fc6 and fc7.
        """
        return _fcn_vgg16(
            num_classes,
            stride=stride,
            scales=scales,
            learned_upsampling=learned_upsampling,
            base_filters=base_filters,
            fc_filters=fc_filters,
            dropout=dropout,
        )


for _stride in (32, 16, 8):
    _register_vgg16(f"fcn{_stride}s_vgg16", _stride, (1.0, 1.0))
# Trained in one stage: the skips are scaled down to the magnitude of fc7's features.
_register_vgg16("fcn8s_atonce_vgg16", 8, (0.01, 0.0001))


@register(
    "fcn32s_alexnet", task="semantic", paper=PAPER, num_classes=21, preprocessing=CAFFE_BGR_MEAN
)
def fcn32s_alexnet(num_classes: int, fc_filters: int = 4096, dropout: float = 0.5) -> keras.Model:
    """FCN-32s on CaffeNet, AlexNet as Caffe trains it (voc-fcn-alexnet).

    Args:
        num_classes: classes of the output.
        fc_filters: channels of fc6 and fc7.
        dropout: rate behind fc6 and fc7.
    """
    image = keras.Input((None, None, 3), name="image")
    x = caffenet(image, first_padding=MARGIN, prefix="backbone.")["c5"]
    x = fully_connected(x, 6, fc_filters, dropout=dropout)
    x = _score(x, num_classes, "score_fr")
    x = bilinear_deconvolution(x, 32, 63, trainable=False, name="upscore")
    return keras.Model(image, CropLike(18, dtype="float32", name="score")([x, image]))


@register(
    "fcn32s_googlenet",
    task="semantic",
    paper=PAPER,
    num_classes=21,
    preprocessing=googlenet_preprocessing,
)
def fcn32s_googlenet(num_classes: int, style: str = "caffe") -> keras.Model:
    """FCN-32s on GoogLeNet (section 4.1, table 1); no definition of it was released.

    The average pool before the classifier is left out, as the paper says. Nothing behind the
    first layer is unpadded, so the margin of VGG's and AlexNet's networks is not needed; the
    63x63 kernel is what centres the scores on whole pixels.

    Args:
        num_classes: classes of the output.
        style: of the trunk, "caffe" (BVLC's, without batch normalisation, as in the paper) or
            "torchvision". Images are at least 32 pixels high and wide.
    """
    image = keras.Input((None, None, 3), name="image")
    x = googlenet(image, style=style, prefix="backbone.")["c5"]
    x = bilinear_deconvolution(
        _score(x, num_classes, "score_fr"), 32, 63, trainable=False, name="upscore"
    )
    # Centre of the first receptive field: 2 + 4 + 8 pixels from the first three pools, 16 or 8
    # from the fourth (3x3 or 2x2), beside 31 of the kernel.
    offset = 1 if style == "caffe" else 9
    return keras.Model(image, CropLike(offset, dtype="float32", name="score")([x, image]))
