"""Image files of many kinds, made in memory."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def picture(height, width, mode="RGB", seed=0):
    """A smooth picture, as JPEG likes them."""
    rng = np.random.default_rng(seed)
    small = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    large = small.resize((width, height), Image.Resampling.BILINEAR)
    if mode == "I;16":
        values = np.asarray(large.convert("L")).astype(np.uint16) * 256 + 77
        return Image.fromarray(values)
    if mode == "RGBA":
        large.putalpha(large.convert("L"))
        return large
    return large.convert(mode)


def encoded(image, kind="PNG", **options):
    """A picture as a file's content."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def turned_jpeg(image, orientation):
    """A JPEG file whose EXIF orientation says that it is to be turned."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    return encoded(image, "JPEG", exif=exif)


def png_of_zeros(height, width, rows=None):
    """Black, gray; of fewer rows than are declared it is no whole file."""

    def chunk(kind, data):
        named = kind + data
        return struct.pack(">I", len(data)) + named + struct.pack(">I", zlib.crc32(named))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    data = zlib.compress(bytes((height if rows is None else rows) * (width + 1)))
    parts = ((b"IHDR", header), (b"IDAT", data), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def jpeg_that_declares(height, width):
    """A small JPEG file whose header tells another size."""
    data = encoded(picture(14, 21), "JPEG")
    start = data.index(b"\xff\xc0")  # the start of the frame: length, depth, height, width
    return data[: start + 5] + struct.pack(">HH", height, width) + data[start + 9 :]
