"""Image and mask files: what is read, and what the errors say."""

import re
import struct
import subprocess
import sys
import zlib

import numpy as np
import pytest
from PIL import Image

from tfseg.data.io import decode_image, read_image, read_mask, read_stack, write_label_png
from tfseg.data.sample import DataError


def png(width, height, depth, color_type, rows):
    """A PNG file from its header fields and raw rows (each with its filter byte)."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, 0)
    content = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + content


@pytest.fixture
def rgb():
    return np.random.default_rng(0).integers(0, 256, (5, 7, 3)).astype(np.uint8)


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp", "ppm"])
def test_rgb_as_stored(tmp_path, rgb, suffix):
    image = read_image(save(tmp_path / f"a.{suffix}", rgb))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, rgb)


def test_gray_has_one_channel(tmp_path, rgb):
    image = read_image(save(tmp_path / "a.png", rgb[..., 0]))
    np.testing.assert_array_equal(image, rgb[..., :1])


def test_alpha_is_dropped_not_blended(tmp_path, rgb):
    alpha = np.full((5, 7, 1), 3, np.uint8)
    np.testing.assert_array_equal(
        read_image(save(tmp_path / "a.png", np.concatenate([rgb, alpha], -1))), rgb
    )
    gray_alpha = np.concatenate([rgb[..., :1], alpha], -1)
    np.testing.assert_array_equal(read_image(save(tmp_path / "b.png", gray_alpha)), rgb[..., :1])


def test_palette_image_becomes_its_colours(tmp_path):
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), expected)


def test_one_bit_image_is_black_and_white(tmp_path):
    save(tmp_path / "a.png", np.array([[True, False]]))
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[[255], [0]]])


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bits_keep_the_high_byte(tmp_path, suffix):
    values = np.array([[0, 255, 256, 4095, 65279, 65535]], np.uint16)
    image = read_image(save(tmp_path / f"a.{suffix}", values))
    np.testing.assert_array_equal(image[..., 0], [[0, 0, 1, 15, 254, 255]])


def test_16_bit_colour_keeps_the_high_byte():
    row = struct.pack(">6H", 0x1234, 0xFF00, 0x00FF, 0xFFFF, 0x0100, 0x80FF)
    image = decode_image(png(2, 1, 16, 2, b"\0" + row), "a")
    np.testing.assert_array_equal(image, [[[0x12, 0xFF, 0x00], [0xFF, 0x01, 0x80]]])


def test_values_beyond_16_bits(tmp_path):
    save(tmp_path / "a.tif", np.array([[70000]], np.int32))
    with pytest.raises(DataError, match=r"a\.tif has gray values outside 0\.\.65535"):
        read_image(tmp_path / "a.tif")
    save(tmp_path / "b.tif", np.array([[0.5]], np.float32))
    with pytest.raises(DataError, match=r"b\.tif has floating-point values"):
        read_image(tmp_path / "b.tif")


# EXIF's table: what is to be done to the stored picture.
@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, lambda a: a[:, ::-1]),
        (3, lambda a: a[::-1, ::-1]),
        (4, lambda a: a[::-1]),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: a[::-1, ::-1].transpose(1, 0, 2)),
        (8, lambda a: np.rot90(a)),
    ],
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_exif_orientation(tmp_path, rgb, orientation, upright, suffix):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = save(tmp_path / f"a.{suffix}", rgb, exif=exif)
    np.testing.assert_array_equal(read_image(path), upright(rgb))


def test_decode_image_equals_read_image(tmp_path, rgb):
    path = save(tmp_path / "a.jpg", rgb, quality=90)
    np.testing.assert_array_equal(decode_image(path.read_bytes(), "a"), read_image(path))
    with pytest.raises(DataError, match="upload 7 is empty"):
        decode_image(b"", "upload 7")


@pytest.mark.parametrize("read", [read_image, read_mask, read_stack])
class TestUnreadable:
    def test_missing(self, tmp_path, read):
        with pytest.raises(DataError, match=r"a\.tif does not exist"):
            read(tmp_path / "a.tif")

    def test_folder(self, tmp_path, read):
        with pytest.raises(DataError, match="is a folder"):
            read(tmp_path)

    def test_empty(self, tmp_path, read):
        (tmp_path / "a.tif").touch()
        with pytest.raises(DataError, match=r"a\.tif is empty \(0 bytes\)"):
            read(tmp_path / "a.tif")

    def test_no_image(self, tmp_path, read):
        (tmp_path / "a.tif").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
        with pytest.raises(DataError, match=r"a\.tif is damaged or none of the formats"):
            read(tmp_path / "a.tif")

    @pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
    def test_truncated(self, tmp_path, read, compression):
        gray = np.random.default_rng(0).integers(0, 256, (64, 64)).astype(np.uint8)
        path = save(tmp_path / "a.tif", gray, compression=compression)
        # Pillow writes a TIFF's pixels before its directory or behind: cut where they are.
        data = path.read_bytes()
        path.write_bytes(data[: len(data) // 2])
        with pytest.raises(DataError, match=r"a\.tif"):
            read(path)

    def test_too_many_pixels(self, tmp_path, read):
        path = save(tmp_path / "a.tif", np.zeros((20, 30), np.uint8))
        read(path, max_pixels=600)
        with pytest.raises(DataError, match=r"a\.tif is 30 x 20 = 600 pixels, the limit is 599"):
            read(path, max_pixels=599)


@pytest.mark.parametrize("suffix", ["png", "jpg", "bmp", "webp"])
def test_truncated_image(tmp_path, suffix):
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    path = save(tmp_path / f"a.{suffix}", pixels)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(DataError, match=rf"a\.{suffix} cannot be decoded|a\.{suffix} is damaged"):
        read_image(path)


def test_huge_image_is_refused_from_its_header():
    # 50,000 x 40,000 in a few bytes: decoding it would fail otherwise, or take 6 GB.
    with pytest.raises(DataError, match="huge is too large to be decoded"):
        decode_image(png(50_000, 40_000, 8, 2, b""), "huge")


def test_several_frames(tmp_path, rgb):
    pages = [Image.fromarray(rgb), Image.fromarray(rgb)]
    pages[0].save(tmp_path / "a.tif", save_all=True, append_images=pages[1:])
    for read in (read_image, read_mask):
        with pytest.raises(DataError, match=r"a\.tif holds 2 pages or frames"):
            read(tmp_path / "a.tif")


def test_stack(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (3, 6, 5)).astype(np.uint8)
    pages = [Image.fromarray(v) for v in values]
    path = tmp_path / "a.tif"
    pages[0].save(path, save_all=True, append_images=pages[1:], compression="tiff_lzw")
    stack = read_stack(path)
    assert [page.dtype for page in stack] == [np.uint8] * 3
    np.testing.assert_array_equal(np.stack(stack), values[..., None])
    with pytest.raises(DataError, match=r"its first 3 pages have 90 pixels, the limit is 89"):
        read_stack(path, max_pixels=89)


def test_stack_of_another_format(tmp_path, rgb):
    with pytest.raises(DataError, match="none of the formats TIFF"):
        read_stack(save(tmp_path / "a.png", rgb))


def test_mask_of_8_and_16_bits(tmp_path):
    small = np.array([[0, 1, 20], [255, 3, 7]], np.uint8)
    mask = read_mask(save(tmp_path / "a.png", small))
    assert mask.dtype == np.int32
    np.testing.assert_array_equal(mask, small)
    large = np.array([[0, 256, 65535]], np.uint16)
    for suffix in ("png", "tif"):
        np.testing.assert_array_equal(read_mask(save(tmp_path / f"b.{suffix}", large)), large)


def test_mask_of_one_bit(tmp_path):
    np.testing.assert_array_equal(read_mask(save(tmp_path / "a.png", np.eye(3) > 0)), np.eye(3))


def test_mask_of_a_few_bits(tmp_path):
    # Pillow would give 17 and 34 for the stored 1 and 2.
    (tmp_path / "a.png").write_bytes(png(4, 1, 4, 0, b"\0\x01\x2f"))
    with pytest.raises(DataError, match=r"a\.png is a 2- or 4-bit gray mask"):
        read_mask(tmp_path / "a.png")


def test_palette_mask_is_read_as_index(tmp_path):
    # A palette whose colours are those of other indices.
    image = Image.fromarray(np.array([[0, 1, 2], [2, 3, 0]], np.uint8))
    image.putpalette([3, 3, 3, 2, 2, 2, 1, 1, 1, 0, 0, 0])
    image.save(tmp_path / "a.png", bits=2)
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png"), [[0, 1, 2], [2, 3, 0]])


def test_voc_mask(shared):
    mask = read_mask(shared("data/voc_palette") / "SegmentationClass/2011_000003.png")
    assert mask.shape == (338, 500)
    assert set(np.unique(mask)) == {0, 5, 15, 255}  # background, bottle, person, void


def test_jpeg_mask(tmp_path):
    path = save(tmp_path / "a.jpg", np.zeros((8, 8), np.uint8))
    with pytest.raises(DataError, match=r"a\.jpg: a mask cannot be a JPEG file"):
        read_mask(path)


TABLE = {(0, 0, 0): 0, (128, 0, 0): 1, (0, 0, 255): 255}


@pytest.mark.parametrize("channels", [3, 4])
def test_colour_coded_mask(tmp_path, channels):
    colors = np.array(
        [[[0, 0, 0, 9], [128, 0, 0, 0]], [[0, 0, 255, 255], [128, 0, 0, 1]]], np.uint8
    )
    path = save(tmp_path / "a.png", colors[..., :channels])
    np.testing.assert_array_equal(read_mask(path, TABLE), [[0, 1], [255, 1]])
    with pytest.raises(DataError, match=r"a\.png is a colour mask .*give a colour table"):
        read_mask(path)


def test_palette_mask_with_a_table_is_read_as_colour(tmp_path):
    image = Image.fromarray(np.array([[0, 1]], np.uint8))
    image.putpalette([128, 0, 0, 0, 0, 0])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "a.png", TABLE), [[1, 0]])


def test_unknown_colour(tmp_path):
    colors = np.zeros((4, 5, 3), np.uint8)
    colors[2, 3] = colors[3, 0] = (128, 0, 1)
    path = save(tmp_path / "a.png", colors)
    expected = "a.png: colour (128, 0, 1) at row 2, column 3 is not in the colour table (2 pixels"
    with pytest.raises(DataError, match=re.escape(expected)):
        read_mask(path, TABLE)


def test_16_bit_mask_with_a_table(tmp_path):
    path = save(tmp_path / "a.png", np.zeros((2, 2), np.uint16))
    with pytest.raises(DataError, match=r"a\.png has no colours"):
        read_mask(path, TABLE)


def test_written_labels_are_read_back(tmp_path):
    labels = np.array([[0, 1, 2], [255, 2, 1]])
    colors = np.array([[0, 0, 0], [9, 8, 7], [1, 2, 3]], np.uint8)
    write_label_png(tmp_path / "gray.png", labels)
    write_label_png(tmp_path / "palette.png", labels, colors)
    write_label_png(tmp_path / "deep.png", labels * 257, colors)
    np.testing.assert_array_equal(read_mask(tmp_path / "gray.png"), labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "palette.png"), labels)
    np.testing.assert_array_equal(read_mask(tmp_path / "deep.png"), labels * 257)
    np.testing.assert_array_equal(
        read_image(tmp_path / "palette.png")[0], [[0, 0, 0], [9, 8, 7], [1, 2, 3]]
    )


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (np.array([[-1, 0]]), r"in 0\.\.65535, these are in -1\.\.0"),
        (np.array([[65536]]), r"these are in 65536\.\.65536"),
        (np.zeros((2, 2)), "must be integers"),
        (np.zeros((2, 2, 1), int), r"must be integers \(H, W\)"),
    ],
)
def test_labels_that_cannot_be_written(tmp_path, labels, message):
    with pytest.raises(ValueError, match=message):
        write_label_png(tmp_path / "a.png", labels)
    assert not (tmp_path / "a.png").exists()


def test_importing_data_imports_no_tensorflow():
    code = "import sys, tfseg.data; sys.exit('tensorflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
