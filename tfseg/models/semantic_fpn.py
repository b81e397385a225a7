"""Semantic FPN: a feature pyramid's levels, brought to stride 4 and summed.

The COCO-Stuff 2017 winner (Kirillov, He, Girshick, Dollár, A Unified Architecture for Instance
and Semantic Segmentation, COCO + Places workshop 2017), published as the semantic branch of
Kirillov, Girshick, He, Dollár, Panoptic Feature Pyramid Networks, CVPR 2019, section 3.1; details
and layer names from detectron2's SemSegFPNHead.
"""

from typing import Any

import keras

from tfseg.backbones import resnet
from tfseg.backbones.resnet import FAN_OUT
from tfseg.layers.conv import batch_norm, conv2d
from tfseg.layers.fpn import feature_pyramid
from tfseg.layers.resize import CropLike, Enlarge, PadToMultiple
from tfseg.models.classification import IMAGENET_RGB
from tfseg.registry import Preprocessing, register

PAPER = "Kirillov et al., Panoptic Feature Pyramid Networks, CVPR 2019"
STYLES = ("detectron2", "torchvision")

#: of Detectron's converted MSRA ResNets, and of its own ResNeXts
_BGR = (103.53, 116.28, 123.675)
_MSRA_BGR = Preprocessing("bgr", _BGR, (1.0, 1.0, 1.0))
_RESNEXT_BGR = Preprocessing("bgr", _BGR, (57.375, 57.12, 58.395))
GROUPS = 32


def _preprocessing(layout: str) -> Any:
    detectron2 = _RESNEXT_BGR if layout.startswith("resnext") else _MSRA_BGR

    def of(options: dict[str, Any]) -> Preprocessing:
        return detectron2 if options["style"] == "detectron2" else IMAGENET_RGB

    return of


def _level(x: Any, level: int, filters: int, norm: str) -> Any:
    """3x3 convolutions and doublings up to stride 4: one, and one for each halving above."""
    for index in range(max(level - 2, 1)):
        # The index counts convolution and upsampling, as in detectron2's Sequential.
        name = f"sem_seg_head.p{level}.{2 * index}"
        x = conv2d(x, filters, 3, use_bias=norm == "none", initializer=FAN_OUT, name=name)
        if norm == "group":
            x = keras.layers.GroupNormalization(GROUPS, epsilon=1e-5, name=f"{name}.norm")(x)
        x = keras.layers.ReLU(name=f"{name}.relu")(x)
        if level > 2:
            x = Enlarge(2, name=f"sem_seg_head.p{level}.{2 * index + 1}")(x)
    return x


def semantic_features(pyramid: dict[str, Any], norm: str = "group", filters: int = 128) -> Any:
    """What the semantic head sees (Panoptic FPN, figure 3): the levels at stride 4, summed.

    Args:
        pyramid: {"p2", ..., "p5"}: (B, h, w, C), at strides 4 to 32.
        norm: "group" or "none".
        filters: channels of the head.

    Returns:
        (B, h, w, filters), h and w those of p2.

    Raises:
        ValueError: for another norm.
    """
    if norm not in ("group", "none"):
        raise ValueError(f"head_norm must be 'group' or 'none', not {norm!r}")
    levels = [_level(pyramid[f"p{n}"], n, filters, norm) for n in (2, 3, 4, 5)]
    return keras.layers.Add(name="sem_seg_head.sum")(levels)


def semantic_predictor(features: Any, num_classes: int) -> Any:
    """Logits float32 (B, 4 * h, 4 * w, num_classes) of features (B, h, w, C)."""
    x = conv2d(
        features,
        num_classes,
        1,
        use_bias=True,
        initializer=FAN_OUT,
        name="sem_seg_head.predictor",
    )
    return Enlarge(4, dtype="float32", name="sem_seg_head.upsample")(x)


def _register(layout: str) -> None:
    @register(
        f"semantic_fpn_{layout}",
        task="semantic",
        paper=PAPER,
        num_classes=54,
        preprocessing=_preprocessing(layout),
    )
    def build(
        num_classes: int,
        style: str = "detectron2",
        norm: str = "frozen_batch",
        head_norm: str = "group",
        filters: int = 128,
    ) -> keras.Model:
        """Semantic FPN on a ResNet or ResNeXt.

        Args:
            num_classes: classes of the output; detectron2's panoptic models have 54, the
                COCO-Stuff 2017 challenge 92.
            style: "detectron2", whose ResNets stride in the 1x1 (Caffe's, ResNeXts in the 3x3), or
                "torchvision", for torchvision's ImageNet weights.
            norm: of the trunk: "frozen_batch" as in the paper, "batch" or "sync_batch".
            head_norm: "group" (2019) or "none" (biases instead, as before group normalisation).
            filters: channels of the head.
        """
        if style not in STYLES:
            raise ValueError(f"style must be one of {STYLES}, not {style!r}")
        in_1x1 = style == "detectron2" and not layout.startswith("resnext")
        image = keras.Input((None, None, 3), name="image")
        features = resnet(
            PadToMultiple(32, name="pad")(image),
            layout,
            stride_in="1x1" if in_1x1 else "3x3",
            norm=batch_norm(norm),
            prefix="backbone.",
        )
        x = semantic_features(feature_pyramid(features), head_norm, filters)
        x = semantic_predictor(x, num_classes)
        return keras.Model(image, CropLike(0, dtype="float32", name="logits")([x, image]))


for _layout in ("resnet50", "resnet101", "resnext101_32x8d", "resnext152_32x8d"):
    _register(_layout)
