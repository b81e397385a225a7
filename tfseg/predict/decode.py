"""Encoded images in a graph: read as `tfseg.data.read_image` reads files."""

import tensorflow as tf

from tfseg.data.io import MAX_PIXELS

#: how a PNG file begins, but for the length of its first chunk, which its sides follow
_PNG, _HEADER = tuple(b"\x89PNG\r\n\x1a\n"), tuple(b"IHDR")
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

    Before any is decoded, the sizes that their headers declare are added up: a file of some
    kilobytes may decode into gigabytes.

    Args:
        files: string (B,), JPEG or PNG; at least one.

    Returns:
        The images, B uint8 (H, W, 3), each to be read once, and their sizes, int32 (B, 2).

    Raises:
        tf.errors.InvalidArgumentError: if there are none, one cannot be decoded, or together,
            each as it is or padded to the largest height and width, they have more than
            `tfseg.data.io.MAX_PIXELS` pixels.
    """
    message = "a request needs one image or more, this one has none"
    with tf.control_dependencies([tf.debugging.assert_positive(tf.size(files), message=message)]):
        files = tf.identity(files)
    spec = tf.TensorSpec((2,), tf.int64)
    sides = tf.map_fn(declared_size, files, fn_output_signature=spec)
    pixels = tf.minimum(tf.reduce_prod(sides, axis=1), MAX_PIXELS + 1)  # their sum stays in 64 bits
    with tf.control_dependencies([_few_enough(tf.reduce_sum(pixels), "have")]):
        files = tf.identity(files)
    count = tf.size(files)
    images = tf.TensorArray(tf.uint8, count, element_shape=(None, None, 3), infer_shape=False)
    sizes = tf.TensorArray(tf.int32, count, element_shape=(2,))

    def add(
        index: tf.Tensor, images: tf.TensorArray, sizes: tf.TensorArray
    ) -> tuple[tf.Tensor, tf.TensorArray, tf.TensorArray]:
        image = decode_one(files[index])
        return index + 1, images.write(index, image), sizes.write(index, tf.shape(image)[:2])

    _, images, sizes = tf.while_loop(lambda index, *_: index < count, add, (0, images, sizes))
    found = sizes.stack()
    # Answers are padded: of a wide and a high image, both of few pixels, they may be huge.
    largest = tf.cast(tf.reduce_max(found, axis=0), tf.int64)
    padded = tf.cast(count, tf.int64) * largest[0] * largest[1]
    with tf.control_dependencies([_few_enough(padded, "padded to one size have")]):
        return images, tf.identity(found)


def _few_enough(pixels: tf.Tensor, have: str) -> tf.Operation:
    message = f"the images of a request {have} more pixels than the limit of {MAX_PIXELS}:"
    return tf.debugging.Assert(pixels <= MAX_PIXELS, [message, pixels])


def declared_size(file: tf.Tensor) -> tf.Tensor:
    """The size that an image file's header declares; nothing is decoded.

    Args:
        file: string (), JPEG or PNG.

    Returns:
        int64 (2,): height and width, before they are turned as EXIF says.

    Raises:
        tf.errors.InvalidArgumentError: for other files, and damaged headers of a JPEG.
    """

    def jpeg() -> tf.Tensor:
        return tf.cast(tf.io.extract_jpeg_shape(file)[:2], tf.int64)

    def png() -> tf.Tensor:
        head = tf.io.decode_raw(tf.strings.substr(file, 0, 24), tf.uint8)
        head = tf.pad(head, [[0, 24 - tf.size(head)]])
        named = tf.concat([head[:8], head[12:16]], axis=0)
        message = "an image of a request is neither a JPEG nor a PNG file; bytes:"
        check = tf.debugging.Assert(
            tf.reduce_all(named == tf.constant(_PNG + _HEADER, tf.uint8)),
            [message, tf.strings.length(file)],
        )
        with tf.control_dependencies([check]):
            digits = tf.cast(tf.reshape(head[16:], (2, 4)), tf.int64)
        return tf.reverse(tf.reduce_sum(digits * [256**3, 256**2, 256, 1], axis=1), [0])

    return tf.cond(tf.io.is_jpeg(file), jpeg, png)


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
        powers = [256**n for n in range(size)]
        # Written out: TensorFlow's layout optimizer takes a constant that is turned for a shape,
        # and gives up the whole graph.
        weights = tf.where(
            little, tf.constant(powers, tf.int64), tf.constant(powers[::-1], tf.int64)
        )
        return tf.reduce_sum(digits * weights, axis=-1)

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
