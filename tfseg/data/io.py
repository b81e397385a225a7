"""Image and mask files: read into arrays with one set of rules, checked before they are decoded."""

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from tfseg.data.sample import DataError

# Pillow itself refuses images above this (twice its MAX_IMAGE_PIXELS).
MAX_PIXELS = 178_956_970

# Not all that Pillow opens: its EPS plugin, for one, runs Ghostscript on the file.
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")


def read_image(path: str | Path, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Reads an image file: PNG, JPEG, TIFF, BMP, PPM, WebP or GIF.

    The EXIF orientation is applied, alpha is dropped, palettes become their colours. Of 16 bits
    the high byte is kept (value // 256), as tf.io.decode_png does.

    Args:
        path: the file.
        max_pixels: the largest height * width that is decoded.

    Returns:
        uint8 (H, W, 3) RGB, or (H, W, 1) where the file is gray.

    Raises:
        DataError: missing, empty, damaged, truncated or huge file; more than one page or frame;
            gray values of more than 16 bits.
    """
    with _opened(_checked(path), str(path), max_pixels) as image:
        _one_frame(image, str(path))
        return _to_uint8(_load(image), str(path))


def decode_image(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes an image file's content; see `read_image`.

    Args:
        data: the encoded image.
        name: what error messages call it.
        max_pixels: the largest height * width that is decoded.

    Returns:
        uint8 (H, W, 3) RGB, or (H, W, 1) where the image is gray.

    Raises:
        DataError: as `read_image`.
    """
    if not data:
        raise DataError(f"{name} is empty (0 bytes)")
    with _opened(io.BytesIO(data), name, max_pixels) as image:
        _one_frame(image, name)
        return _to_uint8(_load(image), name)


def read_stack(path: str | Path, max_pixels: int = MAX_PIXELS) -> list[np.ndarray]:
    """Reads all pages of a TIFF file.

    Args:
        path: the file.
        max_pixels: the largest sum of height * width over the pages that is decoded.

    Returns:
        The pages in order, each as `read_image` gives an image.

    Raises:
        DataError: as `read_image`, and for a file that is no TIFF.
    """
    name = str(path)
    pages: list[np.ndarray] = []
    with _opened(_checked(path), name, max_pixels, formats=("TIFF",)) as image:
        total = 0
        for index in range(image.n_frames):  # type: ignore[attr-defined]
            image.seek(index)
            total += image.width * image.height
            if total > max_pixels:
                raise DataError(
                    f"{name}: its first {index + 1} pages have {total:,} pixels, "
                    f"the limit is {max_pixels:,}"
                )
            pages.append(_to_uint8(_load(image), name))
    return pages


def read_mask(
    path: str | Path,
    color_table: Mapping[tuple[int, int, int], int] | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Reads a label mask.

    Without a colour table the stored values are the class ids: 8- and 16-bit gray, and palette
    images, of which the index counts and the palette does not. With one, the file is
    colour-coded: every pixel's colour (a palette's too) is looked up, alpha is dropped.

    Args:
        path: a lossless image file.
        color_table: class id by (red, green, blue), each 0..255.
        max_pixels: the largest height * width that is decoded.

    Returns:
        int32 (H, W) class ids.

    Raises:
        DataError: as `read_image`; a JPEG file; a colour file without a colour table; a colour
            that is not in the table; gray values of 2 or 4 bits.
    """
    name = str(path)
    with _opened(_checked(path), name, max_pixels) as image:
        return _labels(image, color_table, name)


def decode_mask(data: bytes, name: str, max_pixels: int = MAX_PIXELS) -> np.ndarray:
    """Decodes a label mask without a colour table; see `read_mask`.

    Args:
        data: the content of a lossless image file.
        name: what error messages call it.
        max_pixels: the largest height * width that is decoded.

    Returns:
        int32 (H, W) class ids.

    Raises:
        DataError: as `read_mask`.
    """
    with _opened(io.BytesIO(data), name, max_pixels) as image:
        return _labels(image, None, name)


def write_label_png(
    path: str | Path | BinaryIO, labels: np.ndarray, colors: np.ndarray | None = None
) -> None:
    """Writes class ids as a PNG that `read_mask` reads back.

    Args:
        path: the file, or one that is open.
        labels: integer (H, W), 0..65535. Above 255 the file has 16 bits and no colours.
        colors: uint8 (K, 3), the palette of an 8-bit file; ids from K on are black.

    Raises:
        ValueError: labels of another shape, type or range, or more than 256 colours.
    """
    labels = np.asarray(labels)
    if labels.ndim != 2 or labels.dtype.kind not in "iu":
        raise ValueError(f"labels must be integers (H, W), not {labels.dtype} {labels.shape}")
    low, high = (int(labels.min()), int(labels.max())) if labels.size else (0, 0)
    if low < 0 or high > 65535:
        raise ValueError(f"{path}: labels must be in 0..65535, these are in {low}..{high}")
    if colors is not None and len(colors) > 256:
        raise ValueError(f"{path}: a palette has at most 256 colours, not {len(colors)}")
    image = Image.fromarray(labels.astype(np.uint16 if high > 255 else np.uint8))
    if colors is not None and high <= 255:
        palette = np.zeros((256, 3), np.uint8)
        palette[: len(colors)] = colors
        image.putpalette(palette.tobytes())
    image.save(path, format="PNG")


def _checked(path: str | Path) -> Path:
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path} " + ("is a folder" if path.is_dir() else "does not exist"))
    if path.stat().st_size == 0:
        raise DataError(f"{path} is empty (0 bytes)")
    return path


@contextmanager
def _opened(
    source: Path | io.BytesIO, name: str, max_pixels: int, formats: tuple[str, ...] = FORMATS
) -> Iterator[Image.Image]:
    """An image whose header alone is read; what its decoding raises becomes a DataError."""
    try:
        with Image.open(source, formats=formats) as image:
            if image.width * image.height > max_pixels:
                raise DataError(
                    f"{name} is {image.width} x {image.height} = {image.width * image.height:,} "
                    f"pixels, the limit is {max_pixels:,}"
                )
            yield image
    except DataError:
        raise
    except Image.DecompressionBombError as e:
        raise DataError(f"{name} is too large to be decoded: {e}") from e
    except UnidentifiedImageError:
        raise DataError(f"{name} is damaged or none of the formats {', '.join(formats)}") from None
    # Pillow's plugins raise errors of many types on damaged files, and document none.
    except Exception as e:
        raise DataError(f"{name} cannot be decoded, it is damaged or truncated: {e}") from e


def _labels(
    image: Image.Image, color_table: Mapping[tuple[int, int, int], int] | None, name: str
) -> np.ndarray:
    _one_frame(image, name)
    if image.format in ("JPEG", "MPO"):
        raise DataError(f"{name}: a mask cannot be a JPEG file, which blurs labels; use PNG")
    if color_table is not None:
        if image.mode.startswith(("I", "F")):
            raise DataError(f"{name} has no colours (mode {image.mode}) to look up in a table")
        return _colors_to_labels(np.array(_rgb(_load(image))), color_table, name)
    if image.mode not in ("1", "L", "LA", "P", "PA", "I") and image.mode[:4] != "I;16":
        raise DataError(
            f"{name} is a colour mask (mode {image.mode}): give a colour table, or store "
            "class ids as an 8- or 16-bit gray or a palette PNG"
        )
    # Pillow stretches these to 0..255, which turns id 1 into 85 or 17.
    if image.mode == "L" and any(raw in ("L;2", "L;4") for raw in _raw_modes(image)):
        raise DataError(f"{name} is a 2- or 4-bit gray mask; store class ids with 8 or 16 bits")
    image = _load(image)
    if image.mode in ("LA", "PA"):
        image = image.getchannel(0)
    return np.array(image).astype(np.int32)


def _one_frame(image: Image.Image, name: str) -> None:
    # MPO is a camera's JPEG with previews behind the picture.
    frames = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
    if frames > 1:
        raise DataError(f"{name} holds {frames} pages or frames, expected one image")


def _load(image: Image.Image) -> Image.Image:
    image.load()
    return ImageOps.exif_transpose(image)


def _rgb(image: Image.Image) -> Image.Image:
    # A palette with alpha warns unless it goes by way of RGBA.
    return image.convert("RGBA").convert("RGB") if image.mode == "P" else image.convert("RGB")


def _to_uint8(image: Image.Image, name: str) -> np.ndarray:
    if image.mode in ("1", "L", "LA"):
        return np.array(image.convert("L"))[..., None]
    if image.mode == "I" or image.mode.startswith("I;16"):
        values = np.asarray(image)
        if values.size and (values.min() < 0 or values.max() > 65535):
            raise DataError(f"{name} has gray values outside 0..65535; store 8 or 16 bits")
        return (values >> 8).astype(np.uint8)[..., None]
    if image.mode == "F":
        raise DataError(f"{name} has floating-point values; store 8 or 16 bits")
    return np.array(_rgb(image))


def _raw_modes(image: Image.Image) -> list[str]:
    """How the file stores pixels, of each tile: Pillow's "L;4" is 4-bit gray."""
    arguments = [tile[3] for tile in image.tile]  # type: ignore[attr-defined]
    return [a if isinstance(a, str) else str(a[0]) for a in arguments if a]


def _colors_to_labels(
    rgb: np.ndarray, color_table: Mapping[tuple[int, int, int], int], name: str
) -> np.ndarray:
    table = sorted((r << 16 | g << 8 | b, label) for (r, g, b), label in color_table.items())
    known = np.array([code for code, _ in table], np.int32)
    labels = np.array([label for _, label in table], np.int32)
    codes = rgb.astype(np.int32) @ np.array([1 << 16, 1 << 8, 1], np.int32)
    place = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    unknown = known[place] != codes
    if unknown.any():
        row, column = np.unravel_index(np.argmax(unknown), unknown.shape)
        color = tuple(int(c) for c in rgb[row, column])
        raise DataError(
            f"{name}: colour {color} at row {row}, column {column} is not in the colour table "
            f"({np.count_nonzero(unknown)} pixels have unknown colours)"
        )
    return labels[place]
