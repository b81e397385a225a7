"""Anchors of three code bases, beside the numbers that they print."""

import numpy as np
import pytest

from tfseg.ops.anchors import cell_anchors, grid_anchors

RATIOS = (0.5, 1.0, 2.0)
LEVELS = ("p2", "p3", "p4", "p5", "p6")
#: the table at the head of Faster R-CNN's generate_anchors.py, from the MATLAB original: the
#: first and last pixel, counted from 1. Counted from 0 and half-open only the first is one less.
MATLAB = [
    [-83, -39, 100, 56],
    [-175, -87, 192, 104],
    [-359, -183, 376, 200],
    [-55, -55, 72, 72],
    [-119, -119, 136, 136],
    [-247, -247, 264, 264],
    [-35, -79, 52, 96],
    [-79, -167, 96, 184],
    [-167, -343, 184, 360],
]
GOLDENS = (
    "detectron2__mask_rcnn_R_50_FPN",
    "detectron2__mask_rcnn_R_50_C4",
    "torchvision__maskrcnn_resnet50_fpn",
)


def test_detectrons_table():
    found = cell_anchors((128, 256, 512), RATIOS, 16, "detectron")
    np.testing.assert_array_equal(found, np.array(MATLAB) - [1, 1, 0, 0])
    assert found.dtype == np.float32


def test_detectrons_pyramid():
    """The square of stride 4 is first made 6 x 3, 4 x 4 and 3 x 6, and then eight times larger."""
    found = cell_anchors((32,), RATIOS, 4, "detectron")
    expected = [[-22, -10, 26, 14], [-14, -14, 18, 18], [-10, -22, 14, 26]]
    np.testing.assert_array_equal(found, expected)


def test_detectron2_by_hand():
    """The ratios of each size beside each other; areas are those of the sizes."""
    found = cell_anchors((32, 64), RATIOS, 16)
    root = 16 * np.sqrt(0.5)
    half = [(2 * root, root), (16, 16), (root, 2 * root)]
    expected = np.array([[-x, -y, x, y] for x, y in half])
    np.testing.assert_allclose(found, np.concatenate([expected, 2 * expected]), rtol=1e-6)


def test_torchvision_by_hand():
    """Corners are rounded, and the sizes of each ratio beside each other."""
    found = cell_anchors((32, 64), RATIOS, 16, "torchvision")
    half = [(23, 11), (45, 23), (16, 16), (32, 32), (11, 23), (23, 45)]
    np.testing.assert_array_equal(found, [[-x, -y, x, y] for x, y in half])


def test_the_grid_by_hand():
    cell = np.array([[-2, -1, 2, 1], [0, 0, 4, 4]], "float32")
    found = grid_anchors(cell, 2, 3, 8)
    corners = [(0, 0), (8, 0), (16, 0), (0, 8), (8, 8), (16, 8)]
    expected = [row + np.array([x, y, x, y]) for x, y in corners for row in cell]
    np.testing.assert_array_equal(found, expected)


def test_cells_need_not_be_square():
    found = grid_anchors(np.array([[-2, -1, 2, 1]], "float32"), 2, 2, (7, 9))
    expected = [[-2, -1, 2, 1], [7, -1, 11, 1], [-2, 6, 2, 8], [7, 6, 11, 8]]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("name", GOLDENS)
def test_the_released_codes_anchors(shared, name):
    """The first and the last 64 of an image's."""
    with np.load(shared(f"goldens/{name}.npz")) as golden:
        style = name.split("__")[0]
        if name.endswith("C4"):
            levels = [("res4", 16, (32, 64, 128, 256, 512))]
        else:
            levels = [(p, 4 * 2**i, (32 * 2**i,)) for i, p in enumerate(LEVELS)]
        found = np.concatenate(
            [
                grid_anchors(
                    cell_anchors(sizes, RATIOS, stride, style),
                    *golden[f"rpn_logits_{level}/shape"][1:3],
                    stride,
                )
                for level, stride, sizes in levels
            ]
        )
        np.testing.assert_allclose(found[:64], golden["anchors_head"], rtol=1e-6, atol=1e-5)
        np.testing.assert_allclose(found[-64:], golden["anchors_tail"], rtol=1e-6, atol=1e-5)
