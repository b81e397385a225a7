"""A detector without a network: its boxes are fixed fractions of the image inside the padding."""

import keras
import numpy as np
from keras import ops

from tfseg.models.rcnn.conventions import CONVENTIONS
from tfseg.registry import Preprocessing

PLAIN = Preprocessing("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
#: x1, y1, x2, y2 as fractions of the image
FRACTIONS = np.array(
    [[0.25, 0.5, 0.75, 1.0], [0.0, 0.0, 0.5, 0.5], [0.3, 0.3, 0.3, 0.6], [0.0, 0.25, 1.0, 0.5]],
    np.float32,
)
CLASSES = (2, 0, 1, 1)
ROWS, CELLS = 6, 4


class StandIn(keras.Model):
    """Four objects, the third of which is an empty box, and two rows that are not valid.

    The first score is the mean of the image inside the padding over 255, so that it tells what
    the network was given; the others are 0.8, 0.7 and 0.6 of it. Images whose mean is below
    ``dark`` hold nothing.
    """

    def __init__(self, masks=True, keypoints=False, semantic=False, dark=-1.0, style="detectron2"):
        super().__init__(name="stand_in")
        self.conventions = CONVENTIONS[style]
        self.num_classes, self.size_divisor = 3, 32
        self.mask_head = True if masks else None
        self.parts = (masks, keypoints, semantic)
        self.panoptic = semantic
        self.dark = dark
        self.gain = self.add_weight(name="gain", shape=(), initializer="ones")
        self.built = True

    def folded(self):
        return self

    def call(self, images, sizes=None, training=False):
        masks, keypoints, semantic = self.parts
        batch = ops.shape(images)[0]
        pixels = sizes[:, 0] * sizes[:, 1] * images.shape[-1]
        mean = self.gain * ops.sum(images, axis=(1, 2, 3)) / pixels
        scale = ops.concatenate([sizes[:, ::-1], sizes[:, ::-1]], axis=1)[:, None]
        boxes = ops.pad(ops.convert_to_tensor(FRACTIONS) * scale, ((0, 0), (0, 2), (0, 0)))
        classes = ops.convert_to_tensor(np.array([[*CLASSES, 0, 0]], np.int32))
        valid = ops.logical_and(ops.arange(ROWS)[None] < 4, mean[:, None] > self.dark)
        found = {
            "boxes": boxes,
            "scores": mean[:, None] / 255 * ops.convert_to_tensor([[1, 0.8, 0.7, 0.6, 0, 0]]),
            "classes": ops.broadcast_to(classes, (batch, ROWS)),
            "valid": valid,
        }
        if masks:
            grid = np.arange(ROWS * CELLS**2, dtype=np.float32).reshape(1, ROWS, CELLS, CELLS)
            grid = ops.convert_to_tensor((grid % 7 + 2) / 10)
            found["masks"] = ops.broadcast_to(grid, (batch, ROWS, CELLS, CELLS))
        if keypoints:
            centre = (boxes[..., :2] + boxes[..., 2:]) / 2
            point = ops.concatenate([centre, ops.ones_like(centre[..., :1]) * 0.9], axis=-1)
            found["keypoints"] = ops.stack([point, point], axis=2)
        if semantic:
            found["semantic"] = ops.concatenate([images[..., :1], 255 - images[..., :1]], axis=-1)
        return found
