"""The losses against NumPy, and under plain Keras."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseg.losses import (
    SemanticLoss,
    SparseCrossEntropy,
    mean_absolute_error,
    softmax_cross_entropy,
)
from tfseg.ops.resize import resize_bilinear


def by_hand(labels, logits, ignore=255, class_weights=None, pixel_weights=None):
    """The definition, a pixel at a time, in float64."""
    total = count = 0.0
    for index in np.ndindex(labels.shape):
        label = labels[index]
        if label == ignore:
            continue
        row = logits[index].astype(np.float64)
        weight = 1.0 if class_weights is None else class_weights[label]
        weight *= 1.0 if pixel_weights is None else pixel_weights[index]
        total += weight * (np.log(np.sum(np.exp(row - row.max()))) + row.max() - row[label])
        count += weight
    return total, count


@pytest.fixture
def case():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (2, 4, 5)).astype(np.int32)
    labels[0, :2] = 255
    labels[1, 0, 0] = 255
    logits = rng.normal(0, 3, (2, 4, 5, 3)).astype(np.float32)
    return labels, logits, rng.uniform(0.5, 9, (2, 4, 5)).astype(np.float32)


@pytest.mark.parametrize("classes", [None, [0.5, 1.0, 4.0]])
@pytest.mark.parametrize("pixels", [False, True])
def test_equals_the_definition(case, classes, pixels):
    labels, logits, weights = case
    weights = weights if pixels else None
    found = softmax_cross_entropy(labels, logits, class_weights=classes, pixel_weights=weights)
    np.testing.assert_allclose(
        found, by_hand(labels, logits, class_weights=classes, pixel_weights=weights), rtol=1e-6
    )


def test_equal_logits_cost_the_logarithm_of_the_classes_a_pixel():
    total, count = softmax_cross_entropy(np.zeros((1, 2, 3), np.int32), np.zeros((1, 2, 3, 7)))
    assert float(total) == pytest.approx(6 * np.log(7))
    assert float(count) == 6


def test_the_ignore_label_may_be_a_class(case):
    labels, logits, _ = case
    labels[labels == 255] = 1
    np.testing.assert_allclose(
        softmax_cross_entropy(labels, logits, ignore_label=1),
        by_hand(labels, logits, ignore=1),
        rtol=1e-6,
    )


def test_huge_logits_neither_overflow_nor_vanish():
    logits = np.array([[[[1e4, -1e4], [1e4, -1e4]]]], np.float32)
    total, count = softmax_cross_entropy(np.array([[[0, 1]]]), logits)
    assert (float(total), float(count)) == (2e4, 2.0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sums_in_float32_whatever_the_logits_are(dtype):
    # 80 000 pixels: neither format can count so far (float16 ends at 65 504).
    logits = tf.zeros((1, 200, 400, 2), dtype)
    total, count = softmax_cross_entropy(np.zeros((1, 200, 400), np.int32), logits)
    assert total.dtype == count.dtype == tf.float32
    assert float(count) == 80_000
    assert float(total) == pytest.approx(80_000 * np.log(2), rel=1e-5)


def test_ignored_pixels_have_no_gradient_and_others_the_softmaxs(case):
    labels, logits, _ = case
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        total, _ = softmax_cross_entropy(labels, logits)
    gradient = tape.gradient(total, logits).numpy()
    assert not gradient[labels == 255].any()
    scored = labels != 255
    expected = tf.nn.softmax(logits).numpy()[scored] - np.eye(3)[labels[scored]]
    np.testing.assert_allclose(gradient[scored], expected, atol=1e-6)


def test_a_batch_without_labels_costs_nothing_and_teaches_nothing(case):
    logits = tf.constant(case[1])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = SparseCrossEntropy()(np.full((2, 4, 5), 255), logits)
    assert float(loss) == 0
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros((2, 4, 5, 3)))


@pytest.mark.parametrize("label", [3, -1, 254])
def test_a_label_that_is_no_class_is_not_passed_over_silently(case, label):
    labels, logits, _ = case
    labels[1, 2, 2] = label
    assert np.isnan(softmax_cross_entropy(labels, logits)).all()


def test_one_channel_is_the_logit_of_the_second_of_two_classes():
    z = np.array([[[[0.0], [2.0], [-3.0], [1.0]]]], np.float32)
    labels = np.array([[[1, 0, 1, 255]]])
    p = 1 / (1 + np.exp(-z[0, 0, :3, 0].astype(np.float64)))
    total, count = softmax_cross_entropy(labels, z)
    np.testing.assert_allclose(total, -np.log([p[0], 1 - p[1], p[2]]).sum(), rtol=1e-6)
    assert float(count) == 3
    total, count = mean_absolute_error(labels, z, class_weights=[3.0, 1.0])
    np.testing.assert_allclose(total, (1 - p[0]) + 3 * p[1] + (1 - p[2]), rtol=1e-6)
    assert float(count) == 5


def test_absolute_error_is_the_mean_over_classes_and_weighted(case):
    labels, logits, weights = case
    found = mean_absolute_error(labels, logits, pixel_weights=weights)
    p = np.exp(logits.astype(np.float64))
    p /= p.sum(-1, keepdims=True)
    errors = np.abs(np.eye(4)[np.minimum(labels, 3)][..., :3] - p).mean(-1)
    scored = weights * (labels != 255)
    np.testing.assert_allclose(found, [(errors * scored).sum(), scored.sum()], rtol=1e-5)


def test_absolute_error_has_the_sigmoids_gradient():
    z = tf.constant([[[[0.5]], [[-1.0]]]])
    with tf.GradientTape() as tape:
        tape.watch(z)
        total, _ = mean_absolute_error(np.array([[[1], [0]]]), z)
    p = tf.sigmoid(z).numpy()
    expected = p * (1 - p) * np.array([-1, 1]).reshape(1, 2, 1, 1)
    np.testing.assert_allclose(tape.gradient(total, z), expected, rtol=1e-5)


def test_semantic_loss_takes_its_loss_by_name(case):
    labels, logits, _ = case
    parts = SemanticLoss(name="mean_absolute_error")(
        {"logits": logits, "aux": logits}, {"mask": labels}
    )
    total, count = mean_absolute_error(labels, logits)
    assert list(parts) == ["mean_absolute_error", "aux"]
    assert float(parts["aux"][0]) == float(parts["mean_absolute_error"][0]) == float(total)
    assert float(parts["mean_absolute_error"][1]) == float(count)
    with pytest.raises(ValueError, match=r"must be one of .*, not 'mae'"):
        SemanticLoss(name="mae")


def test_names_both_sizes_and_the_way_out():
    with pytest.raises(ValueError, match=r"572x570 .* 388x386 .*'crop_labels'"):
        softmax_cross_entropy(np.zeros((1, 572, 570), np.int32), np.zeros((1, 388, 386, 2)))
    with pytest.raises(ValueError, match="2 values, but there are 3 classes"):
        softmax_cross_entropy(
            np.zeros((1, 1, 1), np.int32), np.zeros((1, 1, 1, 3)), class_weights=[1, 2]
        )
    with pytest.raises(ValueError, match=r"\(1, 4, 4, 1\)"):
        softmax_cross_entropy(np.zeros((1, 4, 4, 1), np.int32), np.zeros((1, 4, 4, 3)))


def test_semantic_loss_weighs_the_auxiliary_head(case):
    labels, logits, weights = case
    loss = SemanticLoss(aux_weight=0.3, use_pixel_weights=True, class_weights=[1.0, 2.0, 3.0])
    parts = loss({"logits": logits, "aux": -logits}, {"mask": labels, "weights": weights})
    assert list(parts) == ["cross_entropy", "aux"]
    for name, sign, weight in (("cross_entropy", 1, 1.0), ("aux", -1, 0.3)):
        expected = by_hand(labels, sign * logits, 255, [1.0, 2.0, 3.0], weights)
        np.testing.assert_allclose(parts[name][:2], expected, rtol=1e-6)
        assert parts[name][2] == weight
    assert parts["aux"][1] is parts["cross_entropy"][1]


def test_the_sum_has_no_normaliser(case):
    labels, logits, _ = case
    total, normaliser, weight = SemanticLoss(reduction="sum")(logits, {"mask": labels})[
        "cross_entropy"
    ]
    assert normaliser is None
    assert weight == 1
    assert float(total) == pytest.approx(by_hand(labels, logits)[0], rel=1e-6)


def test_semantic_loss_refuses_what_it_cannot_use(case):
    labels, logits, _ = case
    with pytest.raises(ValueError, match=r"has only \['mask'\]"):
        SemanticLoss(use_pixel_weights=True)(logits, {"mask": labels})
    with pytest.raises(ValueError, match=r"\['boxes', 'logits'\]"):
        SemanticLoss()({"logits": logits, "boxes": logits}, {"mask": labels})
    with pytest.raises(ValueError, match="'median'"):
        SemanticLoss(reduction="median")


def test_keras_fit_learns_with_weights_and_a_metric_that_ignores(case):
    labels, logits, weights = case
    model = keras.Sequential([keras.Input((4, 5, 3)), keras.layers.Conv2D(3, 1)])
    # Keras' own metric: it takes ids out of range where they are ignored.
    metric = keras.metrics.MeanIoU(3, ignore_class=255, sparse_y_pred=False, name="iou")
    model.compile(
        keras.optimizers.SGD(0.0),
        loss=SparseCrossEntropy(class_weights=[1.0, 2.0, 3.0]),
        metrics=[metric],
    )
    history = model.fit(logits, labels, sample_weight=weights, batch_size=2, verbose=0).history
    predicted = model(logits).numpy()
    total, count = by_hand(labels, predicted, 255, [1.0, 2.0, 3.0], weights)
    assert history["loss"][0] == pytest.approx(total / count, rel=1e-5)
    scored = labels != 255
    truth, guess = labels[scored], predicted.argmax(-1)[scored]
    ious = [
        ((truth == c) & (guess == c)).sum() / ((truth == c) | (guess == c)).sum() for c in range(3)
    ]
    assert history["iou"][0] == pytest.approx(np.mean(ious), rel=1e-5)


def test_keras_loss_is_restored_from_its_config(case):
    labels, logits, _ = case
    loss = SparseCrossEntropy(ignore_label=1, class_weights=[1.0, 2.0, 3.0], reduction="sum")
    again = keras.losses.deserialize(keras.losses.serialize(loss))
    labels[labels == 255] = 1
    assert float(again(labels, logits)) == float(loss(labels, logits))
    one_a_sample = again(labels, logits, np.array([2.0, 0.0]))
    assert float(one_a_sample) == pytest.approx(2 * float(loss(labels[:1], logits[:1])), rel=1e-6)


def test_label_stride_is_the_loss_on_the_score_map():
    """Scores interpolated with aligned corners and sampled again are the scores themselves."""
    rng = np.random.default_rng(3)
    scores = rng.normal(size=(2, 4, 5, 3)).astype(np.float32)
    labels = rng.integers(0, 3, (2, 25, 33)).astype(np.int32)
    labels[:, :3] = 255
    logits = resize_bilinear(scores, (25, 33), align_corners=True)
    weights = rng.uniform(size=(2, 25, 33)).astype(np.float32)
    loss = SemanticLoss(label_stride=8, use_pixel_weights=True)
    total, counted, _ = loss(logits, {"mask": labels, "weights": weights})["cross_entropy"]
    expected = by_hand(labels[:, ::8, ::8], scores, 255, None, weights[:, ::8, ::8])
    np.testing.assert_allclose((total, counted), expected, rtol=1e-5)


def test_every_auxiliary_output_has_its_loss(case):
    labels, logits, _ = case
    outputs = {"logits": logits, "aux_0.50": 2 * logits, "aux_0.75": -logits}
    parts = SemanticLoss(aux_weight=1.0)(outputs, {"mask": labels})
    assert list(parts) == ["cross_entropy", "aux_0.50", "aux_0.75"]
    assert float(parts["aux_0.50"][0]) == pytest.approx(by_hand(labels, 2 * logits)[0], rel=1e-6)


def test_the_parts_of_a_batch_are_those_of_the_training_outputs(case):
    labels, logits, _ = case
    seen = []

    def model(images, training):
        seen.append(training)
        return logits + images

    batch = {"image": np.float32(1), "mask": labels}
    loss = SemanticLoss()
    found, expected = loss.parts(model, batch), loss(logits + 1, batch)
    assert seen == [True]
    assert found.keys() == expected.keys()
    np.testing.assert_array_equal(found["cross_entropy"][:2], expected["cross_entropy"][:2])
