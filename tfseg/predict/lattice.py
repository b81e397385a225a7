"""Gaussian filtering of points in few dimensions on the permutohedral lattice.

Adams, Baek and Davis, Fast High-Dimensional Filtering Using the Permutohedral Lattice (2010), in
the arithmetic of Krähenbühl's permutohedral.cpp, so that dense CRFs agree with his. The lattice's
hash table is a sorted array of keys here, and splat, blur and slice are sparse matrices.
"""

import math

import numpy as np
from scipy import sparse


class PermutohedralLattice:
    """Sums over points weighted by approximately exp(-|f_i - f_j|^2 / 2), up to a common factor.

    The lattice's vertices are the integer points of d + 1 coordinates that sum to zero and leave
    one common remainder when divided by d + 1. A point lies in a simplex of d + 1 vertices, one of
    each remainder. Its value is spread over them (splat), vertices are blurred with
    (1/2, 1, 1/2) along each of the d + 1 axes in turn, and read at the points again (slice).

    Attributes:
        interpolation: float32 CSR (N, vertices): barycentric coordinates of the points.
        blurs: d + 1 symmetric float32 CSR (vertices, vertices), applied first to last.
        scale: the factor that ends the filter, 1 / (1 + 2^-d).
    """

    def __init__(self, features: np.ndarray):
        """Places the points.

        Args:
            features: float32 (d, N), divided by the Gaussian's standard deviation.

        Raises:
            ValueError: if the points spread over more cells than an int64 can number.
        """
        dimensions, points = features.shape
        corner, rank, offset = _simplices(_elevate(features))
        digits = corner[:-1].astype(np.int64)
        # Keys are numbers whose digits are coordinates; room for the vertices and neighbours.
        digits -= digits.min(axis=1, keepdims=True) - 2
        sizes = [int(size) + 3 for size in digits.max(axis=1)]
        if math.prod(sizes) * (dimensions + 1) > np.iinfo(np.int64).max:
            raise ValueError(
                f"the points spread over {' x '.join(map(str, sizes))} lattice cells, which are "
                "too many: use larger standard deviations"
            )
        places = np.cumprod([1, *sizes])
        strides = np.append(places[:-1], 0)
        keys = _vertex_keys(strides[:-1] @ digits, rank, strides, places[-1])
        vertices, index = np.unique(keys.T, return_inverse=True)
        rows = np.arange(0, points * (dimensions + 1) + 1, dimensions + 1, dtype=np.int32)
        weights = _barycentric(rank, offset)
        self.interpolation = sparse.csr_array(
            (weights.T.ravel(), index.astype(np.int32).ravel(), rows),
            shape=(points, len(vertices)),
        )
        self.blurs = _blurs(vertices, strides, places[-1])
        self.scale = 1 / (1 + 2.0**-dimensions)

    def filter(self, values: np.ndarray) -> np.ndarray:
        """The weighted sums.

        Args:
            values: float32 (N, C).

        Returns:
            float32 (N, C).
        """
        values = self.interpolation.T @ values
        for blur in self.blurs:
            values = blur @ values
        result: np.ndarray = self.interpolation @ (values * np.float32(self.scale))
        return result


def _elevate(features: np.ndarray) -> np.ndarray:
    """The points on the plane of the lattice, float32 (d + 1, N) of sum zero (p. 5).

    They are scaled so that the blurs have the standard deviation 1 of the features (p. 6).
    """
    dimensions, points = features.shape
    deviation = np.float32(math.sqrt(2 / 3) * (dimensions + 1))
    elevated = np.empty((dimensions + 1, points), np.float32)
    total = np.zeros(points, np.float32)
    for axis in range(dimensions, 0, -1):
        scaled = features[axis - 1] * np.float32(float(deviation) / math.sqrt(axis * (axis + 1)))
        elevated[axis] = total - np.float32(axis) * scaled
        total += scaled
    elevated[0] = total
    return elevated


def _simplices(elevated: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The simplex in which each point lies.

    Args:
        elevated: float32 (d + 1, N).

    Returns:
        Three arrays (d + 1, N): float32 integers, the coordinates of the simplex's vertex of
        remainder 0, divided by d + 1; int32, the rank of each coordinate's distance from it, 0
        for the largest; float32, that distance divided by d + 1.
    """
    count = len(elevated)
    inverse = np.float32(1 / count)
    corner = np.rint(elevated * inverse)
    offset = elevated - corner * np.float32(count)
    rank = np.zeros(elevated.shape, np.int32)
    for i in range(count):
        for j in range(i + 1, count):
            below = offset[i] < offset[j]
            rank[i] += below
            rank[j] += ~below
    # Rounding can leave the plane: the coordinates rounded furthest are rounded the other way.
    rank += corner.sum(axis=0).astype(np.int32)
    wrap = (rank < 0).astype(np.int32) - (rank >= count)
    rank += wrap * count
    corner += wrap
    return corner, rank, (elevated - corner * np.float32(count)) * inverse


def _by_rank(values: np.ndarray, rank: np.ndarray) -> np.ndarray:
    """Each column's (d + 1, N) entries in the order of their rank."""
    ordered = np.empty(rank.shape, values.dtype)
    np.put_along_axis(ordered, rank, np.broadcast_to(values, rank.shape), axis=0)
    return ordered


def _barycentric(rank: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The weights of the simplex's vertices by their remainder, float32 (d + 1, N) (p. 10)."""
    ordered = _by_rank(offset, rank)[::-1]
    weights = np.empty_like(ordered)
    weights[1:] = ordered[1:] - ordered[:-1]
    weights[0] = ordered[0] + (1 - ordered[-1])
    return weights


def _vertex_keys(
    corner: np.ndarray, rank: np.ndarray, strides: np.ndarray, block: np.int64
) -> np.ndarray:
    """The keys of the simplex's vertices by their remainder, int64 (d + 1, N).

    The vertex of remainder k is the corner with k added to all coordinates, less d + 1 in the k
    of the highest ranks. Divided by d + 1, that is one less there; k is the key's first digit.

    Args:
        corner: int64 (N,), the corner's key.
        rank: int32 (d + 1, N).
        strides: int64 (d + 1,): what a step in a coordinate adds to a key; the last coordinate
            follows from the others.
        block: what a remainder adds to a key.
    """
    keys = np.empty(rank.shape, np.int64)
    keys[0] = corner
    keys[1:] = block - _by_rank(strides[:, None], rank)[:0:-1]
    return np.cumsum(keys, axis=0, out=keys)


def _blurs(vertices: np.ndarray, strides: np.ndarray, block: np.int64) -> list[sparse.csr_array]:
    """The blur along each axis, between those vertices that exist.

    Args:
        vertices: int64, sorted keys.
        strides: as in `_vertex_keys`.
        block: as in `_vertex_keys`.
    """
    count, dimensions = len(vertices), len(strides) - 1
    # A neighbour has 1 less in all coordinates and d + 1 more in that of the axis.
    borrowed = vertices + dimensions * block - strides.sum()
    lowered = np.where(vertices >= block, vertices - block, borrowed)
    weights = np.broadcast_to(np.array([0.5, 1, 0.5], np.float32), (count, 3))
    blurs = []
    for stride in strides:
        wanted = lowered + stride
        position = np.minimum(np.searchsorted(vertices, wanted), count - 1)
        found = np.flatnonzero(vertices[position] == wanted)
        columns = np.full((count, 3), -1, np.int32)
        columns[found, 0] = position[found]
        columns[:, 1] = np.arange(count)
        columns[position[found], 2] = found
        present = columns >= 0
        rows = np.zeros(count + 1, np.int32)
        np.cumsum(present.sum(axis=1), out=rows[1:])
        shape = (count, count)
        blurs.append(sparse.csr_array((weights[present], columns[present], rows), shape=shape))
    return blurs
