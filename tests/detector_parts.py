"""A detector without weights whose parts can be called one by one: it copies from the image."""

import keras
import numpy as np
import tensorflow as tf

from tfseg.models.rcnn.conventions import CONVENTIONS
from tfseg.models.rcnn.layout import Thresholds
from tfseg.models.rcnn.selection import detections
from tfseg.ops.keypoints import decode_keypoints

#: x1, y1, x2, y2 as fractions of the image: a crowd of 40
_CORNERS = np.random.default_rng(0).uniform(0, 0.6, (40, 2))
_SIDES = np.random.default_rng(1).uniform(0.15, 0.4, (40, 2))
FRACTIONS = np.concatenate([_CORNERS, _CORNERS + _SIDES], axis=1).astype(np.float32)
CLASSES = (np.arange(40) % 3).astype(np.int32)
CELLS, MAP = 4, 8


class Parts(keras.Model):
    """Candidates are forty boxes; each is shifted and scored by the image's mean inside it.

    A mask is the image's first channel inside the box, the heat maps are its channels.
    """

    def __init__(self, style="detectron2", masks=True, keypoints=False, **thresholds):
        super().__init__(name="parts")
        self.conventions = CONVENTIONS[style]
        self.thresholds = Thresholds((1, 1), (1, 1), **{"detections": 12, **thresholds})
        self.num_classes, self.size_divisor, self.panoptic = 3, 32, False
        self.mask_head = True if masks else None
        self.keypoint_head = True if keypoints else None
        self.gain = self.add_weight(name="gain", shape=(), initializer="ones")
        self.built = True

    def features(self, images, training=False):
        return {"p2": self.gain * images, "p6": images[:, ::2, ::2]}

    def _cut(self, images, boxes, cells):
        batch, number = tf.shape(boxes)[0], tf.shape(boxes)[1]
        size = tf.cast(tf.tile(tf.shape(images)[1:3], [2]), tf.float32)
        places = tf.reshape(tf.gather(boxes, [1, 0, 3, 2], axis=-1) / size, (-1, 4))
        owners = tf.repeat(tf.range(batch), number)
        cut = tf.image.crop_and_resize(images, places, owners, (cells, cells))
        return tf.reshape(cut, (batch, number, cells, cells, 3))

    def search(self, images, sizes):
        features = self.features(images)
        batch = tf.shape(images)[0]
        scale = tf.concat([sizes[:, ::-1], sizes[:, ::-1]], axis=1)[:, None]
        boxes = tf.constant(FRACTIONS) * scale
        means = tf.reduce_mean(self._cut(features["p2"], boxes, 6), axis=(2, 3)) / 255
        boxes = boxes + 0.1 * scale * tf.gather(means, [0, 1, 0, 1], axis=-1) - 0.05 * scale
        found = {
            "boxes": tf.clip_by_value(boxes, 0.0, scale),
            "scores": tf.reduce_mean(means, axis=-1) * tf.linspace(1.0, 0.5, 40),
            "classes": tf.tile(tf.constant(CLASSES)[None], (batch, 1)),
            "valid": tf.tile(tf.constant(np.arange(40) != 5)[None], (batch, 1)),
        }
        return features, found

    def detections(self, found):
        return detections(found, self.thresholds)

    def mask_probabilities(self, features, boxes, classes):
        cut = self._cut(features["p2"], boxes, CELLS)[..., 0] / 255
        return cut / (1.0 + tf.cast(classes, tf.float32)[..., None, None])

    def keypoint_outputs(self, features, boxes):
        return self._cut(features["p2"], boxes, MAP) / 25

    def keypoints(self, heatmaps, boxes, valid):
        batch, number = tf.shape(heatmaps)[0], tf.shape(heatmaps)[1]
        points = decode_keypoints(
            tf.reshape(heatmaps, (-1, MAP, MAP, 3)),
            tf.reshape(boxes, (-1, 4)),
            tf.reshape(valid, (-1,)),
        )
        return tf.reshape(points, (batch, number, 3, 3))

    def call(self, images, sizes=None, training=False):
        features, found = self.search(images, sizes)
        found = self.detections(found)
        if self.mask_head is not None:
            masks = self.mask_probabilities(features, found["boxes"], found["classes"])
            found["masks"] = tf.where(found["valid"][..., None, None], masks, 0.0)
        if self.keypoint_head is not None:
            heatmaps = self.keypoint_outputs(features, found["boxes"])
            found["keypoints"] = self.keypoints(heatmaps, found["boxes"], found["valid"])
        return found
