"""Procedural pictures of overlapping shapes with all their labels: nothing to download.

Four classes of shape, each with a geometry and a texture of its own. Hues depend on the class
but overlap, so colour alone tells little; the background is textured too.
"""

import colorsys
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

# The keypoints of every shape, in its own frame; a horizontal flip exchanges right and left.
KEYPOINTS = ("top", "right", "bottom", "left")

MIN_EDGE = 32

# A shape that would leave less than this share of another one visible is not drawn.
MIN_VISIBLE = 0.3

_TIPS = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))
_TRIANGLE_BASE = 0.8
_CROSS_ARM = 0.36


# Signed distances to the outline, negative inside, of shapes of radius 1 about the origin; v down.


def _circle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.hypot(u, v) - 1


def _diamond(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return (np.abs(u) + np.abs(v) - 1) * np.sqrt(0.5)


def _triangle(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Apex (0, -1) and base from (-1, 0.8) to (1, 0.8)."""
    height = 1 + _TRIANGLE_BASE
    side = (height * np.abs(u) - (v + 1)) / np.hypot(height, 1)
    return np.maximum(side, v - _TRIANGLE_BASE)


def _cross(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    u, v = np.abs(u), np.abs(v)
    return np.maximum(np.maximum(u, v) - 1, np.minimum(u, v) - _CROSS_ARM)


# Textures in -1..1; u and v in radians of the texture's wave.


def _rings(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sin(np.hypot(u, v))


def _stripes(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sin(u)


def _checks(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.sign(np.sin(u) * np.sin(v))


def _plain(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    return np.zeros_like(u)


class Shape(NamedTuple):
    """One class: its outline, texture, keypoints (x, y) in units of the radius, and mean hue."""

    name: str
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
    texture: Callable[[np.ndarray, np.ndarray], np.ndarray]
    keypoints: tuple[tuple[float, float], ...]
    hue: float


_TRIANGLE_TIPS = ((0.0, -1.0), (1.0, _TRIANGLE_BASE), (0.0, _TRIANGLE_BASE), (-1.0, _TRIANGLE_BASE))

# Class ids are 1 + the place here; 0 is the background.
SHAPES = (
    Shape("circle", _circle, _rings, _TIPS, 0.05),
    Shape("diamond", _diamond, _stripes, _TIPS, 0.3),
    Shape("triangle", _triangle, _checks, _TRIANGLE_TIPS, 0.55),
    Shape("cross", _cross, _plain, _TIPS, 0.8),
)


def draw(rng: np.random.Generator, height: int, width: int) -> dict[str, np.ndarray]:
    """Draws one picture.

    Shapes overlap; what is drawn later hides what is below. Centres are inside the picture,
    parts may reach out of it.

    Args:
        rng: where all choices come from.
        height: of the picture, in pixels, at least MIN_EDGE.
        width: likewise.

    Returns:
        ``image`` uint8 (H, W, 3), ``mask`` int32 (H, W) class ids, ``instances`` int32 (H, W),
        1..N where row n - 1 of the others describes instance n: ``labels`` int32 (N,),
        ``boxes`` float32 (N, 4) xyxy, tight about the *visible* pixels, ``keypoints`` float32
        (N, 4, 3) as KEYPOINTS: the centre of the shape's pixel next to the ideal point, with 2
        where that pixel is visible, 1 where another shape hides it, and all 0 where the point
        is out of the picture.
    """
    image = _background(rng, height, width)
    instances = np.zeros((height, width), np.int32)
    labels: list[int] = []
    areas: list[int] = []
    points: list[np.ndarray] = []
    for _ in range(rng.integers(2, 7)):
        label = int(rng.integers(len(SHAPES))) + 1
        window, distance, paint, pixels = _shape(rng, SHAPES[label - 1], height, width)
        inside = distance < 0
        count = len(labels) + 1
        hidden = np.bincount(instances[window][inside], minlength=count)
        visible = np.bincount(instances.ravel(), minlength=count) - hidden
        if np.any(visible[1:] < MIN_VISIBLE * np.array(areas)):
            continue
        labels.append(label)
        areas.append(int(inside.sum()))
        points.append(pixels)
        instances[window][inside] = len(labels)
        alpha = np.clip(0.5 - distance, 0, 1)[..., None]  # a one-pixel ramp, as a lens makes it
        image[window] += alpha * (paint - image[window])
    image += rng.normal(0, 5, image.shape)
    return {
        "image": np.clip(image, 0, 255).astype(np.uint8),
        "mask": np.array([0, *labels], np.int32)[instances],
        "instances": instances,
        "labels": np.array(labels, np.int32),
        "boxes": _boxes(instances, len(labels)),
        "keypoints": _visibility(np.stack(points), instances),
    }


def _background(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Coloured smooth noise of three scales, float (H, W, 3)."""
    image = np.full((height, width, 3), rng.uniform(60, 190, 3))
    for cells, amplitude in ((3, 45), (9, 25), (24, 18)):
        grid = rng.normal(0, 1, (cells, cells, 3)) * amplitude * rng.uniform(0.4, 1)
        rows, columns = _interpolation(height, cells), _interpolation(width, cells)
        image += np.einsum("hi,ijc,wj->hwc", rows, grid, columns, optimize=True)
    return image


def _interpolation(size: int, cells: int) -> np.ndarray:
    """The matrix (size, cells) of linear interpolation between cells that span the size."""
    place = np.linspace(0, cells - 1, size)
    return np.maximum(0, 1 - np.abs(place[:, None] - np.arange(cells)))


def _shape(
    rng: np.random.Generator, shape: Shape, height: int, width: int
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray, np.ndarray]:
    """One shape at a random place: its window, and in it signed distances in pixels and colours.

    The last is its keypoints, int (4, 2) row and column in the picture, -1 where out of it.
    """
    radius = rng.uniform(0.12, 0.28) * min(height, width)
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    angle = 0.0 if shape.distance is _circle else rng.uniform(-0.45, 0.45)
    reach = radius * 1.3 + 1  # the triangle's base corners are the farthest points
    top, bottom = max(0, int(y - reach)), min(height, int(y + reach) + 1)
    start, stop = max(0, int(x - reach)), min(width, int(x + reach) + 1)
    dx = np.arange(start, stop)[None] + 0.5 - x
    dy = np.arange(top, bottom)[:, None] + 0.5 - y
    cos, sin = np.cos(angle), np.sin(angle)
    u, v = cos * dx + sin * dy, cos * dy - sin * dx
    distance = shape.distance(u / radius, v / radius) * radius

    hue = (shape.hue + rng.normal(0, 0.15)) % 1
    color = np.array(colorsys.hsv_to_rgb(hue, rng.uniform(0.3, 0.9), rng.uniform(0.5, 0.95)))
    wave = 2 * np.pi / rng.uniform(5, 9)
    texture = shape.texture(u * wave, v * wave)[..., None]
    paint = 255 * color * (1 + rng.uniform(0.2, 0.4) * texture)

    pixels = np.full((len(KEYPOINTS), 2), -1)
    rows, columns = np.nonzero(distance < 0)
    for k, (ku, kv) in enumerate(shape.keypoints):
        kx, ky = radius * (cos * ku - sin * kv), radius * (sin * ku + cos * kv)
        if 0 <= x + kx < width and 0 <= y + ky < height:
            nearest = np.argmin((dx[0, columns] - kx) ** 2 + (dy[rows, 0] - ky) ** 2)
            pixels[k] = rows[nearest] + top, columns[nearest] + start
    return (slice(top, bottom), slice(start, stop)), distance, paint, pixels


def _boxes(instances: np.ndarray, count: int) -> np.ndarray:
    boxes = np.zeros((count, 4), np.float32)
    for i in range(count):
        visible = instances == i + 1
        columns, rows = np.flatnonzero(visible.any(0)), np.flatnonzero(visible.any(1))
        boxes[i] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def _visibility(pixels: np.ndarray, instances: np.ndarray) -> np.ndarray:
    """Keypoints float32 (N, 4, 3) from their pixels int (N, 4, 2), -1 where out of the picture."""
    rows, columns = pixels[..., 0], pixels[..., 1]
    own = instances[rows, columns] == np.arange(1, len(pixels) + 1)[:, None]
    keypoints = np.stack([columns + 0.5, rows + 0.5, np.where(own, 2, 1)], -1)
    return np.where(rows[..., None] < 0, 0, keypoints).astype(np.float32)
