"""Balanced samples."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops.sampling import balanced_sample


def _drawn(labels, count, fraction, draw=balanced_sample):
    """How many positives and how many at all are drawn of each row."""
    labels = np.asarray(labels, np.int32)
    index, positive, valid = map(np.asarray, draw(labels, count, fraction, 0))
    for b, row in enumerate(labels):
        chosen = index[b][valid[b]]
        assert len(set(chosen)) == len(chosen)
        assert (row[index[b][positive[b]]] == 1).all()
        assert (row[index[b][valid[b] & ~positive[b]]] == 0).all()
        # positives first, then negatives, then unused slots
        kinds = np.where(positive[b], 0, np.where(valid[b], 1, 2))
        assert (np.diff(kinds) >= 0).all()
        assert not index[b][~valid[b]].any()
    return positive.sum(axis=1).tolist(), valid.sum(axis=1).tolist()


@pytest.mark.parametrize(
    ("positives", "negatives", "found"),
    [
        (20, 80, (4, 16)),  # enough of both: a quarter
        (3, 80, (3, 16)),  # negatives fill up
        (20, 5, (4, 9)),  # positives do not
        (0, 80, (0, 16)),
        (0, 0, (0, 0)),
        (2, 1, (2, 3)),  # fewer boxes than slots
    ],
)
def test_numbers(positives, negatives, found):
    labels = [1] * positives + [-1] * 7 + [0] * negatives
    shuffled = np.random.default_rng(0).permutation(labels)
    assert _drawn([shuffled, labels], 16, 0.25) == ([found[0]] * 2, [found[1]] * 2)


def test_all_are_drawn_equally_often():
    labels = np.tile([[1] * 10 + [0] * 30 + [-1] * 5], (2000, 1))
    index, positive, valid = map(np.asarray, balanced_sample(labels, 8, 0.5, 3))
    assert positive.sum() == 4 * 2000
    assert valid.all()
    times = np.bincount(index.ravel(), minlength=45)
    # 800 of 2000 each, and 266.7; four standard deviations of a binomial
    np.testing.assert_allclose(times[:10], 800, atol=4 * np.sqrt(2000 * 0.4 * 0.6))
    np.testing.assert_allclose(times[10:40], 800 / 3, atol=4 * np.sqrt(2000 * 4 / 30 * 26 / 30))
    assert not times[40:].any()


def test_a_generator_draws_anew_and_an_integer_the_same():
    labels = np.tile([[1] * 50 + [0] * 50], (1, 1))
    generator = keras.random.SeedGenerator(0)
    draw = tf.function(lambda x: balanced_sample(x, 8, 0.5, generator)[0])
    assert not np.array_equal(draw(labels), draw(labels))
    same = [np.asarray(balanced_sample(labels, 8, 0.5, 7)[0]).tolist() for _ in range(2)]
    assert same[0] == same[1]


def test_in_xla_and_with_unknown_sizes():
    labels = np.random.default_rng(0).integers(-1, 2, (3, 40)).astype("int32")
    labels[1] = 0
    expected = _drawn(labels, 16, 0.5)
    assert expected == ([8, 0, 8], [16, 16, 16])
    compiled = tf.function(balanced_sample, jit_compile=True)
    traced = tf.function(
        lambda x, *_: balanced_sample(x, 16, 0.5, 0),
        input_signature=[tf.TensorSpec((None, None), tf.int32)] + [tf.TensorSpec(())] * 3,
    )
    assert _drawn(labels, 16, 0.5, draw=compiled) == expected
    assert _drawn(labels, 16, 0.5, draw=traced) == expected
