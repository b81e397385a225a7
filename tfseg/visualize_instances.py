"""Pictures of objects: boxes, masks, keypoints, and labels that leave them to be seen."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy import ndimage

from tfseg.data.regions import Region

_DARK = (24, 24, 24)
_WHITE = (255, 255, 255)
#: Objects of which there are no more than this all get a label, if it finds a place.
FEW = 12
# An object is large if it has this many times the area of its label.
_LARGE = 4
#: what regions without labels of their own are drawn in (COCO's crowds)
GRAY = (150, 150, 150)

# Sasha Trubetskoy's "20 simple, distinct colors" without those that are lost on a dark or a
# light image, in an order whose neighbours differ most.
_PALETTE = np.array(
    [
        (230, 25, 75), (60, 180, 75), (255, 225, 25), (67, 99, 216), (245, 130, 49),
        (66, 212, 244), (240, 50, 230), (191, 239, 69), (145, 30, 180), (250, 190, 212),
        (70, 153, 144), (220, 190, 255), (154, 99, 36), (170, 255, 195),
    ],
    np.uint8,
)  # fmt: skip

#: the pairs of COCO's 17 keypoints that are joined by a line
COCO_SKELETON = (
    (15, 13), (13, 11), (16, 14), (14, 12), (11, 12), (5, 11), (6, 12), (5, 6), (5, 7), (6, 8),
    (7, 9), (8, 10), (1, 2), (0, 1), (0, 2), (1, 3), (2, 4), (3, 5), (4, 6),
)  # fmt: skip


def instance_colors(boxes: np.ndarray) -> np.ndarray:
    """Colours in which objects that touch or nearly touch differ.

    Object i has a palette's colour i, or the next one that no earlier object near it has.

    Args:
        boxes: (N, 4) x1, y1, x2, y2.

    Returns:
        uint8 (N, 3).
    """
    count = len(_PALETTE)
    chosen = np.zeros(len(boxes), int)
    reach = 0.25 * np.sqrt(np.prod(np.maximum(boxes[:, 2:] - boxes[:, :2], 0), axis=1))
    low, high = boxes[:, :2] - reach[:, None], boxes[:, 2:] + reach[:, None]
    for index in range(len(boxes)):
        near = ((low[:index] <= high[index]) & (low[index] <= high[:index])).all(1)
        taken = np.bincount(chosen[:index][near], minlength=count)
        # the least used one, of several the first from the object's own on
        turned = np.roll(taken, -index)
        chosen[index] = (index + int(turned.argmin())) % count
    return _PALETTE[chosen]


@dataclass(frozen=True)
class _Style:
    """Sizes in pixels that suit a picture."""

    line: int
    text: int

    @classmethod
    def of(cls, height: int, width: int) -> "_Style":
        longest = max(height, width)
        return cls(line=max(1, round(longest / 400)), text=round(10 + longest / 160))


def draw_instances(
    image: np.ndarray,
    boxes: np.ndarray,
    *,
    regions: Sequence[Region] | None = None,
    keypoints: np.ndarray | None = None,
    labels: Sequence[str] | None = None,
    skeleton: Sequence[tuple[int, int]] = (),
    keypoint_threshold: float = 0.0,
    colors: np.ndarray | None = None,
    alpha: float = 0.4,
) -> np.ndarray:
    """Objects drawn on their image.

    Masks are translucent with a line of full colour along their inner border. Objects with
    smaller boxes are drawn over those with larger ones. Labels stand where they hide least.
    Where there are many (`FEW`), small objects have none, and then, if they have a mask, no
    box either.

    Args:
        image: uint8 (H, W, 3) RGB or (H, W, 1) gray.
        boxes: (N, 4) x1, y1, x2, y2 in continuous pixels; labels of the first find a place first.
        regions: the N masks.
        keypoints: (N, K, 3) x, y in continuous pixels, and a visibility or score.
        labels: N texts; "" for none.
        skeleton: pairs of keypoints to be joined by lines.
        keypoint_threshold: keypoints whose third value is not above it are left out.
        colors: uint8 (N, 3); None: `instance_colors`.
        alpha: share of a mask's colour, 0..1.

    Returns:
        uint8 (H, W, 3).
    """
    height, width = image.shape[:2]
    style = _Style.of(height, width)
    colors = instance_colors(boxes) if colors is None else colors
    picture = np.array(np.broadcast_to(image, (height, width, 3)))
    largest_first = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
    if regions is not None:
        _paint_masks(picture, [(regions[i], colors[i]) for i in largest_first], style, alpha)
    canvas = Image.fromarray(picture)
    draw = ImageDraw.Draw(canvas)
    texts = [""] * len(boxes) if labels is None else labels
    places = _label_places(boxes, texts, style, (height, width))
    for index in largest_first:
        color = tuple(colors[index].tolist())
        if regions is None or places[index] is not None:
            _draw_box(draw, boxes[index], color, style)
        if keypoints is not None:
            seen = keypoints[index, :, 2] > keypoint_threshold
            limbs = [pair for pair in skeleton if seen[list(pair)].all()]
            thick = _thickness(boxes[index], style)
            _draw_keypoints(draw, keypoints[index, :, :2], seen, limbs, color, thick)
    for place, text, color in zip(places, texts, colors.tolist(), strict=True):
        if place is not None:
            _draw_label(draw, place, text, tuple(color), style)
    return np.array(canvas)


def _paint_masks(
    picture: np.ndarray, masks: Sequence[tuple[Region, np.ndarray]], style: _Style, alpha: float
) -> None:
    image = picture.copy()
    for region, color in masks:
        part, below = picture[region.place], image[region.place]
        part[region.inside] = (below[region.inside] * (1 - alpha) + color * alpha).astype(np.uint8)
        part[_inner_border(region.inside, style.line)] = color


def _inner_border(inside: np.ndarray, width: int) -> np.ndarray:
    """The pixels inside that are at most ``width`` from one outside."""
    core = ndimage.binary_erosion(inside, np.ones((3, 3)), iterations=width)
    border: np.ndarray = inside & ~core
    return border


def _draw_box(
    draw: ImageDraw.ImageDraw, box: np.ndarray, color: tuple[int, ...], style: _Style
) -> None:
    x1, y1, x2, y2 = np.floor(box).astype(int).tolist()
    last = (max(x1, x2 - 1), max(y1, y2 - 1))
    draw.rectangle((x1, y1, *last), outline=color, width=style.line)


def _thickness(box: np.ndarray, style: _Style) -> int:
    """Of limbs: thinner in objects so small that they would be hidden."""
    longest = float(max(box[2] - box[0], box[3] - box[1]))
    return max(1, min(style.line + 2, round(longest / 40)))


def _draw_keypoints(
    draw: ImageDraw.ImageDraw,
    points: np.ndarray,
    seen: np.ndarray,
    limbs: Sequence[tuple[int, int]],
    color: tuple[int, ...],
    thick: int,
) -> None:
    """Joints in white on limbs in the object's colour, both with dark edges."""
    for width, ink in ((thick + 2, _DARK), (thick, color)):
        for a, b in limbs:
            draw.line([*points[a].tolist(), *points[b].tolist()], fill=ink, width=width)
    for x, y in points[seen].tolist():
        around = (x - thick, y - thick, x + thick, y + thick)
        draw.ellipse(around, fill=_WHITE, outline=_DARK)


def _label_places(
    boxes: np.ndarray, texts: Sequence[str], style: _Style, size: tuple[int, int]
) -> list[tuple[int, int, int, int] | None]:
    """Where labels go, as x1, y1, x2, y2; None where there is none."""
    font = ImageFont.load_default(style.text)
    high = style.text + 4
    places: list[tuple[int, int, int, int] | None] = []
    for box, text in zip(boxes, texts, strict=True):
        wide = round(font.getlength(text)) + 6
        large = (box[2] - box[0]) * (box[3] - box[1]) >= _LARGE * wide * high
        place = None
        if text and (large or len(boxes) <= FEW):
            taken = [p for p in places if p is not None]
            place = _free_place(box, (wide, high), size, boxes, taken)
        places.append(place)
    return places


def _free_place(
    box: np.ndarray,
    label: tuple[int, int],
    size: tuple[int, int],
    boxes: np.ndarray,
    taken: Sequence[tuple[int, int, int, int]],
) -> tuple[int, int, int, int] | None:
    """The place at a box's corners that hides least of other objects, and no other label."""
    wide, high = label
    x1, y1, x2, y2 = np.round(box).astype(int).tolist()
    best, least = None, np.inf
    for y in (y1 - high, y1, y2, y2 - high):
        for x in (x1, x2 - wide):
            x = min(max(x, 0), max(size[1] - wide, 0))
            place = (x, y, x + wide, y + high)
            if y < 0 or y + high > size[0] or any(_common(place, p) > 0 for p in taken):
                continue
            hidden = sum(_hidden(place, other) for other in boxes)
            if hidden < least:
                best, least = place, hidden
    return best


def _hidden(place: tuple[int, int, int, int], box: np.ndarray) -> float:
    """The share of a box that a label hides."""
    x1, y1, x2, y2 = map(float, box)
    return _common(place, (x1, y1, x2, y2)) / max((x2 - x1) * (y2 - y1), 1.0)


def _common(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    wide, high = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return float(max(wide, 0) * max(high, 0))


def _draw_label(
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int, int, int],
    text: str,
    color: tuple[int, ...],
    style: _Style,
) -> None:
    x1, y1, x2, y2 = place
    draw.rectangle((x1, y1, x2 - 1, y2 - 1), fill=color)
    font = ImageFont.load_default(style.text)
    draw.text((x1 + 3, (y1 + y2) / 2), text, fill=_ink(color), font=font, anchor="lm")


def _ink(color: tuple[int, ...]) -> tuple[int, int, int]:
    """Dark or white, whichever has the higher contrast on a colour (WCAG 2.1)."""
    shares = np.asarray(color) / 255
    linear = np.where(shares <= 0.04045, shares / 12.92, ((shares + 0.055) / 1.055) ** 2.4)
    luminance = float(linear @ [0.2126, 0.7152, 0.0722])
    return _DARK if luminance > 0.2 else _WHITE
