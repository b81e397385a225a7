import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfseg.data.io import decode_image
from tfseg.predict.decode import decode_one, orientation

decode = tf.function(decode_one, input_signature=[tf.TensorSpec((), tf.string)])
read_orientation = tf.function(orientation, input_signature=[tf.TensorSpec((), tf.string)])


def picture(mode="RGB"):
    """A smooth picture, as JPEG likes them."""
    rng = np.random.default_rng(0)
    return Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).convert(mode)


def file(turned=None, *, endian="<", kind="JPEG", mode="RGB", size=(21, 14)):
    exif = Image.Exif()
    exif.endian = endian
    exif[0x010F] = "a maker"  # an entry before it
    if turned is not None:
        exif[0x0112] = turned
    encoded = io.BytesIO()
    image = picture(mode).resize(size, Image.Resampling.BILINEAR)
    image.save(encoded, kind, **({"exif": exif} if kind == "JPEG" else {}))
    return encoded.getvalue()


@pytest.mark.parametrize("turned", [None, *range(10)])
@pytest.mark.parametrize("endian", ["<", ">"])
def test_orientations_as_files_are_read(turned, endian):
    data = file(turned, endian=endian)
    np.testing.assert_array_equal(decode(data), decode_image(data, "file"))


@pytest.mark.parametrize(("kind", "mode"), [("JPEG", "L"), ("PNG", "L"), ("PNG", "RGBA")])
def test_gray_and_transparent_files_become_colours(kind, mode):
    data = file(kind=kind, mode=mode)
    expected = np.broadcast_to(decode_image(data, "file"), (14, 21, 3))
    np.testing.assert_array_equal(decode(data), expected)


def test_16_bits_keep_the_high_byte():
    values = np.array([[0, 255, 256], [511, 40000, 65535]], np.uint16)
    data = tf.io.encode_png(values[..., None])
    np.testing.assert_array_equal(decode(data)[..., 1], values // 256)


def test_damaged_exif_is_not_believed_and_fails_nothing():
    data = file(6)
    start = data.index(b"Exif\0\0")
    rng = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(data)
        for place in rng.integers(2, start + 60, 3):
            damaged[place] = rng.integers(0, 256)
        assert 1 <= int(read_orientation(bytes(damaged))) <= 8
    for end in range(3, start + 60, 7):
        assert 1 <= int(read_orientation(data[:end])) <= 8
