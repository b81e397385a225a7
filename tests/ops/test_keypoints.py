"""Keypoints to heat maps and back."""

import numpy as np
import pytest
import tensorflow as tf

from tfseg.ops.keypoints import decode_keypoints, encode_keypoints


def _encoded(keypoints, box, size=56):
    keypoints = np.asarray(keypoints, np.float32)
    index, valid = encode_keypoints(keypoints, np.asarray(box, np.float32), size)
    return np.asarray(index).tolist(), np.asarray(valid).tolist()


def test_cells_are_rounded_down():
    # Cells of 2 x 1 pixels; the last lies on the lower right corner.
    points = [(10, 20, 2), (11.9, 20.9, 1), (12, 21, 2), (17.9, 23.9, 2), (18, 24, 2)]
    assert _encoded(points, (10, 20, 18, 24), 4) == ([0, 0, 5, 15, 15], [True] * 5)


def test_keypoints_outside_or_unlabelled_do_not_count():
    points = [(9.9, 22, 2), (18.1, 22, 2), (14, 19.9, 2), (14, 24.1, 2), (14, 22, 0), (0, 0, 0)]
    assert _encoded(points, (10, 20, 18, 24), 4) == ([0] * 6, [False] * 6)
    assert _encoded([(3, 3, 2)], (3, 3, 3, 9)) == ([0], [False])


def test_regions_in_batches():
    points = np.tile(np.float32([[2, 4, 1], [6, 2, 1]]), (2, 3, 1, 1))
    boxes = np.tile(np.float32([[0, 0, 8, 8], [4, 0, 8, 4], [0, 4, 4, 8]]), (2, 1, 1))
    index, valid = encode_keypoints(points, boxes, 8)
    assert np.asarray(index).tolist() == [[[34, 22], [0, 36], [4, 0]]] * 2
    # 2 4 lies on the third region's upper border, and so inside; 6 2 right of it.
    assert np.asarray(valid).tolist() == [[[True, True], [False, True], [True, False]]] * 2


def _kernel(x):
    """Keys' cubic convolution with a = -0.75."""
    x = np.abs(x)
    near = 1.25 * x**3 - 2.25 * x**2 + 1
    far = -0.75 * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def _matrix(length, size):
    """Bicubic interpolation with repeated borders, in float64."""
    places = (np.arange(length)[:, None] + 0.5) * size / length - 0.5
    matrix = np.zeros((length, size))
    for tap in range(-3, size + 3):
        matrix[:, np.clip(tap, 0, size - 1)] += _kernel(places - tap)[:, 0]
    return matrix


def _by_definition(heatmaps, boxes, convention):
    """A region and a keypoint at a time."""
    found = np.zeros((*heatmaps.shape[::3], 3))
    for region, (x1, y1, x2, y2) in enumerate(boxes):
        width, height = max(x2 - x1, 1), max(y2 - y1, 1)
        rows, columns = int(np.ceil(height)), int(np.ceil(width))
        for point in range(heatmaps.shape[-1]):
            small = heatmaps[region, ..., point].astype(np.float64)
            large = _matrix(rows, len(small)) @ small @ _matrix(columns, len(small)).T
            row, column = np.unravel_index(large.argmax(), large.shape)
            score = large.max()
            if convention == "detectron2":
                score = 1 / np.exp(small - score).sum()
            x, y = (column + 0.5) * width / columns, (row + 0.5) * height / rows
            found[region, point] = x1 + x, y1 + y, score
    return found


def _case():
    random = np.random.default_rng(0)
    heatmaps = random.normal(0, 2, (7, 8, 8, 3)).astype("float32")
    boxes = [
        [10, 20, 18, 28],  # as many pixels as cells
        [3.3, 4.4, 14.9, 9.8],
        [0, 0, 150.5, 40],  # three squares
        [5, 6, 69, 134],  # two, exactly
        [7, 7, 7.4, 30],  # less than a pixel wide
        [1, 1, 130, 131],
        [-5.5, -3, 20, 21],
    ]
    return heatmaps, np.array(boxes, np.float32)


@pytest.mark.parametrize("convention", ["detectron2", "torchvision"])
def test_equals_the_definition(convention):
    heatmaps, boxes = _case()
    found = decode_keypoints(heatmaps, boxes, convention=convention)
    expected = _by_definition(heatmaps, boxes, convention)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)


def test_a_peak_by_hand():
    heatmap = np.zeros((1, 56, 56, 2), np.float32)
    heatmap[0, 10, 20, 0] = heatmap[0, 30, 55, 1] = np.log(9)
    found = np.asarray(decode_keypoints(heatmap, np.float32([[100, 200, 156, 256]])))[0]
    np.testing.assert_allclose(found[:, :2], [[120.5, 210.5], [155.5, 230.5]])
    # 3135 cells of exp(0) and one of 9
    np.testing.assert_allclose(found[:, 2], 9 / (3135 + 9), rtol=1e-4)
    # Of 28 pixels each lies between two cells, where the kernel is 0.59375.
    found = np.asarray(
        decode_keypoints(heatmap, np.float32([[100, 200, 128, 256]]), convention="torchvision")
    )[0]
    np.testing.assert_allclose(found[0], [110.5, 210.5, 0.59375 * np.log(9)], rtol=1e-6)


def test_of_equals_the_first():
    """Also where later squares hold the same value."""
    heatmaps = np.zeros((2, 8, 8, 2), np.float32)
    boxes = np.float32([[0, 0, 64, 64], [10, 20, 210, 220]])
    found = np.asarray(decode_keypoints(heatmaps, boxes))
    np.testing.assert_allclose(found[:, :, :2], [[[0.5, 0.5]] * 2, [[10.5, 20.5]] * 2])
    np.testing.assert_allclose(found[:, :, 2], 1 / 64, rtol=1e-6)


def test_boxes_without_area_count_as_a_pixel():
    heatmaps = np.ones((3, 8, 8, 2), np.float32)
    boxes = np.float32([[0, 0, 0, 0], [5, 5, 20, 20], [9, 9, 9, 20]])
    found = np.asarray(decode_keypoints(heatmaps, boxes))
    np.testing.assert_allclose(found[0, :, :2], 0.5)
    np.testing.assert_allclose(found[2, :, 0], 9.5)
    assert (found[..., 2] > 0).all()


def test_only_valid_regions_are_looked_at():
    heatmaps = np.ones((3, 8, 8, 2), np.float32)
    boxes = np.float32([[0, 0, 0, 0], [5, 5, 20, 20], [9, 9, 8, 20]])
    found = np.asarray(decode_keypoints(heatmaps, boxes, np.array([False, True, False])))
    assert not found[[0, 2]].any()
    assert found[1].all()
    assert not np.asarray(decode_keypoints(heatmaps, boxes, np.zeros(3, bool))).any()
    with pytest.raises(ValueError, match="'coco'"):
        decode_keypoints(heatmaps, boxes, convention="coco")


def test_in_xla_and_with_unknown_sizes():
    heatmaps, boxes = _case()
    expected = decode_keypoints(heatmaps, boxes)
    compiled = tf.function(decode_keypoints, jit_compile=True)
    signature = [tf.TensorSpec((None, 8, 8, 3)), tf.TensorSpec((None, 4))]
    traced = tf.function(decode_keypoints, input_signature=signature)
    np.testing.assert_allclose(compiled(heatmaps, boxes), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(traced(heatmaps, boxes), expected, rtol=1e-5, atol=1e-5)


def test_beside_torchvision():
    torch = pytest.importorskip("torch")
    roi_heads = pytest.importorskip("torchvision.models.detection.roi_heads")
    random = np.random.default_rng(1)
    heatmaps = random.normal(size=(6, 56, 56, 17)).astype("float32")
    corners = random.uniform(0, 500, (6, 2))
    boxes = np.concatenate([corners, corners + random.uniform(1, 300, (6, 2))], axis=1)
    boxes = boxes.astype("float32")
    found = np.asarray(decode_keypoints(heatmaps, boxes, convention="torchvision"))
    places, scores = roi_heads.heatmaps_to_keypoints(
        torch.tensor(heatmaps.transpose(0, 3, 1, 2).copy()), torch.tensor(boxes)
    )
    np.testing.assert_allclose(found[..., :2], places[..., :2].numpy(), atol=1e-3)
    np.testing.assert_allclose(found[..., 2], scores.numpy(), atol=1e-4)
