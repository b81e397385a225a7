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
        )
        self.box_weights = ((10.0, 10.0, 5.0, 5.0),)
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

    def box_outputs(self, features, boxes, training):
        self.boxes = boxes
        return (
            self._repeated(self.class_logits, boxes),
            self._repeated(self.box_deltas, boxes),
            None,
        )

    def mask_outputs(self, features, boxes, shared, training):
        self.mask_boxes = boxes
        return self._repeated(self.mask_logits, boxes)

    def keypoint_outputs(self, features, boxes, training):
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


def _gradients(loss, model, batch):
    with tf.GradientTape() as tape:
        parts = loss.parts(model, batch)
        total = tf.add_n([w * tf.math.divide_no_nan(s, n) for s, n, w in parts.values()])
    variables = [*model.rpn_logits, *model.rpn_deltas, model.class_logits, model.box_deltas]
    variables += [model.mask_logits, model.heatmaps]
    return parts, tape.gradient(total, variables)


def test_smooth_l1():
    errors = np.array([-2.0, -0.5, 0.0, 0.1, 1.0])
    np.testing.assert_allclose(smooth_l1(errors, 1.0), [1.5, 0.125, 0.0, 0.005, 0.5])
    np.testing.assert_allclose(smooth_l1(errors, 0.5), [1.75, 0.25, 0.0, 0.01, 0.75])
    np.testing.assert_allclose(smooth_l1(errors, 0), [2.0, 0.5, 0.0, 0.1, 1.0])


def test_the_anchors_are_taught_object_or_not_and_the_object():
    """The first anchor's overlap with the object is 7/8; the large anchor's 56/256."""
    model = StandIn()
    parts = _loss().parts(model, a_batch())
    total, normaliser, weight = parts["rpn_class"]
    assert (float(normaliser), weight) == (16.0, 1.0)
    assert parts["rpn_box"][1] is normaliser
    logits = [np.concatenate([np.ravel(x[b]) for x in model.rpn_logits]) for b in (0, 1)]
    expected = sum(_bce(z, i == 0) for i, z in enumerate(logits[0]))
    expected += sum(_bce(z, False) for z in logits[1])
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    # from the anchor 0 0 8 8 to the object 0 0 8 7
    wanted = [0, -0.5 / 8, 0, np.log(7 / 8)]
    deltas = model.rpn_deltas[0][0, 0, 0].numpy()
    np.testing.assert_allclose(parts["rpn_box"][0], np.abs(deltas - wanted).sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("style", "deltas", "channel"),
    [("detectron2", 3, 2), ("detectron2", 1, 0), ("torchvision", 4, 3), ("torchvision", 1, 0)],
)
def test_the_heads_are_taught_class_and_offsets(style, deltas, channel):
    """Of the first image the object and the proposal 0 0 8 8 are positive, two proposals not."""
    model = StandIn(style, deltas=deltas)
    parts = _loss().parts(model, a_batch())
    total, normaliser, _ = parts["class"]
    assert float(normaliser) == 4 + 3
    assert parts["box"][1] is normaliser
    logs = tf.nn.log_softmax(model.class_logits).numpy()
    first = style == "torchvision"
    expected = -2 * logs[3 if first else 2] - 5 * logs[0 if first else 3]
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    wanted = [[0, 0, 0, 0], [0, -10 * 0.5 / 8, 0, 5 * np.log(7 / 8)]]
    errors = np.abs(model.box_deltas[channel].numpy() - wanted)
    if first:
        errors = np.where(errors < 1 / 9, 4.5 * errors**2, errors - 1 / 18)
    np.testing.assert_allclose(parts["box"][0], errors.sum(), rtol=1e-6)
    assert model.seen == [True]


@pytest.mark.parametrize(
    ("style", "masks", "channel"),
    [("detectron2", 3, 2), ("detectron2", 1, 0), ("torchvision", 4, 3)],
)
def test_the_objects_mask_is_taught(style, masks, channel):
    """The object fills its own box, and of the proposal 0 0 8 8 all rows but the last.

    It ends at 7 of 8: the centre of the last row of four is at 7, and so outside.
    """
    model = StandIn(style, masks=masks)
    total, normaliser, _ = _loss().parts(model, _with_square(7))["mask"]
    assert float(normaliser) == 2 * MASK**2
    logits = model.mask_logits.numpy()[..., channel]
    expected = _bce(logits, True).sum() + _bce(logits[:3], True).sum()
    expected += _bce(logits[3], False).sum()
    np.testing.assert_allclose(total, expected, rtol=1e-6)


@pytest.mark.parametrize(("style", "channel"), [("detectron2", 2), ("torchvision", 3)])
def test_classes_compete_in_the_softmax_mask(style, channel):
    model = StandIn(style, masks=CLASSES + 1)
    parts = _loss(mask_loss="softmax").parts(model, _with_square(7))
    logs = tf.nn.log_softmax(model.mask_logits).numpy()
    background = 0 if style == "torchvision" else 3
    expected = -logs[..., channel].sum() - logs[:3, :, channel].sum()
    expected -= logs[3, :, background].sum()
    np.testing.assert_allclose(parts["mask"][0], expected, rtol=1e-6)
    with pytest.raises(ValueError, match="3 channels"):
        _loss(mask_loss="softmax").parts(StandIn(masks=CLASSES), a_batch())


def _with_square(bottom):
    batch = a_batch()
    batch["edges"][0, 0] = [[0, 0, 0, bottom], [8, bottom, 8, 0], [0, 0, 0, 0]]
    return batch


def test_the_visible_keypoints_are_taught():
    """Both positives hold the one labelled keypoint, at 1 1: cell 0 0 of both."""
    model = StandIn(keypoints=True)
    logs = tf.nn.log_softmax(tf.reshape(model.heatmaps, (-1, POINTS)), axis=0).numpy()
    total, normaliser, _ = _loss().parts(model, a_batch())["keypoint"]
    np.testing.assert_allclose(total, -2 * logs[0, 0], rtol=1e-6)
    assert float(normaliser) == 2
    # two images, four regions that may have objects, two keypoints
    same, normaliser, _ = _loss(normalise_by_visible=False).parts(model, a_batch())["keypoint"]
    np.testing.assert_allclose(same, total, rtol=1e-6)
    assert float(normaliser) == 2 * 4 * 2
    total, normaliser, _ = _loss(keypoint_minimum=3).parts(model, a_batch())["keypoint"]
    assert (float(total), float(normaliser)) == (0, 0)


@pytest.mark.parametrize(("objects", "regions"), [(True, 2), (False, 1)])
def test_heads_may_see_positives_only(objects, regions):
    model, batch = StandIn(masks=3, keypoints=True), a_batch()
    batch["valid"][0, 0] = objects
    few = _loss(only_positives=True, normalise_by_visible=False)
    found = tf.function(few.parts, autograph=False)(model, batch)
    model.sampler_seed = keras.random.SeedGenerator(0)
    parts = _loss(normalise_by_visible=False).parts(model, batch)
    assert model.mask_boxes.shape == (2, 4, 4)
    assert found.keys() == parts.keys()
    for name, (total, normaliser, _) in parts.items():
        np.testing.assert_allclose(found[name][:2], (total, normaliser), rtol=1e-6)
    few.parts(model, batch)
    assert model.mask_boxes.shape == (2, regions, 4)


def test_the_semantic_head_is_taught_the_labelled_pixels():
    model = StandIn()
    model.semantic_head = True
    model.semantic_outputs = lambda features, images, training: tf.zeros((2, 16, 16, 5))
    batch = a_batch()
    batch["mask"] = np.full((2, 16, 16), 255, np.int32)
    batch["mask"][0, :2] = 4
    total, normaliser, weight = _loss().parts(model, batch)["semantic"]
    np.testing.assert_allclose(total, 32 * np.log(5), rtol=1e-6)
    assert (float(normaliser), weight) == (32, 0.5)


@pytest.mark.parametrize("jit", [False, True])
def test_no_objects_at_all(jit):
    """Everything is background, and the gradients are finite."""
    model = StandIn(masks=3, keypoints=True)
    batch = a_batch()
    batch["valid"][:] = False
    step = tf.function(_gradients, autograph=False, jit_compile=jit)
    parts, gradients = step(_loss(), model, {k: tf.constant(v) for k, v in batch.items()})
    sums = {name: (float(s), float(n)) for name, (s, n, _) in parts.items()}
    assert sums["rpn_box"] == (0, 16)
    assert sums["box"] == (0, 6)
    assert sums["mask"] == sums["keypoint"] == (0, 0)
    assert sums["class"][0] > 0
    assert sums["rpn_class"][0] > 0
    assert all(np.isfinite(g).all() for g in gradients)


def test_crowds_are_neither_objects_nor_background():
    batch = a_batch()
    batch["crowd"][0, 0] = True
    parts = _loss().parts(StandIn(), batch)
    assert float(parts["rpn_box"][0]) == float(parts["box"][0]) == 0
    # the proposal 0 0 8 8, 7/8 of which lie in the crowd, is not used
    assert float(parts["class"][1]) == 2 + 3


def test_proposals_are_taken_as_given():
    """Without the losses of the proposals their network learns nothing."""
    model = StandIn(masks=3)
    parts, gradients = _gradients(_loss(learn=("heads",)), model, a_batch())
    assert set(parts) == {"class", "box", "mask"}
    assert gradients[:4] == [None] * 4
    assert all(g is not None for g in gradients[4:7])
    parts, gradients = _gradients(_loss(learn=("rpn",)), model, a_batch())
    assert set(parts) == {"rpn_class", "rpn_box"}
    assert gradients[4:] == [None] * 4


def test_a_proposer_proposes_and_does_not_learn():
    model, proposer = StandIn(), StandIn()
    proposer.propose = lambda *_, **__: (
        tf.constant([[[0, 0, 8, 7.0]]] * 2),
        tf.constant([[True]] * 2),
    )
    parts = _loss(learn=("heads",), proposer=proposer).parts(model, a_batch())
    # the proposal in both images, and the first's object
    assert float(parts["class"][1]) == 3
    assert (model.seen, proposer.seen) == ([True], [False])


def test_a_batchs_proposals_take_the_place_of_the_models():
    """The losses are those of a model that proposes the same."""
    boxes = np.array([[[0, 0, 8, 7.5], [1, 1, 9, 8], [8, 8, 16, 16], [0, 0, 0, 0]]] * 2, np.float32)
    valid = np.array([[True, True, True, False], [True, False, False, False]])
    given = a_batch() | {"proposals": boxes, "proposed": valid}
    wanted, model = StandIn(masks=3), StandIn(masks=3)
    wanted.propose = lambda *_, **__: (tf.constant(boxes), tf.constant(valid))
    model.propose = None
    expected = _loss().parts(wanted, a_batch())
    parts = _loss().parts(model, given)
    assert parts.keys() == expected.keys()
    for name, part in parts.items():
        np.testing.assert_allclose(part, expected[name], rtol=1e-6)
    # two proposals of the object, and itself
    assert float(parts["mask"][1]) == 3 * MASK * MASK
    np.testing.assert_array_equal(model.mask_boxes, wanted.mask_boxes)

    model.rpn_outputs = None  # needed for nothing
    parts = _loss(learn=("heads",)).parts(model, given)
    assert set(parts) == {"class", "box", "mask"}


@pytest.mark.parametrize(
    "options", [{"mask_loss": "dice"}, {"learn": ()}, {"learn": ("rpn", "masks")}]
)
def test_options_are_checked(options):
    with pytest.raises(ValueError, match=r"must be"):
        RCNNLoss(**options)


def test_another_number_of_channels():
    with pytest.raises(ValueError, match="5 channels does not fit 3 classes"):
        _loss().parts(StandIn(deltas=5), a_batch())


def test_a_batch_without_what_is_learnt():
    batch = a_batch()
    del batch["edges"], batch["keypoints"]
    with pytest.raises(ValueError, match=r"learns from \['edges', 'keypoints'\], but"):
        _loss().parts(StandIn(masks=3, keypoints=True), batch)
    assert "rpn_class" in _loss(learn=("rpn",)).parts(StandIn(masks=3), batch)
