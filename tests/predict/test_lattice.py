import itertools
import math

import numpy as np
import pytest

from tfseg.predict.lattice import PermutohedralLattice


def points(dimensions, count=25, spread=1.5, seed=0):
    rng = np.random.default_rng(seed)
    return rng.normal(scale=spread, size=(dimensions, count)).astype(np.float32)


def elevation(dimensions):
    """The matrix onto the lattice's plane, (d + 1, d): an orthogonal basis, scaled."""
    basis = np.zeros((dimensions + 1, dimensions))
    for axis in range(dimensions):
        basis[: axis + 1, axis] = 1
        basis[axis + 1, axis] = -(axis + 1)
    return math.sqrt(2 / 3) * (dimensions + 1) * basis / np.linalg.norm(basis, axis=0)


def nearest_vertex(y, remainder):
    """Of the lattice points that leave this remainder the one nearest to y, among those around."""
    count = len(y)
    base = np.floor((y - remainder) / count).astype(int)
    best = None
    for steps in itertools.product((0, 1), repeat=count):
        vertex = (base + steps) * count + remainder
        if vertex.sum() == 0:
            best = min(best or (np.inf,), (float(np.sum((vertex - y) ** 2)), tuple(vertex)))
    return best[1]


def by_search(features, values):
    """The lattice's filter with a dictionary of vertices."""
    dimensions = len(features)
    places = []
    for y in (elevation(dimensions) @ features.astype(np.float64)).T:
        simplex = [nearest_vertex(y, k) for k in range(dimensions + 1)]
        system = np.vstack([np.transpose(simplex), np.ones(dimensions + 1)])
        weights = np.linalg.lstsq(system, np.append(y, 1), rcond=None)[0]
        assert weights.min() > -1e-6
        places.append(list(zip(simplex, weights, strict=True)))
    table = {vertex: 0 for place in places for vertex, _ in place}
    for place, value in zip(places, values, strict=True):
        for vertex, weight in place:
            table[vertex] = table[vertex] + weight * value
    for axis in range(dimensions + 1):
        step = np.ones(dimensions + 1, int)
        step[axis] = -dimensions
        around = (
            [tuple(np.subtract(v, step)) for v in table],
            [tuple(np.add(v, step)) for v in table],
        )
        table = {
            vertex: value + (table.get(low, 0) + table.get(high, 0)) / 2
            for (vertex, value), low, high in zip(table.items(), *around, strict=True)
        }
    scale = 1 / (1 + 2**-dimensions)
    return np.array([scale * sum(w * table[v] for v, w in place) for place in places])


@pytest.mark.parametrize("dimensions", [1, 2, 3, 5])
def test_equals_a_search_of_simplices_and_a_dictionary_of_vertices(dimensions):
    features = points(dimensions, count=25)
    values = np.random.default_rng(1).random((features.shape[1], 3), np.float32)
    found = PermutohedralLattice(features).filter(values)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_search(features, values), rtol=1e-4)


def test_one_point_by_hand():
    """It lies on a vertex and has one neighbour: blurs give (1, 1/2), then (5/4, 1)."""
    found = PermutohedralLattice(np.zeros((1, 1), np.float32)).filter(np.ones((1, 1), np.float32))
    assert found.item() == pytest.approx(5 / 4 / (1 + 1 / 2))


@pytest.mark.parametrize("dimensions", [2, 5])
def test_the_matrices(dimensions):
    lattice = PermutohedralLattice(points(dimensions, 300))
    vertices = lattice.interpolation.shape[1]
    np.testing.assert_allclose(lattice.interpolation.sum(axis=1), 1, rtol=1e-5)
    assert lattice.interpolation.data.min() >= -1e-5
    assert len(lattice.blurs) == dimensions + 1
    for blur in lattice.blurs:
        assert blur.shape == (vertices, vertices)
        assert abs(blur - blur.T).max() == 0
        np.testing.assert_array_equal(blur.diagonal(), 1)


def test_points_of_one_place_share_its_vertices():
    lattice = PermutohedralLattice(np.full((5, 40), 0.3, np.float32))
    assert lattice.interpolation.shape == (40, 6)
    found = lattice.filter(np.ones((40, 1), np.float32))
    np.testing.assert_allclose(found, found[:1].repeat(40, axis=0), rtol=1e-6)


def test_approximates_gaussians():
    """On a regular grid every other point counts nearly as the Gaussian has it."""
    grid = np.indices((25, 25), np.float32).reshape(2, -1) / 3
    found = PermutohedralLattice(grid).filter(np.eye(625, dtype=np.float32))
    distances = np.square(grid[:, :, None] - grid[:, None]).sum(axis=0)
    centre = 12 * 25 + 12
    gaussian = np.exp(-distances / 2)[centre]
    np.testing.assert_allclose(
        found[centre] / found[centre].sum(), gaussian / gaussian.sum(), atol=4e-3
    )


def test_too_many_cells_are_refused():
    far = np.zeros((5, 2), np.float32)
    far[:, 1] = 1e5
    with pytest.raises(ValueError, match="larger standard deviations"):
        PermutohedralLattice(far)
