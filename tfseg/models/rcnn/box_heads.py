"""The heads that judge boxes, as functional models that are applied to many regions.

Layer names and initialisation are detectron2's: modeling/roi_heads/{box_head,fast_rcnn}.py.
"""

from typing import Any

import keras

from tfseg.backbones.resnet import FAN_OUT
from tfseg.layers.conv import conv2d
from tfseg.layers.fpn import XAVIER_FILL
from tfseg.models.rcnn.heads import float32, gauss, relu

#: bins of a region for each kind of head
BOX_HEADS = {"fc": 7, "location_sensitive": 14}
UNITS = 1024


def _dense(x: Any, units: int, name: str) -> Any:
    x = keras.layers.Dense(units, kernel_initializer=XAVIER_FILL, name=name)(x)
    return relu(x, name)


def fully_connected(size: int, channels: int, name: str = "roi_heads.box_head") -> keras.Model:
    """Two fully connected layers on a region's features (FPN, section 5.2).

    Args:
        size: of a region.
        channels: of the region.
        name: what the layers' names begin with.

    Returns:
        (R, size, size, channels) -> (R, 1024).
    """
    region = keras.Input((size, size, channels), name="box_region")
    # torch flattens channels first: the importer reorders the kernel's rows.
    x = keras.layers.Flatten(name=f"{name}.flatten")(region)
    for number in (1, 2):
        x = _dense(x, UNITS, f"{name}.fc{number}")
    return keras.Model(region, x, name="box_head")


def location_sensitive(size: int, channels: int, name: str = "roi_heads.box_head") -> keras.Model:
    """A head that tells apart what an object is from where it is.

    Megvii's location-sensitive detector (COCO 2018). Its slides show that boxes are found by
    convolutions that keep the region's layout, apart from classes; no more is public. Our
    reading: classes are judged as without it, by two fully connected layers on 7x7 bins, here the
    means of 2x2; boxes by four 3x3 convolutions on the larger region and the features of all its
    parts.

    Args:
        size: of a region, even.
        channels: of the region.
        name: what the layers' names begin with.

    Returns:
        (R, size, size, channels) -> [of the class (R, 1024), of the box (R, (size / 2)^2 * 256)].
    """
    y = region = keras.Input((size, size, channels), name="box_region")
    x = keras.layers.AveragePooling2D(2, name=f"{name}.pool")(region)
    x = keras.layers.Flatten(name=f"{name}.flatten")(x)
    for number in (1, 2):
        x = _dense(x, UNITS, f"{name}.fc{number}")
    for number in range(1, 5):
        conv = f"{name}.conv{number}"
        y = conv2d(y, 256, 3, use_bias=True, initializer=FAN_OUT, name=conv)
        y = relu(y, conv)
    y = keras.layers.AveragePooling2D(2, name=f"{name}.box_pool")(y)
    y = keras.layers.Flatten(name=f"{name}.box_flatten")(y)
    return keras.Model(region, [x, y], name="box_head")


def box_predictor(
    inputs: Any, logits: int, boxes: int, name: str = "roi_heads.box_predictor"
) -> keras.Model:
    """Class logits and box offsets of a region.

    Args:
        inputs: the head's outputs, one of both, or one of the class and one of the box.
        logits: classes with the background.
        boxes: classes that have offsets of their own, or 1.
        name: what the layers' names begin with.

    Returns:
        As ``inputs`` -> [class logits (R, logits), deltas (R, 4 * boxes)], float32.
    """
    both = isinstance(inputs, list)
    vectors = [keras.Input(x.shape[1:]) for x in (inputs if both else [inputs])]
    outputs = [
        keras.layers.Dense(units, kernel_initializer=gauss(deviation), name=f"{name}.{layer}")(x)
        for x, (layer, units, deviation) in zip(
            (vectors[0], vectors[-1]),
            (("cls_score", logits, 0.01), ("bbox_pred", 4 * boxes, 0.001)),
            strict=True,
        )
    ]
    model_inputs = vectors if both else vectors[0]
    return keras.Model(model_inputs, float32(outputs, name), name="box_predictor")
