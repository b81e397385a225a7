"""PSPNet: pyramid scene parsing.

Zhao, Shi, Qi, Wang, Jia, Pyramid Scene Parsing Network, CVPR 2017; details from the authors'
prototxts pspnet101_VOC2012_473, pspnet101_cityscapes_713 and pspnet50_ADE20K_473.
"""

from typing import Any

import keras

from tfseg.backbones import mobilenet_v2, resnet
from tfseg.backbones.mobilenet_v2 import style_norm
from tfseg.layers.conv import MSRA, Norm, batch_norm, conv2d
from tfseg.layers.pyramid import pyramid_pooling
from tfseg.layers.resize import ResizeLike
from tfseg.models.classification import by_style, mobilenet_preprocessing
from tfseg.registry import Preprocessing, register

PAPER = "Zhao et al., Pyramid Scene Parsing Network, CVPR 2017"

#: The released networks' mean, on BGR images of 0..255.
CAFFE_BGR = Preprocessing("bgr", (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))

#: What the released ResNet and torchvision's ImageNet weights need of the trunk.
STYLES: dict[str, dict[str, Any]] = {
    "caffe": {
        "stem": "deep",
        "ceil_mode": True,
        "dilate_first_block": True,
    },
    "torchvision": {
        "stride_in": "3x3",
        "stem": "plain",
        "ceil_mode": False,
        "dilate_first_block": False,
    },
}


def _classifier(
    x: Any, filters: int, num_classes: int, *, norm: Norm, dropout: float, image: Any, name: str
) -> Any:
    """3x3 convolution, dropout, 1x1 classifier, resized to the image with aligned corners."""
    x = conv2d(x, filters, 3, name=f"{name}.conv")
    x = keras.layers.ReLU(name=f"{name}.relu")(norm(x, f"{name}.bn"))
    x = keras.layers.Dropout(dropout, name=f"{name}.dropout")(x)
    x = conv2d(x, num_classes, 1, use_bias=True, initializer=MSRA, name=f"{name}.classifier")
    # Logits stay float32 under mixed precision.
    return ResizeLike(align_corners=True, dtype="float32", name=f"{name}.resize")([x, image])


def _pspnet(
    image: Any,
    features: dict[str, Any],
    num_classes: int,
    *,
    head_filters: int,
    norm: Norm,
    dropout: float,
    aux_head: bool,
) -> keras.Model:
    x = features["c5"]
    x = pyramid_pooling(x, x.shape[-1] // 4, norm=norm)
    head = {"norm": norm, "dropout": dropout, "image": image}
    logits = _classifier(x, head_filters, num_classes, name="head", **head)
    if not aux_head:
        return keras.Model(image, logits)
    aux = _classifier(features["c4"], head_filters // 2, num_classes, name="aux", **head)
    return keras.Model(image, {"logits": logits, "aux": aux})


def _register_resnet(layout: str, num_classes: int, caffe_stride_in: str) -> None:
    @register(
        f"psp_{layout}",
        task="semantic",
        paper=PAPER,
        num_classes=num_classes,
        preprocessing=by_style(CAFFE_BGR),
    )
    def build(
        num_classes: int,
        style: str = "caffe",
        output_stride: int = 8,
        aux_head: bool = False,
        norm: str = "batch",
        backbone_norm: str | None = None,
        dropout: float = 0.1,
    ) -> keras.Model:
        """PSPNet on a dilated ResNet.

        Args:
            num_classes: classes of the output.
            style: "caffe", the released network, or "torchvision", a trunk that torchvision's
                ImageNet weights fit.
            output_stride: of the trunk, 8 in the paper.
            aux_head: adds the training-time classifier behind conv4 (section 3.3); the output
                becomes {"logits", "aux"}.
            norm: "batch", "sync_batch" (as the authors train) or "frozen_batch".
            backbone_norm: the trunk's, where it differs.
            dropout: rate before each classifier.
        """
        trunk = dict(STYLES[style])
        if style == "caffe":
            trunk["stride_in"] = caffe_stride_in
        image = keras.Input((None, None, 3), name="image")
        features = resnet(
            image,
            layout,
            output_stride=output_stride,
            norm=batch_norm(backbone_norm or norm, momentum=0.95),
            prefix="backbone.",
            **trunk,
        )
        return _pspnet(
            image,
            features,
            num_classes,
            head_filters=512,
            norm=batch_norm(norm, momentum=0.95),
            dropout=dropout,
            aux_head=aux_head,
        )


# The prototxts differ: conv3_1 strides in its 1x1 in pspnet50, in its 3x3 in both pspnet101.
_register_resnet("resnet50", num_classes=150, caffe_stride_in="1x1")
_register_resnet("resnet101", num_classes=21, caffe_stride_in="3x3")


@register(
    "psp_mobilenet_v2",
    task="semantic",
    paper=PAPER,
    num_classes=21,
    preprocessing=mobilenet_preprocessing,
)
def _mobilenet_v2(
    num_classes: int,
    style: str = "keras",
    output_stride: int = 8,
    aux_head: bool = False,
    norm: str = "batch",
    backbone_norm: str | None = None,
    dropout: float = 0.1,
    head_filters: int = 256,
) -> keras.Model:
    """PSPNet's head on a dilated MobileNetV2; no paper describes it.

    The pyramid's levels keep the paper's quarter of the trunk's channels (80 of 320).

    Args:
        num_classes: classes of the output.
        style: whose ImageNet weights fit, "keras" or "torchvision".
        output_stride: of the trunk.
        aux_head: adds a classifier behind c4; the output becomes {"logits", "aux"}.
        norm: "batch", "sync_batch" or "frozen_batch".
        backbone_norm: the trunk's, where it differs.
        dropout: rate before each classifier.
        head_filters: channels of the 3x3 convolution behind the pyramid.
    """
    image = keras.Input((None, None, 3), name="image")
    features = mobilenet_v2(
        image,
        style=style,
        output_stride=output_stride,
        norm=style_norm(style, backbone_norm or norm),
        prefix="backbone.",
    )
    return _pspnet(
        image,
        features,
        num_classes,
        head_filters=head_filters,
        norm=batch_norm(norm, momentum=0.95),
        dropout=dropout,
        aux_head=aux_head,
    )
