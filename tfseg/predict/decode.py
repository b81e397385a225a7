"""Encoded images in a graph: read as `tfseg.data.read_image` reads files."""

import tensorflow as tf

#: of the TIFF directory inside EXIF, the tag of the orientation
_ORIENTATION = 0x0112
_APP1, _SCAN = 0xE1, 0xDA
_EXIF = tuple(b"Exif\0\0")


def decode_one(file: tf.Tensor) -> tf.Tensor:
    """One encoded image, upright.

    JPEG is decoded with the accurate integer transform, as Pillow does (TensorFlow's default
    differs by up to 15 grey values), and turned as its EXIF orientation says. Gray images become
    three equal channels, of which `tfseg.ops.preprocess.preprocess` makes the same gray again;
    alpha is dropped, and of 16 bits the high byte is kept.

    Args:
        file: string (), JPEG or PNG.

    Returns:
        uint8 (H, W, 3).

    Raises:
        tf.errors.InvalidArgumentError: if it cannot be decoded.
    """

    def jpeg() -> tf.Tensor:
        image = tf.io.decode_jpeg(file, channels=3, dct_method="INTEGER_ACCURATE")
        return upright(image, orientation(file))

    return tf.cond(tf.io.is_jpeg(file), jpeg, lambda: tf.io.decode_png(file, channels=3))


def decode_all(files: tf.Tensor) -> tuple[tf.TensorArray, tf.Tensor]:
    """Encoded images of any sizes, one after another.

    Args:
        files: string (B,), JPEG or PNG; at least one.

    Returns:
        The images, B uint8 (H, W, 3), each to be read once, and their sizes, int32 (B, 2).

    Raises:
        tf.errors.InvalidArgumentError: if there are none, or one cannot be decoded.
    """
    count = tf.shape(files)[0]
    message = "a request needs one image or more, this one has none"
    with tf.control_dependencies([tf.debugging.assert_positive(count, message=message)]):
        count = tf.identity(count)
    images = tf.TensorArray(tf.uint8, count, element_shape=(None, None, 3), infer_shape=False)
    sizes = tf.TensorArray(tf.int32, count, element_shape=(2,))

    def add(
        index: tf.Tensor, images: tf.TensorArray, sizes: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
        image = decode_one(files[index])
        return index + 1, images.write(index, image), sizes.write(index, tf.shape(image)[:2])

    _, images, sizes = tf.while_loop(lambda index, *_: index < count, add, (0, images, sizes))
    return images, sizes.stack()


def orientation(file: tf.Tensor) -> tf.Tensor:
    """The EXIF orientation of a JPEG file, int32 () of 1..8; 1 where it tells none.

    Reads the file's segments up to its scan (JIS X 0608 annex B; Exif 2.3, 4.5 and 4.6). Of a
    damaged directory nothing is believed; it never fails.

    Args:
        file: string (), a JPEG file.
    """
    data = tf.io.decode_raw(file, tf.uint8)
    last = tf.cast(tf.size(data) - 1, tf.int64)

    def read(place: tf.Tensor, size: int, little: tf.Tensor | bool = False) -> tf.Tensor:
        """An unsigned number of some bytes; beyond the end all are as the last byte."""
        places = tf.clip_by_value(place[..., None] + tf.range(size, dtype=tf.int64), 0, last)
        digits = tf.cast(tf.gather(data, places), tf.int64)
        powers = tf.constant([256**n for n in range(size)], tf.int64)
        return tf.reduce_sum(digits * tf.where(little, powers, powers[::-1]), axis=-1)

    def is_exif(start: tf.Tensor) -> tf.Tensor:
        name = tf.gather(data, tf.minimum(start + 4 + tf.range(6, dtype=tf.int64), last))
        here = tf.reduce_all(name == tf.constant(_EXIF, tf.uint8))
        return here & (read(start, 2) == 0xFF00 + _APP1)

    def goes_on(start: tf.Tensor) -> tf.Tensor:
        marker = read(start, 2)
        segment = (marker > 0xFF00) & (marker != 0xFF00 + _SCAN) & (start < last)
        return segment & ~is_exif(start)

    # EXIF comes first or second in files of cameras; made-up ones may have millions of segments.
    start = tf.while_loop(
        goes_on,
        lambda start: (start + 2 + read(start + 2, 2),),
        (tf.constant(2, tf.int64),),
        maximum_iterations=256,
    )
    tiff = start[0] + 10
    little = read(tiff, 1) == ord("I")
    directory = tiff + read(tiff + 4, 4, little)
    entries = directory + 2 + 12 * tf.range(read(directory, 2, little))
    value = tf.where(
        read(entries, 2, little) == _ORIENTATION, read(entries + 8, 2, little), tf.int64.min
    )
    found = tf.reduce_max(value)  # int64's smallest number of no entries
    known = is_exif(start[0]) & (found >= 1) & (found <= 8)
    return tf.cast(tf.where(known, found, 1), tf.int32)


def upright(image: tf.Tensor, turned: tf.Tensor) -> tf.Tensor:
    """An image (H, W, C) as its EXIF orientation wants it shown (Exif 2.3, 4.6.4, tag 274).

    Args:
        image: as stored.
        turned: int32 (), 1..8.
    """

    def one_of(*orientations: int) -> tf.Tensor:
        return tf.reduce_any(turned == tf.constant(orientations))

    image = tf.cond(turned >= 5, lambda: tf.transpose(image, (1, 0, 2)), lambda: image)
    image = tf.cond(one_of(3, 4, 7, 8), lambda: image[::-1], lambda: image)
    return tf.cond(one_of(2, 3, 6, 7), lambda: image[:, ::-1], lambda: image)
