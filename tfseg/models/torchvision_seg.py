"""torchvision's FCN and DeepLab v3 on dilated ResNets.

Long et al., Fully Convolutional Networks, CVPR 2015 (the idea; the network is torchvision's own);
Chen et al., Rethinking Atrous Convolution for Semantic Image Segmentation, arXiv 1706.05587.
Details and layer names from torchvision's models/segmentation.
"""

from collections.abc import Callable
from typing import Any

import keras

from tfseg.backbones import resnet
from tfseg.layers.conv import TORCH, Norm, batch_norm, conv2d
from tfseg.layers.pyramid import atrous_pyramid
from tfseg.layers.resize import ResizeLike
from tfseg.models.classification import IMAGENET_RGB
from tfseg.registry import register

PAPERS = {
    "fcn": "Long et al., Fully Convolutional Networks for Semantic Segmentation, CVPR 2015",
    "deeplabv3": "Chen et al., Rethinking Atrous Convolution, arXiv 1706.05587",
}
#: (features, classes, norm, layer name prefix) -> scores
Head = Callable[[Any, int, Norm, str], Any]


def _fcn_head(x: Any, num_classes: int, norm: Norm, name: str) -> Any:
    """3x3 convolution to a quarter of the channels, dropout, classifier."""
    x = conv2d(x, x.shape[-1] // 4, 3, initializer=TORCH, name=f"{name}.0")
    x = keras.layers.ReLU(name=f"{name}.2")(norm(x, f"{name}.1"))
    x = keras.layers.Dropout(0.1, name=f"{name}.3")(x)
    return conv2d(x, num_classes, 1, use_bias=True, initializer=TORCH, name=f"{name}.4")


def _deeplab_head(x: Any, num_classes: int, norm: Norm, name: str) -> Any:
    """Atrous pyramid with the rates of output stride 8, 3x3 convolution, classifier."""
    rates = (12, 24, 36)
    x = atrous_pyramid(x, 256, rates=rates, norm=norm, dropout=0.5, name=f"{name}.0")
    x = conv2d(x, 256, 3, initializer=TORCH, name=f"{name}.1")
    x = keras.layers.ReLU(name=f"{name}.3")(norm(x, f"{name}.2"))
    return conv2d(x, num_classes, 1, use_bias=True, initializer=TORCH, name=f"{name}.4")


def _register(kind: str, head: Head, layout: str) -> None:
    @register(
        f"{kind}_{layout}",
        task="semantic",
        paper=PAPERS[kind],
        num_classes=21,
        preprocessing=IMAGENET_RGB,
    )
    def build(
        num_classes: int,
        aux_head: bool = False,
        norm: str = "batch",
        backbone_norm: str | None = None,
    ) -> keras.Model:
        """torchvision's network of this name.

        Args:
            num_classes: classes of the output.
            aux_head: adds the FCN head behind conv4 that torchvision trains with (its
                ``aux_loss``); the output becomes {"logits", "aux"}. The released weights have
                it: without it they load too.
            norm: "batch", "sync_batch" (as torchvision trains) or "frozen_batch".
            backbone_norm: the trunk's, where it differs.
        """
        image = keras.Input((None, None, 3), name="image")
        features = resnet(
            image,
            layout,
            output_stride=8,
            norm=batch_norm(backbone_norm or norm),
            prefix="backbone.",
        )

        def upsampled(head: Head, x: Any, name: str) -> Any:
            x = head(x, num_classes, batch_norm(norm), name)
            # Logits stay float32 under mixed precision.
            resize = ResizeLike(align_corners=False, dtype="float32", name=f"{name}.resize")
            return resize([x, image])

        logits = upsampled(head, features["c5"], "classifier")
        if not aux_head:
            return keras.Model(image, logits)
        aux = upsampled(_fcn_head, features["c4"], "aux_classifier")
        return keras.Model(image, {"logits": logits, "aux": aux})


for _layout in ("resnet50", "resnet101"):
    _register("fcn", _fcn_head, _layout)
    _register("deeplabv3", _deeplab_head, _layout)
