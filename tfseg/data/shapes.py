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

_TILT = 0.45  # radians; below 45 degrees, so that the top keypoint stays the topmost one
_TIPS = ((0.0, -1.0), (1.0, 0.0), (0.0, 1.0), (-1.0, 0.0))


class Shape(NamedTuple):
    """One class of shapes, described about the origin with v pointing down.

    Attributes:
        name: of the class.
        distance: of points (u, v), in radii, from the outline, negative inside.
        texture: brightness -1..1 at (u, v), in radians of the texture's wave.
        keypoints: (u, v) in radii, as KEYPOINTS.
        tilt: the largest rotation in radians.
        hue: the mean one, 0..1.
    """

    name: str
    distance: Callable[[np.ndarray, np.ndarray], np.ndarray]
    texture: Callable[[np.ndarray, np.ndarray], np.ndarray]
    keypoints: tuple[tuple[float, float], ...]
    tilt: float
    hue: float


# Class ids are 1 + the place here; 0 is the background.
SHAPES = (
    Shape(
        "circle",
        distance=lambda u, v: np.hypot(u, v) - 1,
        texture=lambda u, v: np.sin(np.hypot(u, v)),
        keypoints=_TIPS,
        tilt=0.0,
        hue=0.05,
    ),
    Shape(
        "diamond",
        distance=lambda u, v: (np.abs(u) + np.abs(v) - 1) * np.sqrt(0.5),
        texture=lambda u, v: np.sin(u),
        keypoints=_TIPS,
        tilt=_TILT,
        hue=0.3,
    ),
    # Apex (0, -1), base from (-1, 0.8) to (1, 0.8).
    Shape(
        "triangle",
        distance=lambda u, v: np.maximum((1.8 * np.abs(u) - v - 1) / np.hypot(1.8, 1), v - 0.8),
        texture=lambda u, v: np.sign(np.sin(u) * np.sin(v)),
        keypoints=((0.0, -1.0), (1.0, 0.8), (0.0, 0.8), (-1.0, 0.8)),
        tilt=_TILT,
        hue=0.55,
    ),
    Shape(
        "cross",
        distance=lambda u, v: np.maximum(
            np.maximum(np.abs(u), np.abs(v)) - 1, np.minimum(np.abs(u), np.abs(v)) - 0.36
        ),
        texture=lambda u, v: 1 - 2 * np.cos(v / 2) ** 8,
        keypoints=_TIPS,
        tilt=_TILT,
        hue=0.8,
    ),
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
    return (1 - np.abs(place[:, None] - np.arange(cells))).clip(0)


def _shape(
    rng: np.random.Generator, shape: Shape, height: int, width: int
) -> tuple[tuple[slice, slice], np.ndarray, np.ndarray, np.ndarray]:
    """One shape at a random place: its window, and in it signed distances in pixels and colours.

    The last is its keypoints, int (4, 2) row and column in the picture, -1 where out of it.
    """
    radius = rng.uniform(0.12, 0.28) * min(height, width)
    x, y = rng.uniform(0, width), rng.uniform(0, height)
    angle = rng.uniform(-shape.tilt, shape.tilt)
    reach = radius * 1.3 + 1  # the triangle's base corners are 1.28 radii away
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
