"""Outlines of objects as line segments, from polygons and from masks.

An outline is an array of segments x1, y1, x2, y2 in continuous pixels (pixel i covers [i, i + 1)),
in any order and direction, that close around an object: a point is inside where a ray from it
crosses an odd number of them. Holes and objects in several parts need nothing more. Affine maps
of the segments' ends map the object; horizontal segments matter to no filling along the rows, but
an outline that is going to be turned needs them.
"""

from collections.abc import Sequence

import numpy as np

from tfseg.data.regions import Region

#: segments that the outlines of one image may have, padding included: 256 MiB as float32
MAX_SEGMENTS = 1 << 24

# Segments of one object of which all pairs are compared, so many rows at a time.
_MAX_CROSSED = 1 << 14
_ROWS = 256

# Polygons are given in hundredths of pixels.
_TINY = 1e-6


def polygon_outline(polygons: Sequence[np.ndarray]) -> np.ndarray:
    """The outline of an object that is the union of polygons.

    Where a polygon crosses itself, the even-odd rule says what of it is inside, as it does in
    pycocotools.

    Args:
        polygons: (n, 2) corners x, y each, in order, n >= 3.

    Returns:
        float32 (E, 4).

    Raises:
        ValueError: parts that overlap have too many corners.
    """
    parts = [_polygon_edges(np.asarray(polygon, np.float64)) for polygon in polygons]
    if _may_overlap(polygons):
        return _union(parts).astype(np.float32)
    return np.concatenate(parts).astype(np.float32)


def _polygon_edges(corners: np.ndarray) -> np.ndarray:
    edges: np.ndarray = np.concatenate([corners, np.roll(corners, -1, axis=0)], axis=1)
    edges = edges[(edges[:, :2] != edges[:, 2:]).any(1)]
    return edges


def _may_overlap(polygons: Sequence[np.ndarray]) -> bool:
    """Whether two polygons' bounding boxes have an area in common."""
    low = np.array([polygon.min(0) for polygon in polygons])
    high = np.array([polygon.max(0) for polygon in polygons])
    common = np.minimum(high[:, None], high) - np.maximum(low[:, None], low)
    return bool(((common > 0).all(-1) & ~np.eye(len(polygons), dtype=bool)).any())


def _union(parts: Sequence[np.ndarray]) -> np.ndarray:
    """The outline of what is in any of the parts.

    Between the heights of all corners and crossings lie slabs in which no two segments cross.
    There, from left to right, the segments at which the union begins or ends are its outline.
    """
    owner = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    edges = np.concatenate(parts)
    if len(edges) > _MAX_CROSSED:
        raise ValueError(f"its overlapping polygons have more than {_MAX_CROSSED} corners")
    sloped = edges[:, 1] != edges[:, 3]
    edges, owner = edges[sloped], owner[sloped]
    down = edges[:, 1] < edges[:, 3]
    x1, y1, x2, y2 = np.where(down[:, None], edges, edges[:, [2, 3, 0, 1]]).T
    slope = (x2 - x1) / (y2 - y1)
    heights = np.unique(np.concatenate([y1, y2, _crossings(x1, y1, y2, slope)]))
    first, last = np.searchsorted(heights, y1), np.searchsorted(heights, y2)
    edge = np.repeat(np.arange(len(edges)), last - first)
    slab = np.arange(len(edge)) - np.repeat(np.cumsum(last - first) - last, last - first)
    x = x1[edge] + ((heights[slab] + heights[slab + 1]) / 2 - y1[edge]) * slope[edge]
    order = np.lexsort((x, slab))
    edge, slab = edge[order], slab[order]
    covered = np.zeros(len(edge), bool)
    for part in range(len(parts)):
        # In every slab a closed part has an even count of segments: the next one starts outside.
        covered |= np.cumsum(owner[edge] == part) % 2 == 1
    kept = covered != np.concatenate([[False], covered[:-1]])
    edge, first, last = _joined(edge[kept], slab[kept])
    ends = [x1[edge] + (heights[place] - y1[edge]) * slope[edge] for place in (first, last)]
    sides = np.stack([ends[0], heights[first], ends[1], heights[last]], axis=-1)
    return np.concatenate([sides, _level_edges(sides)])


def _crossings(x1: np.ndarray, y1: np.ndarray, y2: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The heights at which two of the segments cross."""
    offset = x1 - slope * y1
    found = []
    for start in range(0, len(x1), _ROWS):
        some = slice(start, start + _ROWS), None
        with np.errstate(divide="ignore", invalid="ignore"):
            height = (offset - offset[some]) / (slope[some] - slope)
        common = (height > np.maximum(y1[some], y1)) & (height < np.minimum(y2[some], y2))
        found.append(height[common])
    crossed: np.ndarray = np.unique(np.concatenate(found))
    crossed = crossed[np.diff(crossed, prepend=-np.inf) > _TINY]
    return crossed


def _joined(edge: np.ndarray, slab: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pieces of segments in single slabs, joined over adjacent ones: segment and [first, last)."""
    order = np.lexsort((slab, edge))
    edge, slab = edge[order], slab[order]
    new = np.ones(len(edge) + 1, bool)
    new[1:-1] = (np.diff(edge) != 0) | (np.diff(slab) != 1)
    starts, stops = np.flatnonzero(new[:-1]), np.flatnonzero(new[1:])
    return edge[starts], slab[starts], slab[stops] + 1


def _level_edges(sides: np.ndarray) -> np.ndarray:
    """The horizontal segments that close an outline of which the others are given.

    At every height the outline changes inside and outside between the ends of its sides there.
    """
    x = np.concatenate([sides[:, 0], sides[:, 2]])
    y = np.concatenate([sides[:, 1], sides[:, 3]])
    order = np.lexsort((x, y))
    x, y = x[order].reshape(-1, 2), y[order].reshape(-1, 2)
    level: np.ndarray = np.stack([x[:, 0], y[:, 0], x[:, 1], y[:, 1]], axis=-1)
    level = level[level[:, 2] - level[:, 0] > _TINY]
    return level


def _runs(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The runs of True of a bool (R, C): their rows, and their [start, stop) columns."""
    steps = np.diff(np.pad(rows, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    row, start = np.nonzero(steps == 1)
    _, stop = np.nonzero(steps == -1)
    return row, start, stop


def mask_outline(region: Region) -> np.ndarray:
    """The outline of a mask: the borders of its pixels, merged to lines.

    Returns:
        float32 (E, 4); filled, they give the mask exactly.
    """
    padded = np.pad(region.inside, 1)
    column, top, bottom = _runs((padded[1:-1, 1:] != padded[1:-1, :-1]).T)
    row, left, right = _runs(padded[1:, 1:-1] != padded[:-1, 1:-1])
    vertical = np.stack([column, top, column, bottom], axis=-1)
    horizontal = np.stack([left, row, right, row], axis=-1)
    edges: np.ndarray = np.concatenate([vertical, horizontal]).astype(np.float32)
    return edges + np.array([region.left, region.top] * 2, np.float32)


def stack_outlines(outlines: Sequence[np.ndarray]) -> np.ndarray:
    """The outlines of an image's objects in one array.

    Args:
        outlines: float32 (E_i, 4) each; none of them has segments where there is no outline.

    Returns:
        float32 (N, E, 4), E the largest E_i and at least 1, padded with zeros.

    Raises:
        ValueError: more than `MAX_SEGMENTS`, with the padding.
    """
    longest = max([1, *(len(outline) for outline in outlines)])
    if len(outlines) * longest > MAX_SEGMENTS:
        raise ValueError(
            f"{len(outlines)} outlines of up to {longest} segments are too many for memory "
            f"(together at most {MAX_SEGMENTS})"
        )
    edges = np.zeros((len(outlines), longest, 4), np.float32)
    for place, outline in zip(edges, outlines, strict=True):
        place[: len(outline)] = outline
    return edges


def outline_region(edges: np.ndarray, size: tuple[int, int]) -> Region:
    """What an outline encloses: the pixels whose centres are inside.

    Args:
        edges: float (E, 4); what lies outside the image may be there.
        size: the image's (height, width).

    Returns:
        A region that holds all of them, in the image; (0, 0) pixels where there are none.
    """
    height, width = size
    x1, y1, x2, y2 = np.asarray(edges, np.float64).reshape(-1, 4).T
    ends = (np.minimum(y1, y2), np.maximum(y1, y2))
    first, last = (np.clip(np.ceil(end - 0.5), 0, height).astype(int) for end in ends)
    counts = last - first
    edge = np.repeat(np.arange(len(counts)), counts)
    if not len(edge):
        return Region(0, 0, np.zeros((0, 0), bool))
    row = np.arange(len(edge)) - np.repeat(np.cumsum(counts) - counts - first, counts)
    x1, y1, x2, y2 = x1[edge], y1[edge], x2[edge], y2[edge]
    crossed = x1 + (row + 0.5 - y1) * ((x2 - x1) / (y2 - y1))
    column = np.clip(np.ceil(crossed - 0.5), 0, width).astype(int)
    top, left = int(row.min()), int(column.min())
    rows, columns = int(row.max()) - top + 1, int(column.max()) - left + 1
    places = (row - top) * columns + column - left
    toggles = np.bincount(places, minlength=rows * columns).reshape(rows, columns)
    # A row has an even count of crossings: nothing is inside from the last column on.
    return Region(top, left, np.cumsum(toggles, axis=1)[:, :-1] % 2 == 1)


def fill_outline(edges: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """The mask bool (H, W) of an outline; see `outline_region`."""
    mask = np.zeros(size, bool)
    region = outline_region(edges, size)
    mask[region.place] = region.inside
    return mask
