import io
import resource

import numpy as np
import pytest
import tensorflow as tf
from image_files import jpeg_that_declares, png_of_zeros
from PIL import Image

from tfseg.data.io import MAX_PIXELS, decode_image
from tfseg.predict.decode import declared_size, decode_all, decode_one, orientation

decode = tf.function(decode_one, input_signature=[tf.TensorSpec((), tf.string)])
read_size = tf.function(declared_size, input_signature=[tf.TensorSpec((), tf.string)])
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


@tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
def decode_sizes(files):
    images, sizes = decode_all(files)
    loop = tf.while_loop(
        lambda index, _: index < tf.size(files),
        lambda index, total: (index + 1, total + tf.size(images.read(index))),
        (0, 0),
    )
    return sizes, loop[1]


def test_declared_sizes_are_the_decoded_ones():
    for data in (file(), file(kind="PNG"), file(6), file(kind="PNG", size=(300, 2), mode="L")):
        decoded = tf.io.decode_image(data)  # which turns nothing
        assert read_size(data).numpy().tolist() == decoded.shape[:2]
    assert read_size(png_of_zeros(7, 70_000)).numpy().tolist() == [7, 70_000]
    assert read_size(png_of_zeros(2**31 - 1, 2**31 - 1, 0)).numpy().tolist() == [2**31 - 1] * 2


@pytest.mark.parametrize(
    "data", [b"", b"no image", png_of_zeros(3, 3)[:15], file(kind="GIF"), file(kind="BMP")]
)
def test_other_files_are_refused_in_words(data):
    with pytest.raises(tf.errors.InvalidArgumentError, match="neither a JPEG nor a PNG"):
        decode_sizes([file(), data])
    with pytest.raises(tf.errors.InvalidArgumentError, match="Invalid JPEG"):
        decode_sizes([file()[:10]])


@pytest.mark.parametrize(
    "files",
    [
        [png_of_zeros(2**31 - 1, 2**31 - 1, 0)],
        [png_of_zeros(2**31 - 1, 2**31 - 1, 0)] * 9,  # whose sum would not fit in 64 bits
        [png_of_zeros(1, MAX_PIXELS + 1, 0)],
        [jpeg_that_declares(65_000, 65_000)],
        [png_of_zeros(3, 3), jpeg_that_declares(13_000, 14_000)],
        [png_of_zeros(10_000, 9_000, 0)] * 2,  # each of which is small enough
    ],
)
def test_files_that_declare_too_many_pixels_are_not_decoded(files):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(tf.errors.InvalidArgumentError, match=f"the limit of {MAX_PIXELS}"):
        decode_sizes(files)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100 * 1024  # KiB
    assert decode_sizes([file()])[0].numpy().tolist() == [[14, 21]]


def test_small_images_that_would_be_padded_to_a_huge_one_are_refused():
    files = [png_of_zeros(1, 20_000), png_of_zeros(20_000, 1)]
    for one in files:
        assert decode_sizes([one])[1] == 60_000
    with pytest.raises(tf.errors.InvalidArgumentError, match="padded to one size"):
        decode_sizes(files)


def test_mutated_files_are_decoded_or_refused():
    rng = np.random.default_rng(0)
    seeds = [file(), file(6), file(kind="PNG"), file(kind="PNG", mode="P"), file(mode="L")]
    refused = 0
    for _ in range(300):
        data = bytearray(seeds[rng.integers(len(seeds))])
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            data[place] = rng.choice([0, 1, 127, 255])
        if rng.random() < 0.3:
            data = data[: rng.integers(len(data))]
        try:
            decode_sizes([bytes(data)])
        except tf.errors.InvalidArgumentError:
            refused += 1
    assert 0 < refused < 300


def test_graph_optimizers_take_what_decodes(capfd):
    """They say what they fail on, and then leave the whole graph as it is."""

    @tf.function(input_signature=[tf.TensorSpec((None,), tf.string)])
    def network(files):
        images, _ = decode_all(files)
        image = tf.cast(images.read(0), tf.float32)[None]
        return tf.nn.conv2d(image, tf.ones((3, 3, 3, 4)), 1, "SAME")

    file = tf.io.encode_jpeg(tf.zeros((8, 8, 3), tf.uint8))
    assert network(file[None]).shape == (1, 8, 8, 4)
    assert "layout failed" not in capfd.readouterr().err
