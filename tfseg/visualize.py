"""Pictures of labels: the VOC palette, overlays, legends and contact sheets."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_MARGIN = 8
_TEXT = 14
_INK = (32, 32, 32)
_PAPER = (255, 255, 255)


def palette(count: int = 256) -> np.ndarray:
    """The PASCAL VOC palette: the class id's bits, dealt in turn to red, green and blue.

    From the highest bit down, as VOCdevkit's VOClabelcolormap.m: 0 is black, 1 (128, 0, 0),
    2 (0, 128, 0), 15 (192, 128, 128), 255 (224, 224, 192).

    Args:
        count: colours wanted, at most 256.

    Returns:
        uint8 (count, 3) RGB.

    Raises:
        ValueError: for a count outside 1..256; beyond, colours would repeat.
    """
    if not 1 <= count <= 256:
        raise ValueError(f"the palette has 1 to 256 colours, not {count}")
    ids = np.arange(count)
    colors = np.zeros((count, 3), np.uint8)
    for digit in range(3):  # ids of 8 bits have three groups of three
        for channel in range(3):
            bit = (ids >> (3 * digit + channel)) & 1
            colors[:, channel] |= (bit << (7 - digit)).astype(np.uint8)
    return colors


def colorize(labels: np.ndarray, colors: np.ndarray, ignore_label: int = 255) -> np.ndarray:
    """Labels as a picture.

    Args:
        labels: integer (H, W).
        colors: uint8 (num_classes, 3).
        ignore_label: drawn white.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: if a label has no colour.
    """
    ignored = labels == ignore_label
    known = ignored | ((labels >= 0) & (labels < len(colors)))
    if not known.all():
        raise ValueError(
            f"label {labels[~known][0]} has no colour: there are {len(colors)}, "
            f"and {ignore_label} is ignored"
        )
    picture = np.asarray(colors, np.uint8)[np.where(ignored, 0, labels)]
    picture[ignored] = _PAPER
    return picture


def overlay(
    image: np.ndarray,
    labels: np.ndarray,
    colors: np.ndarray,
    alpha: float = 0.5,
    ignore_label: int = 255,
) -> np.ndarray:
    """Labels laid over their image, with a line of full colour along their borders.

    Args:
        image: uint8 (H, W, 3) RGB or (H, W, 1) gray.
        labels: integer (H, W).
        colors: uint8 (num_classes, 3).
        alpha: share of the label's colour, 0..1.
        ignore_label: where the image shows unchanged.

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: if the sizes differ or a label has no colour.
    """
    if image.shape[:2] != labels.shape:
        raise ValueError(f"labels {labels.shape} do not fit the image {image.shape[:2]}")
    picture = _rgb(image).astype(np.float32)
    color = colorize(labels, colors, ignore_label).astype(np.float32)
    share = np.where(labels == ignore_label, 0, np.where(_borders(labels), 1, alpha))[..., None]
    return (picture + (color - picture) * share + 0.5).astype(np.uint8)


def _borders(labels: np.ndarray) -> np.ndarray:
    """Where the right or lower neighbour has another label."""
    found = np.zeros(labels.shape, bool)
    found[:, :-1] |= labels[:, :-1] != labels[:, 1:]
    found[:-1] |= labels[:-1] != labels[1:]
    return found


def legend(classes: Sequence[str], colors: np.ndarray, width: int = 640) -> np.ndarray:
    """The class names beside their colours, in as many lines as they need.

    Args:
        classes: names by class id.
        colors: uint8 (num_classes, 3).
        width: of the picture, in pixels.

    Returns:
        uint8 (height, width, 3).
    """
    font = ImageFont.load_default(_TEXT)
    line = _TEXT + _MARGIN
    places, x, y = [], _MARGIN, _MARGIN
    for name in classes:
        wide = _TEXT + 4 + int(font.getlength(name)) + 2 * _MARGIN
        if x + wide > width and x > _MARGIN:
            x, y = _MARGIN, y + line
        places.append((x, y))
        x += wide
    picture = Image.new("RGB", (width, y + line), _PAPER)
    draw = ImageDraw.Draw(picture)
    for name, color, (x, y) in zip(classes, colors, places, strict=True):
        box = (x, y, x + _TEXT - 1, y + _TEXT - 1)
        draw.rectangle(box, fill=tuple(int(c) for c in color), outline=_INK)
        draw.text((x + _TEXT + 4, y + _TEXT / 2), name, fill=_INK, font=font, anchor="lm")
    return np.array(picture)


def contact_sheet(
    rows: Sequence[Sequence[np.ndarray]],
    captions: Sequence[str],
    *,
    classes: Sequence[str] = (),
    colors: np.ndarray | None = None,
    cell_width: int = 320,
) -> np.ndarray:
    """Pictures in rows under one caption a column, with a legend below.

    Args:
        rows: of each row its pictures, uint8 (H, W, 3) or (H, W, 1), as image, ground truth and
            prediction (`colorize`, `overlay`).
        captions: one a column.
        classes: names for the legend; empty: no legend.
        colors: uint8 (num_classes, 3), the legend's.
        cell_width: what pictures are resized to, in pixels; their shape is kept.

    Returns:
        uint8 (height, width, 3).

    Raises:
        ValueError: if there are no rows, a row has not one picture a caption, or classes and
            colours differ in number.
    """
    if not rows or any(len(row) != len(captions) for row in rows):
        counts = [len(row) for row in rows]
        raise ValueError(f"{len(captions)} captions need rows of as many pictures, not {counts}")
    if len(classes) != (0 if colors is None else len(colors)):
        raise ValueError(f"a legend needs one colour a class; there are {len(classes)} classes")
    cells = [[_fit(picture, cell_width) for picture in row] for row in rows]
    heights = [max(cell.height for cell in row) for row in cells]
    width = _MARGIN + (cell_width + _MARGIN) * len(captions)
    head = _TEXT + 2 * _MARGIN
    sheet = Image.new("RGB", (width, head + sum(h + _MARGIN for h in heights)), _PAPER)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(_TEXT)
    for column, caption in enumerate(captions):
        x = _MARGIN + (cell_width + _MARGIN) * column
        draw.text((x, head / 2), caption, fill=_INK, font=font, anchor="lm")
        y = head
        for row, height in zip(cells, heights, strict=True):
            sheet.paste(row[column], (x, y))
            y += height + _MARGIN
    if colors is None:
        return np.array(sheet)
    return np.concatenate([np.asarray(sheet), legend(classes, colors, width)])


def _fit(picture: np.ndarray, width: int) -> Image.Image:
    image = Image.fromarray(_rgb(picture))
    height = max(1, round(image.height * width / image.width))
    # Enlarged labels stay sharp; shrunken pictures are averaged.
    how = Image.Resampling.NEAREST if width > image.width else Image.Resampling.LANCZOS
    return image.resize((width, height), how)


def _rgb(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.broadcast_to(image, (*image.shape[:2], 3)))
