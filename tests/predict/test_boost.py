"""The boost of rare labels, by hand."""

import numpy as np
import pytest

from tfseg.predict.boost import BoostedPredictor


class Fixed:
    """A predictor that always says the same."""

    def __init__(self, probabilities):
        self.num_classes = probabilities.shape[-1]
        self.network = None
        self._probabilities = probabilities

    def __call__(self, image, progress=None):
        return self._probabilities.copy()


IMAGE = np.zeros((1, 2, 3), np.uint8)
PREDICTED = np.array([[[0.6, 0.3, 0.1], [0.2, 0.2, 0.6]]], np.float32)


def test_log_p_minus_alpha_log_prior():
    boosted = BoostedPredictor(Fixed(PREDICTED), [900, 90, 10], 0.5)(IMAGE)
    assert boosted.dtype == np.float32
    scores = np.log(PREDICTED) - 0.5 * np.log([0.9, 0.09, 0.01])
    expected = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    np.testing.assert_allclose(boosted, expected, rtol=1e-5)
    # 0.6 / sqrt(0.9) = 0.632, 0.3 / sqrt(0.09) = 1, 0.1 / sqrt(0.01) = 1
    np.testing.assert_allclose(boosted[0, 0], np.array([0.632456, 1, 1]) / 2.632456, rtol=1e-5)


def test_alpha_1_divides_by_the_prior():
    boosted = BoostedPredictor(Fixed(PREDICTED), [2, 1, 1], 1.0)(IMAGE)
    np.testing.assert_allclose(boosted[0, 0], [0.3 / 0.7, 0.3 / 0.7, 0.1 / 0.7], rtol=1e-5)


def test_alpha_0_changes_nothing():
    boosted = BoostedPredictor(Fixed(PREDICTED), [900, 90, 10], 0.0)(IMAGE)
    np.testing.assert_allclose(boosted, PREDICTED, rtol=1e-6)


def test_a_class_without_pixels_is_not_boosted():
    boosted = BoostedPredictor(Fixed(PREDICTED), [3, 1, 0], 1.0)(IMAGE)
    expected = np.array([0.6 / 0.75, 0.3 / 0.25, 0.1])
    np.testing.assert_allclose(boosted[0, 0], expected / expected.sum(), rtol=1e-5)


def test_extreme_priors_stay_finite():
    predicted = np.array([[[1.0, 0.0, 0.0]]], np.float32)
    boosted = BoostedPredictor(Fixed(predicted), [10**12, 1, 1], 1.0)(IMAGE[:, :1])
    np.testing.assert_array_equal(boosted, predicted)


@pytest.mark.parametrize(
    ("pixels", "alpha", "message"),
    [
        ([1, 1], 0.5, "2 counts of labels for the model's 3 classes"),
        ([1, -1, 1], 0.5, "must not be negative"),
        ([0, 0, 0], 0.5, "nor all of them 0"),
        ([1, 1, 1], 1.5, r"alpha must lie in 0\.\.1, not 1\.5"),
    ],
)
def test_mistakes_are_named(pixels, alpha, message):
    with pytest.raises(ValueError, match=message):
        BoostedPredictor(Fixed(PREDICTED), pixels, alpha)
