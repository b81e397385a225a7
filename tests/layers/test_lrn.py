import numpy as np
import tensorflow as tf

from tfseg.layers.lrn import LocalResponseNormalization


def test_equals_tensorflows_with_caffes_alpha():
    x = np.random.default_rng(0).normal(0, 50, (2, 3, 4, 11)).astype("float32")
    found = LocalResponseNormalization(5, 1e-2, 0.75)(x)
    # TensorFlow does not divide alpha by the window's size.
    expected = tf.nn.local_response_normalization(x, 2, 1.0, 1e-2 / 5, 0.75)
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_by_hand():
    x = np.array([1.0, 2.0, 3.0]).reshape(1, 1, 1, 3).astype("float32")
    found = np.ravel(LocalResponseNormalization(3, 3.0, 0.5)(x))
    # windows (1, 2), (1, 2, 3), (2, 3): 1 + 3/3 * sum of squares = 6, 15, 14
    np.testing.assert_allclose(found, [1 / 6**0.5, 2 / 15**0.5, 3 / 14**0.5], rtol=1e-6)
