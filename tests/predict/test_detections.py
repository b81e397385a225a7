import json

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from tfseg.data.regions import Region, instance_map, region_of
from tfseg.ops.masks import paste
from tfseg.predict.detections import Detections, encode_region


def detections(boxes, masks=None, size=(20, 30), **more):
    boxes = np.asarray(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.3, len(boxes)).astype(np.float32)
    masks = None if masks is None else np.asarray(masks, np.float32)
    classes = np.arange(len(boxes), dtype=np.int32)
    return Detections(size, boxes, scores, classes, masks=masks, **more)


def sampled(mask, box, size):
    """torch's grid_sample without aligned corners, with zeros outside, pixel by pixel."""
    cells = len(mask)
    framed = np.pad(mask, 1)
    found = np.zeros(size)
    for row in range(size[0]):
        for column in range(size[1]):
            y = (row + 0.5 - box[1]) / (box[3] - box[1]) * cells + 0.5  # in the frame
            x = (column + 0.5 - box[0]) / (box[2] - box[0]) * cells + 0.5
            i, j = int(np.floor(y)), int(np.floor(x))
            if 0 <= i <= cells and 0 <= j <= cells:
                v, u = y - i, x - j
                corners = framed[i : i + 2, j : j + 2]
                found[row, column] = np.array([1 - v, v]) @ corners @ np.array([1 - u, u])
    return found


def test_a_mask_of_the_boxs_own_pixels():
    """Cells that are pixels keep their values."""
    mask = [[0.4, 0.6], [0.5, 0.1]]
    found = detections([[3, 5, 5, 7]], [mask]).pasted()
    assert found.shape == (1, 20, 30)
    assert np.argwhere(found[0]).tolist() == [[5, 4], [6, 3]]


def test_a_full_mask_fills_the_pixels_whose_centres_are_in_the_box():
    """0.5 is reached at the border itself."""
    region = detections([[2.4, 3.5, 6.6, 5.5]], [np.ones((7, 7))]).pasted()[0]
    assert np.flatnonzero(region.any(0)).tolist() == [2, 3, 4, 5, 6]
    assert np.flatnonzero(region.any(1)).tolist() == [3, 4, 5]


def some_boxes():
    """Boxes in 20 x 30 pixels, and their masks."""
    rng = np.random.default_rng(0)
    low = rng.uniform(-3, 25, (20, 2))
    boxes = np.concatenate([low, low + rng.uniform(0.3, 20, (20, 2))], axis=1)
    boxes = boxes.clip(0, [30, 20, 30, 20]).astype(np.float32)
    boxes = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
    return boxes, rng.uniform(size=(len(boxes), 5, 5)).astype(np.float32)


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.8])
def test_pasted_samples_as_detectron2(threshold):
    boxes, masks = some_boxes()
    found = detections(boxes, masks).pasted(threshold)
    for box, mask, got in zip(boxes, masks, found, strict=True):
        expected = sampled(mask, box, (20, 30))
        sure = np.abs(expected - threshold) > 1e-5
        np.testing.assert_array_equal(got[sure], (expected >= threshold)[sure])


@pytest.mark.parametrize("style", ["detectron2", "torchvision"])
def test_pasted_is_what_the_graph_pastes(style):
    """`tfseg.ops.masks.paste`, at all pixels."""
    boxes, masks = some_boxes()
    expected = np.asarray(paste(masks, boxes, 20, 30, convention=style))
    got = detections(boxes, masks, style=style).pasted()
    sure = np.abs(expected - 0.5) > 1e-5
    np.testing.assert_array_equal(got[sure], (expected > 0.5)[sure])


def test_torchvisions_own_pasting():
    mask_rcnn = pytest.importorskip("torchvision.models.detection.roi_heads")
    torch = pytest.importorskip("torch")
    boxes, masks = some_boxes()
    expected = mask_rcnn.paste_masks_in_image(
        torch.tensor(masks)[:, None], torch.tensor(boxes), (20, 30)
    ).numpy()[:, 0]
    got = detections(boxes, masks, style="torchvision").pasted()
    sure = np.abs(expected - 0.5) > 1e-5
    np.testing.assert_array_equal(got[sure], (expected > 0.5)[sure])


def test_detectrons_pasting_by_hand():
    """Corners 4 and 7 included: enlarged by 4 / 2 about 5.5 to 2.5 and 8.5, cut to 2 .. 8."""
    full = detections([[4, 4, 8, 8]], np.ones((1, 2, 2)), style="detectron").pasted()[0]
    # 7 pixels for 4 cells, the outer ones zeros: half is reached 1.75 / 2 pixels from the centre
    # of the outer ones, between 1.75 and 5.25 pixels from 2
    assert np.flatnonzero(full.any(0)).tolist() == [4, 5, 6]
    assert np.flatnonzero(full.any(1)).tolist() == [4, 5, 6]


def test_rle_is_that_of_the_pasted_masks():
    rng = np.random.default_rng(1)
    boxes = [[0, 0, 30, 20], [3.3, 4.1, 11.9, 17.2], [28, 18, 30, 20], [5, 5, 5, 9]]
    some = detections(boxes, rng.uniform(size=(4, 28, 28)))
    encoded = json.loads(json.dumps(some.rle()))
    np.testing.assert_array_equal(np.moveaxis(coco_mask.decode(encoded), -1, 0), some.pasted())
    assert not some.pasted()[3].any()  # an empty box


def test_to_coco_by_hand():
    points = np.array([[[4.5, 6.5, 0.7], [10, 12, 0.2]]], np.float32)
    some = detections([[1, 2, 4, 8]], np.ones((1, 2, 2)), keypoints=points)
    (result,) = json.loads(json.dumps(some.to_coco(42, category_ids=(18, 7))))
    mask = coco_mask.decode(result.pop("segmentation"))
    assert np.argwhere(mask)[[0, -1]].tolist() == [[2, 1], [7, 3]]
    assert mask.sum() == 18
    assert result.pop("keypoints") == pytest.approx([4, 6, 0.7, 9.5, 11.5, 0.2])
    assert result.pop("score") == pytest.approx(0.9)
    assert result == {"image_id": 42, "category_id": 18, "bbox": [1, 2, 3, 6]}
    assert detections([[1, 2, 4, 8]]).to_coco("a")[0].keys() == {
        "image_id",
        "category_id",
        "bbox",
        "score",
    }


def test_above_keeps_all_parts_together():
    some = detections(
        np.arange(12).reshape(3, 4), np.arange(12).reshape(3, 2, 2), keypoints=np.ones((3, 1, 3))
    )
    kept = some.above(0.5)  # of 0.9, 0.6, 0.3
    assert len(kept) == 2
    np.testing.assert_array_equal(kept.classes, [0, 1])
    np.testing.assert_array_equal(kept.masks, some.masks[:2])
    assert kept.keypoints.shape == (2, 1, 3)
    assert kept.size == some.size


def test_at_another_size():
    points = np.array([[[15, 10, 0.7]]], np.float32)
    labels = np.arange(600, dtype=np.int32).reshape(20, 30)
    some = detections([[3, 5, 9, 20]], np.ones((1, 2, 2)), keypoints=points, semantic=labels)
    larger = some.at_size((40, 90))
    assert larger.size == (40, 90)
    assert larger.boxes.tolist() == [[9, 10, 27, 40]]
    assert larger.keypoints.tolist() == [[[45, 20, pytest.approx(0.7)]]]
    np.testing.assert_array_equal(larger.semantic, labels.repeat(2, 0).repeat(3, 1))
    np.testing.assert_array_equal(larger.at_size((20, 30)).semantic, labels)
    assert larger.pasted().sum() == pytest.approx(6 * some.pasted().sum(), rel=0.01)


def test_nothing_found():
    none = detections(np.zeros((0, 4)), np.zeros((0, 28, 28)))
    assert none.pasted().shape == (0, 20, 30)
    assert none.rle() == none.to_coco(1) == []
    assert len(none.above(0.1)) == 0


def test_masks_that_cannot_be_pasted():
    with pytest.raises(ValueError, match="have no masks"):
        detections([[1, 2, 4, 8]]).rle()
    with pytest.raises(ValueError, match="above 0, not 0"):
        detections([[1, 2, 4, 8]], np.ones((1, 2, 2))).pasted(0)


def test_regions():
    mask = np.zeros((4, 6), bool)
    mask[1, 2] = mask[2, 4] = True
    region = region_of(mask)
    assert (region.top, region.left) == (1, 2)
    assert region.inside.tolist() == [[True, False, False], [False, False, True]]
    assert region_of(np.zeros((4, 6), bool)).inside.size == 0
    np.testing.assert_array_equal(coco_mask.decode(encode_region(region, (4, 6))), mask)


def test_the_first_instance_is_on_top():
    first, second = Region(0, 1, np.ones((2, 2), bool)), Region(0, 0, np.ones((1, 4), bool))
    assert instance_map([first, second], (2, 4)).tolist() == [[2, 1, 1, 2], [0, 1, 1, 0]]
    assert not instance_map([], (2, 4)).any()
