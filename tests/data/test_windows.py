import numpy as np
import pytest

from tfseg.data.windows import box_overlaps, context_windows, cut_window


def test_windows_of_the_released_list():
    """Proposals that touch the image's border, from lines of stage_2_train_imgset/train.txt.

    Its windows include their last row and column.
    """
    # 424 wide up to the right border of an image of 500, 250 high from its top border
    boxes = np.array([[76, 40, 500, 236], [150, 0.5, 325, 250.5]], np.float32)
    windows = context_windows(boxes)
    assert windows[0].tolist() == [34, -116, 542 + 1, 392 + 1]
    assert windows[1].tolist() == [88, -24, 387 + 1, 275 + 1]


def test_windows_are_squares_about_the_centre():
    boxes = np.random.default_rng(0).uniform(0, 200, (50, 2))
    boxes = np.concatenate([boxes, boxes + np.random.default_rng(1).uniform(1, 200, (50, 2))], 1)
    windows = context_windows(boxes, 1.5)
    sides = windows[:, 2:] - windows[:, :2]
    np.testing.assert_array_equal(sides[:, 0], sides[:, 1])
    longer = (boxes[:, 2:] - boxes[:, :2]).max(axis=1)
    np.testing.assert_allclose(sides[:, 0], 1.5 * longer, atol=0.5)
    centres = (windows[:, 2:] + windows[:, :2]) / 2
    np.testing.assert_allclose(centres, (boxes[:, 2:] + boxes[:, :2]) / 2, atol=0.75)


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        ((1, 0, 3, 2), [[2, 3], [5, 6]]),
        ((-1, -1, 2, 1), [[9, 9, 9], [9, 1, 2]]),
        ((2, 1, 5, 4), [[6, 9, 9], [9, 9, 9], [9, 9, 9]]),
        ((-5, 0, -3, 2), [[9, 9], [9, 9]]),
        ((4, 5, 6, 6), [[9, 9]]),
    ],
)
def test_cut(window, expected):
    array = np.array([[1, 2, 3], [4, 5, 6]], np.uint8)
    out = cut_window(array, np.array(window), fill=9)
    assert out.dtype == np.uint8
    assert out.tolist() == expected
    colors = np.repeat(array[..., None], 3, axis=2)
    np.testing.assert_array_equal(cut_window(colors, np.array(window), fill=9)[..., 1], expected)


def test_overlaps():
    boxes = np.array([[0, 0, 10, 10], [20, 0, 30, 10]])
    others = np.array([[0, 0, 10, 10], [5, 0, 15, 10], [5, 5, 25, 15]])
    expected = [[1, 50 / 150, 25 / 275], [0, 0, 25 / 275]]
    np.testing.assert_allclose(box_overlaps(boxes, others), expected)
