"""DeepLab v2: atrous spatial pyramid pooling by summed classifiers, and three input scales.

Chen, Papandreou, Kokkinos, Murphy, Yuille, DeepLab: Semantic Image Segmentation with Deep
Convolutional Nets, Atrous Convolution, and Fully Connected CRFs, PAMI 2018 (arXiv 1606.00915);
layers and their names as released for VGG16 and ResNet-101.
"""

from typing import Any

import keras

from tfseg.backbones import resnet, vgg16
from tfseg.backbones.vgg import fully_connected
from tfseg.layers.conv import batch_norm, conv2d
from tfseg.layers.resize import Interp, ResizeLike
from tfseg.models.deeplab import (
    CLASSIFIER,
    STRIDE,
    aligned_pool,
    style_preprocessing,
    upsampled,
)
from tfseg.registry import register

PAPER = "Chen et al., DeepLab, PAMI 2018 (arXiv 1606.00915)"

#: dilations of the pyramid (section 4.1.2)
RATES = {"L": (6, 12, 18, 24), "S": (2, 4, 8, 12)}
#: of the smaller copies of the input (section 4.1.1)
SCALES = (0.75, 0.5)

#: What the released ResNet and torchvision's ImageNet weights need of the trunk.
TRUNKS: dict[str, dict[str, Any]] = {
    "caffe": {"stride_in": "1x1", "ceil_mode": True, "dilate_first_block": True},
    "torchvision": {"stride_in": "3x3", "ceil_mode": False, "dilate_first_block": False},
}


def _rates(aspp: str) -> tuple[int, ...]:
    if aspp not in RATES:
        raise ValueError(f"aspp must be one of {sorted(RATES)}, not {aspp!r}")
    return RATES[aspp]


def _segmenter(image: Any, scores: Any, multiscale: bool) -> keras.Model:
    """The network from an image to its scores, at the image's size.

    With ``multiscale`` the same layers also see the image at 3/4 and 1/2; maps of scores are
    interpolated to the largest's size and fused by their maximum.
    """
    if not multiscale:
        return keras.Model(image, upsampled(scores, image, STRIDE, "logits"))
    network = keras.Model(image, scores)
    maps = {"1.00": scores}
    for factor in SCALES:
        scale = f"{factor:.2f}"
        small = Interp(factor, name=f"shrink_{scale}")(image)
        # Not a call of the network, which would hide its layers: each is called once more.
        own = network.call(small)
        maps[scale] = ResizeLike(align_corners=True, name=f"res_{scale}")([own, scores])
    fused = keras.layers.Maximum(name="fc_fusion")(list(maps.values()))
    outputs = {"logits": upsampled(fused, image, STRIDE, "logits")}
    for scale, x in maps.items():
        outputs[f"aux_{scale}"] = upsampled(x, image, STRIDE, f"aux_{scale}")
    return keras.Model(image, outputs)


@register(
    "deeplab_aspp_vgg16",
    task="semantic",
    paper=PAPER,
    num_classes=21,
    preprocessing=style_preprocessing,
)
def deeplab_aspp_vgg16(
    num_classes: int,
    aspp: str = "L",
    multiscale: bool = False,
    style: str = "caffe",
    base_filters: int = 64,
    fc_filters: int = 1024,
    dropout: float = 0.5,
) -> keras.Model:
    """DeepLab v2 on VGG16: four branches of fc6, fc7 and fc8, summed.

    Args:
        num_classes: classes of the output.
        aspp: dilations of the branches: "L" 6, 12, 18, 24 or "S" 2, 4, 8, 12.
        multiscale: three scales of the input, fused by their maximum; the output becomes
            {"logits", "aux_1.00", "aux_0.75", "aux_0.50"}, the latter each scale's.
        style: whose ImageNet weights fit, "caffe" or "torchvision": it is the preprocessing.
        base_filters: channels of the first stage.
        fc_filters: channels of each branch's fc6 and fc7.
        dropout: rate behind fc6 and fc7.
    """
    image = keras.Input((None, None, 3), name="image")
    x = vgg16(
        image,
        pool=aligned_pool,
        conv5_dilation=2,
        base_filters=base_filters,
        prefix="backbone.",
    )["c5"]
    branches = []
    for index, rate in enumerate(_rates(aspp), start=1):
        y = fully_connected(
            x,
            3,
            fc_filters,
            dropout=dropout,
            dilation=rate,
            keep_size=True,
            branch=f"_{index}",
        )
        name = f"fc8_{index}"
        branches.append(conv2d(y, num_classes, 1, use_bias=True, initializer=CLASSIFIER, name=name))
    return _segmenter(image, keras.layers.Add(name="fc8")(branches), multiscale)


@register(
    "deeplab_aspp_resnet101",
    task="semantic",
    paper=PAPER,
    num_classes=21,
    preprocessing=style_preprocessing,
)
def deeplab_aspp_resnet101(
    num_classes: int,
    aspp: str = "L",
    multiscale: bool = False,
    style: str = "caffe",
    backbone_norm: str = "frozen_batch",
) -> keras.Model:
    """DeepLab v2 on ResNet-101 of output stride 8: four 3x3 classifiers, summed.

    Args:
        num_classes: classes of the output.
        aspp: dilations of the classifiers: "L" 6, 12, 18, 24 or "S" 2, 4, 8, 12.
        multiscale: three scales of the input, fused by their maximum; the output becomes
            {"logits", "aux_1.00", "aux_0.75", "aux_0.50"}, the latter each scale's.
        style: "caffe", the released network, or "torchvision", a trunk that torchvision's
            ImageNet weights fit.
        backbone_norm: "frozen_batch" as released, "batch" or "sync_batch".
    """
    image = keras.Input((None, None, 3), name="image")
    x = resnet(
        image,
        "resnet101",
        output_stride=STRIDE,
        norm=batch_norm(backbone_norm),
        prefix="backbone.",
        **TRUNKS[style],
    )["c5"]
    scores = [
        conv2d(
            x,
            num_classes,
            3,
            dilation=rate,
            use_bias=True,
            initializer=CLASSIFIER,
            name=f"fc1_c{index}",
        )
        for index, rate in enumerate(_rates(aspp))
    ]
    return _segmenter(image, keras.layers.Add(name="fc1")(scores), multiscale)
