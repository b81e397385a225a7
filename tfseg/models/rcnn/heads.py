"""The heads of an R-CNN, as functional models that are applied to many regions or levels.

Layer names and initialisation are detectron2's: modeling/proposal_generator/rpn.py and
modeling/roi_heads/{mask_head,keypoint_head}.py. Box heads are in `box_heads`.
"""

from typing import Any

import keras

from tfseg.backbones.resnet import FAN_OUT, resnet_stage
from tfseg.layers.conv import Norm, conv2d, filler
from tfseg.layers.fpn import XAVIER_FILL

RPN = "proposal_generator.rpn_head"
MASK_HEADS = ("fcn", "mlp")


def gauss(deviation: float) -> Any:
    """The filler of a predictor's weights."""
    return filler("RandomNormal", stddev=deviation)


def relu(x: Any, name: str) -> Any:
    """What follows the layer ``name``."""
    return keras.layers.ReLU(name=f"{name}.relu")(x)


def rpn_head(channels: int, anchors: int) -> keras.Model:
    """The region proposal network's head (Faster R-CNN, section 3.1), shared by all levels.

    Args:
        channels: of the map.
        anchors: at each cell.

    Returns:
        (B, h, w, channels) -> [logits (B, h, w, anchors), deltas (B, h, w, 4 * anchors)], float32.
    """
    x = feature = keras.Input((None, None, channels), name="rpn_feature")
    small = gauss(0.01)
    x = conv2d(x, channels, 3, use_bias=True, initializer=small, name=f"{RPN}.conv")
    x = relu(x, f"{RPN}.conv")
    outputs = [
        conv2d(x, filters, 1, use_bias=True, initializer=small, name=f"{RPN}.{name}")
        for name, filters in (("objectness_logits", anchors), ("anchor_deltas", 4 * anchors))
    ]
    return keras.Model(feature, float32(outputs, "rpn"), name="rpn_head")


def float32(outputs: list[Any], name: str) -> list[Any]:
    """The outputs in float32 under any precision policy."""
    return [
        keras.layers.Activation("linear", dtype="float32", name=f"{name}.float32_{i}")(x)
        for i, x in enumerate(outputs)
    ]


def fifth_stage(layout: str, size: int, stride_in: str, norm: Norm) -> keras.Model:
    """A ResNet's last stage on a region's features (C4 networks), shared by box and mask head.

    Returns:
        (R, size, size, 1024) -> (R, size / 2, size / 2, 2048).
    """
    region = keras.Input((size, size, 1024), name="res5_region")
    x = resnet_stage(
        region, layout, 4, stride=2, stride_in=stride_in, norm=norm, name="roi_heads.res5"
    )
    return keras.Model(region, x, name="res5")


def mask_head(size: int, channels: int, masks: int, convolutions: int = 4) -> keras.Model:
    """The fully convolutional mask head (Mask R-CNN, figure 4).

    Args:
        size: of a region.
        channels: of the region.
        masks: classes that have a mask of their own, or 1.
        convolutions: before the deconvolution; C4's head has none.

    Returns:
        (R, size, size, channels) -> logits (R, 2 * size, 2 * size, masks), float32.
    """
    x = region = keras.Input((size, size, channels), name="mask_region")
    for number in range(1, convolutions + 1):
        name = f"roi_heads.mask_head.mask_fcn{number}"
        x = conv2d(x, 256, 3, use_bias=True, initializer=FAN_OUT, name=name)
        x = relu(x, name)
    x = keras.layers.Conv2DTranspose(
        256, 2, strides=2, kernel_initializer=FAN_OUT, name="roi_heads.mask_head.deconv"
    )(x)
    x = relu(x, "roi_heads.mask_head.deconv")
    name = "roi_heads.mask_head.predictor"
    x = conv2d(x, masks, 1, use_bias=True, initializer=gauss(0.001), name=name)
    return keras.Model(region, float32([x], "mask")[0], name="mask_head")


def mask_mlp(size: int, channels: int, masks: int) -> keras.Model:
    """The mask head of fully connected layers that Mask R-CNN, table 2e, compares with.

    Returns:
        (R, size, size, channels) -> logits (R, 2 * size, 2 * size, masks), float32.
    """
    region = keras.Input((size, size, channels), name="mask_region")
    x = keras.layers.Flatten(name="roi_heads.mask_head.flatten")(region)
    for number in (1, 2):
        name = f"roi_heads.mask_head.fc{number}"
        x = keras.layers.Dense(1024, kernel_initializer=XAVIER_FILL, name=name)(x)
        x = relu(x, name)
    side = 2 * size
    x = keras.layers.Dense(
        side * side * masks, kernel_initializer=gauss(0.001), name="roi_heads.mask_head.predictor"
    )(x)
    x = keras.layers.Reshape((side, side, masks), name="roi_heads.mask_head.reshape")(x)
    return keras.Model(region, float32([x], "mask")[0], name="mask_head")


def keypoint_head(
    size: int, channels: int, keypoints: int, zero_border: bool = False
) -> keras.Model:
    """The keypoint head (Mask R-CNN, section 5): one mask of four times the side a keypoint.

    Args:
        size: of a region.
        channels: of the region.
        keypoints: kinds of keypoints.
        zero_border: the last enlargement sees zeros around the map, as Detectron's transposed
            convolution; else the map's border again.

    Returns:
        (R, size, size, channels) -> logits (R, 4 * size, 4 * size, keypoints), float32.
    """
    x = region = keras.Input((size, size, channels), name="keypoint_region")
    for number in range(1, 9):
        name = f"roi_heads.keypoint_head.conv_fcn{number}"
        x = conv2d(x, 512, 3, use_bias=True, initializer=FAN_OUT, name=name)
        x = relu(x, name)
    x = keras.layers.Conv2DTranspose(
        keypoints,
        4,
        strides=2,
        padding="same",  # of a kernel of 4 and stride 2: one on each side
        kernel_initializer=FAN_OUT,
        name="roi_heads.keypoint_head.score_lowres",
    )(x)
    name = "roi_heads.keypoint_head"
    if zero_border:
        x = keras.layers.ZeroPadding2D(1, name=f"{name}.zeros")(x)
    x = keras.layers.UpSampling2D(
        2, interpolation="bilinear", dtype="float32", name=f"{name}.upsample"
    )(x)
    if zero_border:
        x = keras.layers.Cropping2D(2, name=f"{name}.crop")(x)
    return keras.Model(region, x, name="keypoint_head")
