"""The detectors' losses, of a stand-in whose every output is known."""

import types

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseg.losses import RCNNLoss
from tfseg.losses.rcnn import smooth_l1

#: two levels of 2 x 2 and 1 x 1 cells with an anchor each, and a proposal beside each object
ANCHORS = [
    np.array([[0, 0, 8, 8], [8, 0, 16, 8], [0, 8, 8, 16], [8, 8, 16, 16]], np.float32),
    np.array([[0, 0, 16, 16]], np.float32),
]
PROPOSALS = np.array([[0, 0, 8, 8], [8, 0, 16, 8], [0, 0, 0, 0], [0, 8, 16, 16]], np.float32)
CLASSES, MASK, HEATMAP, POINTS = 3, 4, 4, 2


class StandIn:
    """Outputs that are variables, so that their gradients can be looked at."""

    def __init__(self, style="detectron2", *, deltas=CLASSES, masks=None, keypoints=False):
        first = style == "torchvision"
        self.conventions = types.SimpleNamespace(
            background_first=first,
            rpn_beta=1 / 9 if first else 0.0,
            box_beta=1 / 9 if first else 0.0,
            box_weights=(10.0, 10.0, 5.0, 5.0),
        )
        self.sampler_seed = keras.random.SeedGenerator(0)
        self.mask_head = masks
        self.keypoint_head = True if keypoints else None
        self.semantic_head = None
        self.deltas, self.seen = deltas, []
        random = np.random.default_rng(0)

        def variable(*shape):
            return tf.Variable(random.normal(size=shape).astype("float32"))

        self.rpn_logits = [variable(2, 2, 2, 1), variable(2, 1, 1, 1)]
        self.rpn_deltas = [variable(2, 2, 2, 4), variable(2, 1, 1, 4)]
        self.class_logits = variable(CLASSES + 1)
        self.box_deltas = variable(deltas, 4)
        self.mask_logits = variable(MASK, MASK, masks or 1)
        self.heatmaps = variable(HEATMAP, HEATMAP, POINTS)

    def features(self, images, training):
        self.seen.append(training)
        return {"p2": images}

    def anchors(self, features):
        return [tf.constant(a) for a in ANCHORS]

    def rpn_outputs(self, features):
        return list(self.rpn_logits), list(self.rpn_deltas)

    def propose(self, logits, deltas, anchors, sizes, training):
        assert training
        batch = tf.shape(sizes)[0]
        # They depend on the outputs, which must not learn from that.
        boxes = tf.tile(tf.constant(PROPOSALS)[None], (batch, 1, 1)) + 0 * deltas[0][0, 0, 0, 0]
        return boxes, tf.tile(tf.constant([[True, True, False, True]]), (batch, 1))

    def _repeated(self, value, boxes):
        shape = tf.shape(boxes)
        return tf.tile(value[None, None], (shape[0], shape[1], *[1] * len(value.shape)))

    def box_outputs(self, features, boxes):
        self.boxes = boxes
        return (
            self._repeated(self.class_logits, boxes),
            self._repeated(self.box_deltas, boxes),
            None,
        )

    def mask_outputs(self, features, boxes, shared):
        self.mask_boxes = boxes
        return self._repeated(self.mask_logits, boxes)

    def keypoint_outputs(self, features, boxes):
        return self._repeated(self.heatmaps, boxes)


def a_batch():
    """An image with an object of class 2 in its upper left quarter, and an empty one."""
    square = [[0, 0, 0, 8], [8, 8, 8, 0], [0, 0, 0, 0]]
    return {
        "image": np.zeros((2, 16, 16, 3), np.float32),
        "size": np.array([[16, 16], [16, 16]], np.float32),
        "boxes": np.array([[[0, 0, 8, 7], [0, 0, 0, 0]], [[0, 0, 0, 0]] * 2], np.float32),
        "labels": np.array([[2, 0], [0, 0]], np.int32),
        "valid": np.array([[True, False], [False, False]]),
        "crowd": np.zeros((2, 2), bool),
        "edges": np.array([[square, [[0] * 4] * 3], [[[0] * 4] * 3] * 2], np.float32),
        "keypoints": np.array(
            [[[[1.0, 1, 2], [7, 6, 0]], [[0.0] * 3] * 2], [[[0.0] * 3] * 2] * 2], np.float32
        ),
    }


def _loss(**options):
    return RCNNLoss(**{"rpn_samples": 8, "roi_samples": 8, "roi_positive_fraction": 0.5} | options)


def _bce(logit, label):
    return np.log1p(np.exp(-logit if label else logit))


def test_parts():
    p = _loss().parts(StandIn(), a_batch())
    print({k: (float(a), float(b)) for k, (a, b, _) in p.items()})
    p = _loss().parts(StandIn(masks=3,keypoints=True), a_batch())
    print({k: (float(a), float(b)) for k, (a, b, _) in p.items()})
