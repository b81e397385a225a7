"""What the tests of detectors in training share: a drawn batch and small detectors.

It imports no TensorFlow: `jax_detector.py` uses it on another backend.
"""

import dataclasses

import keras
import numpy as np

import tfseg
from tfseg.losses import RCNNLoss

MASK = "mask_rcnn_mobilenet_v2_fpn"
KEYPOINT = "keypoint_rcnn_mobilenet_v2_fpn"  # here with a mask head too
PANOPTIC = "panoptic_fpn_mobilenet_v2"
CASCADE = "cascade_mask_rcnn_mobilenet_v2_sfpn"  # on a guided pyramid
HEIGHT, WIDTH, CLASSES, POINTS, STUFF = 64, 96, 3, 4, 5
#: every anchor and every proposal is taken, so that nothing depends on what is drawn
ALL = {"rpn_samples": 4096, "roi_samples": 96, "roi_positive_fraction": 0.5}
#: x1, y1, x2, y2 and class of each image's objects
OBJECTS = (
    ((8, 8, 40, 40, 0), (50, 20, 90, 60, 2)),
    ((20, 30, 60, 58, 1), (66, 6, 78, 18, 0)),
)


def detector(name, proposals=64, **options):
    """A detector of few classes that proposes few regions, the same for a seed.

    Args:
        name: the registered name.
        proposals: of an image, in training and in inference.
        options: the builder's.
    """
    own = {
        KEYPOINT: {"keypoints": POINTS, "mask": True},
        PANOPTIC: {"stuff_classes": STUFF},
        CASCADE: {"semantic_classes": STUFF},
    }.get(name, {})
    model = tfseg.build(
        name, num_classes=CLASSES, **{"score_threshold": 0.0, "max_detections": 12} | own | options
    )
    model.thresholds = dataclasses.replace(
        model.thresholds, pre_nms=(200, 200), post_nms=(proposals, proposals)
    )
    return model


def loss(**options):
    """A loss that takes all there is."""
    return RCNNLoss(**ALL | options)


def _ring(x1, y1, x2, y2):
    """The outline of a rectangle, whose horizontal edges change nothing."""
    return [[x1, y1, x1, y2], [x2, y2, x2, y1]]


def batch(objects=OBJECTS, seed=0):
    """Images with bright rectangles on noise, and what is to be learned of them.

    Args:
        objects: of each image; none is fine.
        seed: of the noise.
    """
    random = np.random.default_rng(seed)
    count = max(1, *(len(image) for image in objects))
    shape = (len(objects), count)
    made = {
        "image": random.normal(0, 0.3, (len(objects), HEIGHT, WIDTH, 3)).astype("float32"),
        "size": np.tile(np.array([HEIGHT, WIDTH], "float32"), (len(objects), 1)),
        "boxes": np.zeros((*shape, 4), "float32"),
        "labels": np.zeros(shape, "int32"),
        "valid": np.zeros(shape, bool),
        "crowd": np.zeros(shape, bool),
        "edges": np.zeros((*shape, 2, 4), "float32"),
        "keypoints": np.zeros((*shape, POINTS, 3), "float32"),
        "mask": np.full((len(objects), HEIGHT, WIDTH), STUFF - 1, "int32"),
    }
    for image, row in enumerate(objects):
        for place, (x1, y1, x2, y2, label) in enumerate(row):
            made["image"][image, y1:y2, x1:x2, label] += 2
            made["mask"][image, y1:y2, x1:x2] = label
            made["boxes"][image, place] = x1, y1, x2, y2
            made["labels"][image, place] = label
            made["valid"][image, place] = True
            made["edges"][image, place] = _ring(x1, y1, x2, y2)
            corners = [(x, y, 2) for x in (x1 + 1.5, x2 - 1.5) for y in (y1 + 1.5, y2 - 1.5)]
            made["keypoints"][image, place] = corners[:POINTS]
    return made


def total(parts):
    """The loss of parts that are not summed over replicas."""
    means = {
        name: keras.ops.divide_no_nan(part, normaliser)
        for name, (part, normaliser, _) in parts.items()
    }
    return sum(parts[name][2] * mean for name, mean in means.items()), means


def check_found(found, expected):
    """That two detectors find the same; also in order: scores differ by more than rounding does."""
    assert set(found) == set(expected)
    assert np.array(expected["valid"]).any()
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-3, rtol=1e-4, err_msg=key)


def check_gradients(model, found, expected):
    """That the gradients of a model's trainable variables are the same but for rounding."""
    found, expected = ([np.array(g) for g in gradients] for gradients in (found, expected))
    # Some are 0 but for rounding: the softmax over a heat map does not feel its bias.
    rounding = 1e-6 * max(np.linalg.norm(g) for g in expected)
    for variable, a, b in zip(model.trainable_variables, found, expected, strict=True):
        error, size = np.linalg.norm(a - b), np.linalg.norm(b)
        assert error < 2e-3 * size + rounding, (variable.path, error, size)
