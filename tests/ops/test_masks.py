"""Outlines filled on a grid, and masks pasted into images."""

import numpy as np
import pytest
import tensorflow as tf
from pycocotools import mask as coco

from tfseg.ops.masks import paste, rasterise


def _edges(*polygons, padding=0):
    """The segments of closed polygons, x1 y1 x2 y2."""
    edges = [
        (*points[i - 1], *points[i])
        for points in map(np.asarray, polygons)
        for i in range(len(points))
    ]
    return np.array(edges + [(0, 0, 0, 0)] * padding, np.float32)


def _raster(edges, box, size):
    return np.asarray(rasterise(edges, np.asarray(box, np.float32), size)).astype(int)


def test_a_square_and_its_hole():
    outer = [(1, 1), (7, 1), (7, 7), (1, 7)]
    inner = [(3, 3), (5, 3), (5, 5), (3, 5)]
    expected = np.zeros((8, 8), int)
    expected[1:7, 1:7] = 1
    assert _raster(_edges(outer, padding=3), (0, 0, 8, 8), 8).tolist() == expected.tolist()
    expected[3:5, 3:5] = 0
    assert _raster(_edges(outer, inner), (0, 0, 8, 8), 8).tolist() == expected.tolist()


def test_a_triangle():
    # Centres at 0.5, 1.5, ...: those on the hypotenuse, right of the inside, are outside.
    found = _raster(_edges([(0, 0), (4, 4), (0, 4)]), (0, 0, 4, 4), 4)
    assert found.tolist() == np.tri(4, k=-1).tolist()
    found = _raster(_edges([(0, -0.1), (4, 3.9), (0, 3.9)]), (0, 0, 4, 4), 4)
    assert found.tolist() == np.tri(4).tolist()


def test_the_grid_is_the_boxs():
    """What lies left of the box is crossed but not seen, and cells need not be square."""
    edges = _edges([(0, 0), (20, 0), (20, 30), (0, 30)])
    assert _raster(edges, (10, 20, 30, 40), 4).tolist() == [[1, 1, 0, 0]] * 2 + [[0] * 4] * 2
    assert _raster(edges, (5, 29, 7, 33), 4).tolist() == [[1] * 4] + [[0] * 4] * 3
    assert not _raster(edges, (30, 0, 40, 10), 4).any()
    assert not _raster(edges, (5, 5, 5, 10), 4).any()


def test_vertices_on_rows_of_centres():
    """A diamond, whose corners lie on centres: each crosses its row once or not at all."""
    found = _raster(_edges([(2.5, 0.5), (4.5, 2.5), (2.5, 4.5), (0.5, 2.5)]), (0, 0, 5, 5), 5)
    inside = np.abs(np.arange(5)[:, None] - 2) + np.abs(np.arange(5) - 2)
    assert (found[inside < 2] == 1).all()
    assert (found[inside > 2] == 0).all()


def _polygon(random, size, corners):
    angles = np.sort(random.uniform(0, 2 * np.pi, corners))
    radius = random.uniform(0.2, 0.5, corners) * size
    x, y = size / 2 + radius * np.cos(angles), size / 2 + radius * np.sin(angles)
    return np.stack([x, y], axis=1)


def test_near_to_pycocotools():
    """Which draws on five times finer a grid, and so differs in cells that the border cuts."""
    random, size = np.random.default_rng(0), 120
    for corners in (3, 5, 9, 30):
        polygon = _polygon(random, size, corners)
        found = _raster(_edges(polygon), (0, 0, size, size), size)
        rle = coco.frPyObjects([polygon.ravel().tolist()], size, size)
        expected = coco.decode(rle)[..., 0]
        assert (found & expected).sum() / (found | expected).sum() > 0.97


def test_batches_in_xla_and_with_unknown_sizes():
    random = np.random.default_rng(1)
    edges = np.stack([_edges(_polygon(random, 20, 7)) for _ in range(6)]).reshape(2, 3, 7, 4)
    boxes = np.tile(np.array([2, 1, 19, 17], np.float32), (2, 3, 1))
    expected = np.array(
        [
            [_raster(e, b, 14) for e, b in zip(*row, strict=True)]
            for row in zip(edges, boxes, strict=True)
        ]
    )
    assert 0.1 < expected.mean() < 0.9
    compiled = tf.function(lambda e, b: rasterise(e, b, 14), jit_compile=True)
    traced = tf.function(
        lambda e, b: rasterise(e, b, 14),
        input_signature=[tf.TensorSpec((None, None, None, 4)), tf.TensorSpec((None, None, 4))],
    )
    np.testing.assert_array_equal(compiled(edges, boxes), expected)
    np.testing.assert_array_equal(traced(edges, boxes), expected)


def _pasted(mask, box, height, width, convention="detectron2"):
    boxes = np.asarray([box], np.float32)
    return np.asarray(
        paste(np.asarray([mask], np.float32), boxes, height, width, convention=convention)
    )[0]


def test_a_cell_a_pixel_is_the_mask_itself():
    mask = np.random.default_rng(0).uniform(size=(4, 4)).astype("float32")
    found = _pasted(mask, (2, 1, 6, 5), 7, 8)
    expected = np.zeros((7, 8))
    expected[1:5, 2:6] = mask
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_interpolation_by_hand():
    # Cells of two pixels: centres at 1 and 3 of 4, zeros at -1 and 5.
    row = [0.0, 0.25, 0.75, 1.0, 1.0, 0.75, 0.25, 0.0]
    found = _pasted(np.ones((2, 2)), (2, 2, 6, 6), 8, 8)
    np.testing.assert_allclose(found, np.outer(row, row), atol=1e-6)


def test_torchvisions_rule_by_hand():
    """The box 2 2 6 6 with a cell around is 0 0 8 8: nine pixels of 4/9 cells each."""
    cells = (np.arange(9) + 0.5) * 4 / 9 - 1.5
    row = np.interp(cells, [-1, 0, 1, 2], [0, 1, 1, 0])
    found = _pasted(np.ones((2, 2)), (2, 2, 6, 6), 10, 12, "torchvision")
    np.testing.assert_allclose(found[:9, :9], np.outer(row, row), atol=1e-6)
    assert not found[9:].any()
    assert not found[:, 9:].any()
    # Corners are cut, not rounded: 0.9 0.9 7.1 7.1 enlarged is -2.2 .. 10.2, pixels -2 .. 10.
    cells = (np.arange(10) + 2.5) * 4 / 13 - 1.5
    row = np.interp(cells, [-1, 0, 1, 2], [0, 1, 1, 0])
    found = _pasted(np.ones((2, 2)), (0.9, 0.9, 7.1, 7.1), 10, 10, "torchvision")
    np.testing.assert_allclose(found, np.outer(row, row), atol=1e-6)


def test_pasting_beyond_the_border_and_without_extent():
    found = _pasted(np.ones((2, 2)), (-4, -4, 4, 4), 4, 4)
    np.testing.assert_allclose(found, np.outer(*[[1, 1, 0.875, 0.625]] * 2), atol=1e-6)
    assert not _pasted(np.ones((2, 2)), (3, 3, 3, 9), 12, 12).any()
    with pytest.raises(ValueError, match="'detectron'"):
        _pasted(np.ones((2, 2)), (0, 0, 1, 1), 2, 2, "detectron")


@pytest.mark.parametrize("convention", ["detectron2", "torchvision"])
def test_beside_torch(convention):
    torch = pytest.importorskip("torch")
    random = np.random.default_rng(0)
    masks = random.uniform(size=(12, 28, 28)).astype("float32")
    corners = random.uniform(0, [180, 120], (12, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 90, (12, 2))], axis=1)
    boxes = np.minimum(boxes, [200, 130, 200, 130]).astype("float32")
    found = np.asarray(paste(masks, boxes, 130, 200, convention=convention))
    masks, boxes = torch.tensor(masks)[:, None], torch.tensor(boxes)
    if convention == "torchvision":
        roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
        expected = roi_heads.paste_masks_in_image(masks, boxes, (130, 200))[:, 0]
    else:
        x1, y1, x2, y2 = boxes.split(1, 1)
        x = (torch.arange(200) + 0.5 - x1) / (x2 - x1) * 2 - 1
        y = (torch.arange(130) + 0.5 - y1) / (y2 - y1) * 2 - 1
        grid = torch.stack(
            [x[:, None].expand(-1, 130, -1), y[:, :, None].expand(-1, -1, 200)], dim=3
        )
        expected = torch.nn.functional.grid_sample(masks, grid, align_corners=False)[:, 0]
    np.testing.assert_allclose(found, expected.numpy(), atol=2e-4)


def test_pasting_in_xla_and_with_unknown_sizes():
    mask, boxes = np.ones((1, 2, 2), np.float32), np.array([[2, 2, 6, 6]], np.float32)
    compiled = tf.function(lambda m, b: paste(m, b, 8, 8), jit_compile=True)
    traced = tf.function(
        lambda m, b, size: paste(m, b, size[0], size[1]),
        input_signature=[
            tf.TensorSpec((None, 2, 2)),
            tf.TensorSpec((None, 4)),
            tf.TensorSpec((2,), tf.int32),
        ],
    )
    expected = paste(mask, boxes, 8, 8)
    np.testing.assert_allclose(compiled(mask, boxes), expected, atol=1e-6)
    np.testing.assert_allclose(traced(mask, boxes, [8, 8]), expected, atol=1e-6)
