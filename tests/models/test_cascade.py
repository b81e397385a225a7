"""A cascade's stages, of predictors that say what they are told to."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseg.losses import RCNNLoss
from tfseg.models.rcnn.assembly import CASCADE_WEIGHTS
from tfseg.models.rcnn.box_heads import box_predictor
from tfseg.models.rcnn.conventions import CONVENTIONS
from tfseg.models.rcnn.heads import rpn_head
from tfseg.models.rcnn.layout import Layout, Thresholds
from tfseg.models.rcnn.model import RCNN

CLASSES, CHANNELS = 2, 3
SIZES = np.array([[40, 60]], np.float32)
IMAGES = np.random.default_rng(0).normal(size=(1, 40, 60, 3)).astype("float32")
#: of each stage's predictor
LOGITS = [(2.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.0, 1.0, 2.0)]
STILL = (0, 0, 0, 0)


def _stage(logits, deltas, kernel=0.0):
    """A head that flattens and a predictor with these biases, and class weights of this size."""
    region = keras.Input((2, 2, CHANNELS))
    head = keras.Model(region, keras.layers.Flatten()(region))
    predictor = box_predictor(head.output, CLASSES + 1, 1)
    weights = np.random.default_rng(1).normal(size=(4 * CHANNELS, CLASSES + 1))
    score, move = (
        predictor.get_layer(f"roi_heads.box_predictor.{x}") for x in ("cls_score", "bbox_pred")
    )
    score.set_weights([kernel * weights, np.array(logits)])
    move.set_weights([np.zeros((4 * CHANNELS, 4)), np.array(deltas)])
    return head, predictor


def _model(*stages, style="detectron2"):
    image = keras.Input((None, None, 3))
    x = keras.layers.Conv2D(CHANNELS, 1, kernel_initializer="ones")(image)
    trunk = keras.Model(image, {"p2": keras.layers.AveragePooling2D(4)(x)})
    return RCNN(
        trunk,
        {"rpn": rpn_head(CHANNELS, 3)},
        stages,
        num_classes=CLASSES,
        layout=Layout(("p2",), (4,), ((8.0,),), 1, box_size=2),
        conventions=CONVENTIONS[style],
        thresholds=Thresholds((20, 20), (8, 8)),
        box_weights=CASCADE_WEIGHTS[: len(stages)],
    )


def _softmax(logits):
    return np.exp(logits) / np.exp(logits).sum()


@pytest.mark.parametrize(("style", "background"), [("detectron2", 2), ("torchvision", 0)])
def test_the_mean_of_scores_and_the_last_boxes(style, background):
    """Stages move by a tenth of the width, by one of the height, and double the width."""
    deltas = [(1, 0, 0, 0), (0, 2, 0, 0), (0, 0, 15 * np.log(2), 0)]
    model = _model(*(_stage(*both) for both in zip(LOGITS, deltas, strict=True)), style=style)
    proposals = np.array([[(10, 10, 20, 30), (50, 30, 60, 40), (0, 0, 9, 9)]], np.float32)
    found = model.candidates(
        model.features(IMAGES), proposals, np.array([[True, True, False]]), SIZES
    )
    # cut after each step: 51 30 60 40, then 51 31 60 40
    boxes = {(6, 12, 26, 32), (46.5, 31, 60, 40)}
    mean = np.mean([_softmax(np.array(row)) for row in LOGITS], axis=0)
    scores = np.delete(mean, background)
    valid = found["valid"][0].numpy()
    assert valid.sum() == 4
    order = np.argsort(-scores)
    classes, values = found["classes"][0].numpy()[valid], found["scores"][0].numpy()[valid]
    assert classes.tolist() == [order[0]] * 2 + [order[1]] * 2
    np.testing.assert_allclose(values, scores[classes], rtol=1e-6)
    for label in range(CLASSES):
        own = found["boxes"][0].numpy()[valid][classes == label]
        np.testing.assert_allclose(sorted(own.tolist()), sorted(boxes), atol=1e-4)


def test_equal_stages_that_move_nothing_are_one():
    stage = _stage((1, 0, 0.5), STILL, kernel=1.0)
    plain, cascade = _model(stage), _model(*[stage] * 3)
    cascade.trunk.set_weights(plain.trunk.get_weights())
    proposals = np.array([[(3, 4, 30, 20), (10, 10, 50, 39), (0, 20, 9, 40)]], np.float32)
    expected, found = (
        m.candidates(m.features(IMAGES), proposals, np.ones((1, 3), bool), SIZES)
        for m in (plain, cascade)
    )
    assert expected["valid"].numpy().sum() == 6
    assert np.ptp(expected["scores"].numpy()[0, :6]) > 0.05
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, rtol=1e-5, err_msg=key)


def test_moved_boxes_are_cut_and_finite():
    model = _model(*[_stage((0, 0, 0), STILL)] * 3)
    deltas = tf.Variable(np.zeros((1, 4, 1, 4), np.float32))
    # by a tenth of 20 in the second stage; out of the image; nowhere; and twice as high
    deltas[0, :, 0].assign(
        [(2, 0, 0, 0), (2000, 0, 0, 0), (np.nan,) * 4, (0, 0, 0, 10 * np.log(2))]
    )
    boxes = np.array([[(10, 10, 30, 20)] * 4], np.float32)
    with tf.GradientTape() as tape:
        moved = model.moved(deltas, boxes, SIZES, 1)
    expected = [(12, 10, 32, 20), (60, 10, 60, 20), (0, 0, 0, 0), (10, 5, 30, 25)]
    np.testing.assert_allclose(moved[0], expected, atol=1e-4)
    assert tape.gradient(moved, deltas) is None


def test_each_stage_teaches_the_trunk_a_third():
    stage = _stage((1, 0, 0.5), STILL, kernel=1.0)
    plain, cascade = _model(stage), _model(*[stage] * 3)
    boxes = np.array([[(3, 4, 30, 20), (10, 10, 50, 39)]], np.float32)

    def gradients(model, number):
        with tf.GradientTape() as tape:
            logits, _, _ = model.box_outputs(
                model.features(IMAGES), boxes, training=True, stage=number
            )
            value = tf.reduce_sum(tf.nn.log_softmax(logits)[..., 0])
        variables = [*model.trunk.trainable_variables, stage[1].trainable_variables[0]]
        return logits, tape.gradient(value, [v.value for v in variables])

    logits, (*trunk, head) = gradients(plain, 0)
    assert np.abs(trunk[0]).max() > 0.1
    for number in range(3):
        same, (*third, own) = gradients(cascade, number)
        np.testing.assert_allclose(same, logits, rtol=1e-5)
        np.testing.assert_allclose(own, head, rtol=1e-5)
        for a, b in zip(third, trunk, strict=True):
            np.testing.assert_allclose(3 * a, b, rtol=1e-4, atol=1e-5)


def _batch():
    """An object of class 1, a proposal with 0.8 of it, one beside it and one that is none."""
    proposals = [(10, 10, 30, 26), (40, 20, 50, 30), (10, 10, 30, 30)]
    return {
        "image": IMAGES,
        "size": SIZES,
        "boxes": np.array([[(10, 10, 30, 30)]], np.float32),
        "labels": np.array([[1]], np.int32),
        "valid": np.array([[True]]),
        "crowd": np.array([[False]]),
        "proposals": np.array([proposals], np.float32),
        "proposed": np.array([[True, True, False]]),
    }


def _loss(**options):
    return RCNNLoss(roi_samples=8, roi_positive_fraction=0.5, learn=("heads",), **options)


def test_later_stages_learn_from_moved_regions():
    """The first stage moves all up by a tenth of their height: 2/3 and 9/11 of the object.

    Regions are the proposals and the object; the third stage's threshold leaves only the object.
    """
    deltas = [(0, -1, 0, 0), STILL, STILL]
    model = _model(*(_stage(*both) for both in zip(LOGITS, deltas, strict=True)))
    parts = _loss().parts(model, _batch())
    assert set(parts) == {"class", "box", "class_1", "box_1", "class_2", "box_2"}
    assert {(float(part[1]), part[2]) for part in parts.values()} == {(3.0, 1.0)}
    logs = [np.log(_softmax(np.array(row))) for row in LOGITS]
    for name, row, positives in zip(("class", "class_1", "class_2"), logs, (2, 2, 1), strict=True):
        expected = -positives * row[1] - (3 - positives) * row[2]
        np.testing.assert_allclose(parts[name][0], expected, rtol=1e-5)
    growth = np.log(20 / 16)
    boxes = {
        "box": (1 + 10 * 2 / 16) + 5 * growth + 1,
        "box_1": 20 * 3.6 / 16 + 10 * growth + 20 * 2 / 20,
        "box_2": 30 * 2 / 20,
    }
    for name, expected in boxes.items():
        np.testing.assert_allclose(parts[name][0], expected, rtol=1e-5, err_msg=name)


def test_stages_teach_their_own_predictors():
    deltas = [(0, -1, 0, 0), (0, 1, 0.5, 0), (0.5, 0, 0, 1)]
    model = _model(*(_stage(*both) for both in zip(LOGITS, deltas, strict=True)))
    variables = [
        predictor.get_layer("roi_heads.box_predictor.bbox_pred").bias.value
        for _, predictor in model.box_stages
    ]
    with tf.GradientTape(persistent=True) as tape:
        parts = _loss().parts(model, _batch())
        sums = [parts[name][0] for name in ("box", "box_1", "box_2")]
    for stage, value in enumerate(sums):
        for place, gradient in enumerate(tape.gradient(value, variables)):
            assert (gradient is not None) == (place == stage)


def test_thresholds_of_other_stages():
    stage = _stage((0, 0, 0), STILL)
    with pytest.raises(ValueError, match="3 stages needs 2 cascade_thresholds, not"):
        _loss(cascade_thresholds=(0.6,)).parts(_model(*[stage] * 3), _batch())
    assert set(_loss(cascade_thresholds=(0.6,)).parts(_model(stage), _batch())) == {"class", "box"}
    two = _loss(cascade_thresholds=(0.6,)).parts(_model(*[stage] * 2), _batch())
    assert set(two) == {"class", "box", "class_1", "box_1"}


def test_a_higher_threshold_leaves_fewer_positives():
    model = _model(*(_stage(logits, STILL) for logits in LOGITS))
    parts = _loss(cascade_thresholds=(0.8, 0.81)).parts(model, _batch())
    growth = np.log(20 / 16)
    np.testing.assert_allclose(parts["box_1"][0], 20 * 2 / 16 + 10 * growth, rtol=1e-5)
    np.testing.assert_allclose(parts["box_2"][0], 0, atol=1e-5)
