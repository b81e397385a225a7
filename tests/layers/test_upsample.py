import keras
import numpy as np
import pytest

from tfseg.layers.resize import CropLike
from tfseg.layers.upsample import BilinearKernel, bilinear_deconvolution


@pytest.mark.parametrize(("factor", "kernel"), [(2, 4), (8, 16), (32, 64), (32, 63)])
def test_a_ramp_stays_a_ramp(factor, kernel):
    """Inside the border, interpolation of a linear function is that function."""
    ramp = np.broadcast_to(np.arange(6.0)[None, :, None, None], (1, 6, 5, 2)).astype("float32")
    scaled = ramp * [1.0, -3.0]
    inputs = keras.Input((None, None, 2))
    layer = bilinear_deconvolution(inputs, factor, kernel, trainable=False, name="up")
    found = keras.Model(inputs, layer)(scaled.astype("float32")).numpy()
    assert found.shape[1] == 5 * factor + kernel
    rows = (np.arange(found.shape[1]) - (kernel - 1) / 2) / factor
    inside = (rows >= 0) & (rows <= 5)
    for channel, slope in enumerate((1.0, -3.0)):
        expected = np.broadcast_to(slope * rows[inside, None], (inside.sum(), 2 * factor))
        columns = found[0, inside, kernel : kernel + 2 * factor, channel]
        np.testing.assert_allclose(columns, expected, atol=1e-4)


def test_the_kernel_of_three_and_four():
    three = np.array(BilinearKernel()((3, 3, 2, 2)))
    np.testing.assert_allclose(three[1, :, 0, 0], [0.5, 1.0, 0.5])
    assert not three[..., 0, 1].any()
    assert not three[..., 1, 0].any()
    four = np.array(BilinearKernel()((4, 4, 1, 1)))
    np.testing.assert_allclose(four[0, :, 0, 0], [0.0625, 0.1875, 0.1875, 0.0625])
    with pytest.raises(ValueError, match=r"\(n, n, C, C\)"):
        BilinearKernel()((4, 4, 1, 2))


def test_crop_like_starts_at_its_offset():
    x = np.arange(48.0).reshape(1, 6, 8, 1)
    cropped = CropLike(2)([x, np.zeros((1, 3, 5, 7))])
    np.testing.assert_array_equal(cropped, x[:, 2:5, 2:7])
