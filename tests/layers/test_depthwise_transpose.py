import numpy as np
import pytest

from tfseg.layers.upsample import DepthwiseConv2DTranspose


@pytest.mark.parametrize(
    ("size", "stride", "padding"), [(4, 2, 1), (3, 2, 0), (16, 8, 4), (5, 3, 2)]
)
def test_each_channel_by_itself(size, stride, padding):
    rng = np.random.default_rng(0)
    layer = DepthwiseConv2DTranspose(size, stride, padding=padding)
    x = rng.normal(size=(2, 4, 3, 5)).astype("float32")
    layer.build(x.shape)
    kernel = rng.normal(size=(size, size, 5)).astype("float32")
    layer.kernel.assign(kernel)
    full = np.zeros((2, 3 * stride + size, 2 * stride + size, 5))
    for row in range(4):
        for column in range(3):
            window = full[:, row * stride :, column * stride :][:, :size, :size]
            window += x[:, row, column][:, None, None] * kernel
    expected = full[:, padding : full.shape[1] - padding, padding : full.shape[2] - padding]
    np.testing.assert_allclose(layer(x), expected, atol=1e-4)
    assert layer.compute_output_shape(x.shape) == expected.shape
    assert layer.compute_output_shape((None, None, 3, 5)) == (None, None, expected.shape[2], 5)


def test_it_starts_as_bilinear_interpolation():
    layer = DepthwiseConv2DTranspose(4, 2, padding=1)
    layer.build((1, 2, 2, 3))
    line = np.array([0.25, 0.75, 0.75, 0.25])
    np.testing.assert_allclose(layer.kernel, np.outer(line, line)[..., None] * np.ones(3))
