"""Overlap tiles of networks whose output has a lower resolution: the dilation networks."""

import functools

import keras
import numpy as np
import pytest
from scipy.ndimage import map_coordinates

import tfseg
from tfseg.predict import Predictor, views
from tfseg.predict.tiles import Tiling, tilings

MARGIN = 186


@functools.cache
def tiled(name):
    """A predictor of tiles of 64 x 64 pixels, with a narrow network."""
    keras.utils.set_random_seed(0)
    model = tfseg.build(name, 3, base_filters=2, fc_filters=4)
    kernel = model.get_layer("final").kernel
    # Larger than it is initialised, so that the probabilities vary.
    kernel.assign(np.random.default_rng(0).normal(size=kernel.shape, scale=0.05))
    return predictor(model, tile_size=(64, 64), batch_size=2)


def image(height, width):
    return np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)


def predictor(model, **options):
    return Predictor(model, model.spec.preprocessing, mode="overlap_tile", **options)


def upsampled(cells, size):
    """Cell i is pixel 8 i; behind the last cell its own value."""
    y, x = (np.arange(side) / 8 for side in size)
    places = np.meshgrid(y, x, indexing="ij")
    planes = [map_coordinates(c, places, order=1, mode="nearest") for c in np.moveaxis(cells, 2, 0)]
    return np.stack(planes, axis=2)


@pytest.mark.parametrize("size", [(97, 121), (60, 200), (8, 7)])
def test_front_end_tiles_are_the_network_on_the_whole_mirrored_image(size):
    tiles, picture = tiled("dilated_vgg16"), image(*size)
    whole = np.pad(picture, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")
    below, right = (-side % 64 for side in size)
    whole = np.pad(whole, ((0, below), (0, right), (0, 0)), "reflect")
    cells = tiles.network.probabilities(whole[None]).numpy()[0]
    result = tiles(picture)
    assert result.shape == (*size, 3)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, upsampled(cells, size), atol=1e-5)
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-5)
    assert np.ptp(result[..., 0]) > 0.05


def released_procedure(network, picture, input_size, zoom):
    """predict.py: pad, cut into tiles, fill tiles up, concatenate probabilities, interpolate."""
    side = input_size - 2 * MARGIN
    padded = np.pad(picture, ((MARGIN, MARGIN), (MARGIN, MARGIN), (0, 0)), "reflect")
    rows = []
    for top in range(0, picture.shape[0], side):
        row = []
        for left in range(0, picture.shape[1], side):
            tile = padded[top : top + input_size, left : left + input_size]
            lacking = [(0, input_size - n) for n in tile.shape[:2]]
            tile = np.pad(tile, (*lacking, (0, 0)), "reflect")
            row.append(network.probabilities(tile[None]).numpy()[0])
        rows.append(np.concatenate(row, axis=1))
    cells = np.concatenate(rows, axis=0)
    size = picture.shape[:2]
    return upsampled(cells, size) if zoom > 1 else cells[: size[0], : size[1]]


@pytest.mark.parametrize("size", [(40, 70), (90, 65), (64, 128)])
@pytest.mark.parametrize(
    ("name", "zoom"),
    [("dilated8_vgg16", 8), ("dilated8_large_vgg16", 8), ("dilated10_vgg16", 1)],
)
def test_tiles_are_the_released_procedure(name, zoom, size):
    tiles, picture = tiled(name), image(*size)
    expected = released_procedure(tiles.network, picture, 64 + 2 * MARGIN, zoom)
    np.testing.assert_allclose(tiles(picture), expected, atol=1e-5)
    assert np.ptp(expected[..., 0]) > 0.01


def test_the_context_ends_at_its_tile():
    """So the tile's size is part of the published procedure."""
    tiles, picture = tiled("dilated8_vgg16"), image(100, 90)
    one = predictor(tiles.network.model, tile_size=(104, 96))(picture)
    assert np.abs(one - tiles(picture)).max() > 1e-3


@pytest.mark.parametrize(("name", "stride"), [("dilated_vgg16", 8), ("dilated10_vgg16", 1)])
def test_measured_tilings(name, stride):
    network = tiled(name).network
    down, across = tilings(network, (528, 1024))
    assert down == Tiling(528, MARGIN, 528, stride)
    assert across == Tiling(1024, MARGIN, 1024, stride)
    with pytest.raises(ValueError, match=r"no tiles of side 500; .* 496 and 504"):
        tilings(network, (500, 528))


def test_a_tile_reaching_over_the_border_mirrors_twice():
    tiling = Tiling(tile=4, margin=2, step=4, stride=2)
    assert tiling.input(0, 9).tolist() == [2, 1, 0, 1, 2, 3, 4, 5]
    assert tiling.input(4, 9).tolist() == [2, 3, 4, 5, 6, 7, 8, 7]
    # 8 7 6 of the margin end the mirrored image; behind it comes that mirrored, 7 8 7 6
    assert tiling.input(8, 9).tolist() == [6, 7, 8, 7, 6, 7, 8, 7]


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 2), (2, 2), (3, 2), (4, 2), (5, 4), (7, 4), (9, 6)]
)
def test_cells_that_a_side_needs(size, expected):
    """Tiles of four pixels, two cells: the cell behind the last pixel, where a tile has it."""
    assert Tiling(tile=4, margin=2, step=4, stride=2).cells(size) == expected
    assert Tiling(tile=4, margin=2, step=4, stride=1).cells(size) == size


def test_pixels_between_cells():
    cells = np.array([[0, 4], [8, 12]], np.float32)[..., None]
    result = views.interpolate_cells(cells, 4, (6, 5))[..., 0]
    np.testing.assert_array_equal(result[0], [0, 1, 2, 3, 4])
    np.testing.assert_array_equal(result[:, 0], [0, 2, 4, 6, 8, 8])
    assert result[1, 1] == 3
    assert result.dtype == np.float32


@pytest.mark.parametrize("options", [{}, {"mode": "sliding", "crop_size": (200, 200)}])
@pytest.mark.parametrize("name", ["dilated8_vgg16", "dilated10_vgg16"])
def test_other_modes_are_refused(name, options):
    network = tiled(name).network
    with pytest.raises(ValueError, match="use mode 'overlap_tile'"):
        Predictor(network.model, network.preprocessing, **options)
