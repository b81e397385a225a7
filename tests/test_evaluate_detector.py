from dataclasses import replace

import numpy as np
import pytest
from detector_stand_in import CLASSES, FRACTIONS, PLAIN, StandIn

from tfseg.evaluate_detector import InstancePictures, evaluate_detector, matching_colors
from tfseg.metrics.coco import CocoScores
from tfseg.predict import DetectionPredictor
from tfseg.predict.detections import Detections
from tfseg.visualize import palette

SIZES = [(200, 300), (310, 190), (240, 260)]
CATEGORY_IDS = (11, 12, 15)


def predictor(batch_size=2, **options):
    sizes = {"short_side": 64, "long_side": 128, "divisor": 32}
    return DetectionPredictor(StandIn(**options), PLAIN, **sizes, batch_size=batch_size)


class Found:
    """Images whose labelled objects are those that the stand-in finds."""

    classes = ("cat", "dog", "bird")
    colors, ignore_label = None, 255
    category_ids = CATEGORY_IDS
    keypoint_names, skeleton, flip_pairs = (), (), ()

    def __init__(self, keypoints=False):
        self.keypoints = keypoints

    def __len__(self):
        return len(SIZES)

    def __getitem__(self, index):
        height, width = SIZES[index]
        boxes = FRACTIONS[[0, 1, 3]] * np.array([width, height, width, height], np.float32)
        sample = {
            "name": str(index),
            "image": np.full((height, width, 3), 150, np.uint8),
            "boxes": boxes,
            "labels": np.array(CLASSES, np.int32)[[0, 1, 3]],
            "crowd": np.zeros(3, bool),
        }
        if self.keypoints:
            centre = (boxes[:, :2] + boxes[:, 2:]) / 2
            point = np.append(centre, np.full((3, 1), 2), axis=1)
            sample["keypoints"] = np.stack([point, point], axis=1).astype(np.float32)
        return sample

    def keys(self):
        return ("name", "image", "boxes", "labels", "crowd")

    def image_id(self, index):
        return 100 + index

    def truth(self):
        images = [
            {"id": 100 + i, "height": height, "width": width}
            for i, (height, width) in enumerate(SIZES)
        ]
        annotations = []
        for index in range(len(self)):
            found = predictor(keypoints=self.keypoints)(self[index]["image"])
            for result in found.to_coco(100 + index, CATEGORY_IDS):
                number = len(annotations) + 1
                area = result["bbox"][2] * result["bbox"][3]
                points = result.pop("keypoints", None)
                annotations.append({"id": number, "iscrowd": 0, "area": area, **result})
                if points is not None:
                    visible = [2 if place % 3 == 2 else v for place, v in enumerate(points)]
                    annotations[-1] |= {"keypoints": visible, "num_keypoints": 2}
        categories = [{"id": i, "name": str(i)} for i in CATEGORY_IDS]
        return {"images": images, "annotations": annotations, "categories": categories}


@pytest.mark.parametrize("batch_size", [1, 2])
def test_a_perfect_detector_scores_one(batch_size):
    reader = Found(keypoints=True)
    kinds = ("bbox", "segm", "keypoints")
    scores = CocoScores(
        reader.truth(),
        CATEGORY_IDS,
        reader.classes,
        kinds,
        oks_sigmas=(0.05, 0.05),
        evaluator="pycocotools",
    )
    names = []
    evaluate_detector(
        predictor(batch_size, keypoints=True),
        reader,
        scores,
        progress=False,
        on_prediction=lambda sample, found: names.append((sample["name"], found.size)),
    )
    result = scores.result()
    assert result["box_ap"] == result["mask_ap"] == result["keypoint_ap"] == pytest.approx(1)
    assert names == [(str(index), size) for index, size in enumerate(SIZES)]


def test_boxes_of_an_image_in_anothers_place_score_less():
    reader = Found()
    truth = reader.truth()
    for annotation in truth["annotations"]:
        annotation["image_id"] = 100 + (annotation["image_id"] - 99) % 3
        del annotation["segmentation"]
    scores = CocoScores(truth, CATEGORY_IDS, reader.classes, ("bbox",), evaluator="pycocotools")
    evaluate_detector(predictor(), reader, scores, progress=False)
    assert scores.result()["box_ap"] < 0.6


def test_matching_colors_by_hand():
    """The first box fits the second of the others; the third is too far off."""
    others = np.array([[0, 0, 10, 10], [20, 0, 30, 10], [0, 20, 10, 30]], np.float32)
    colors = np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1]], np.uint8)
    boxes = np.array([[21, 0, 31, 10], [20, 0, 30, 10], [0, 0, 4, 10]], np.float32)
    found = matching_colors(boxes, others, colors)
    assert found[0].tolist() == [0, 1, 0]
    assert found[1:].max(1).min() > 1  # the second's is taken
    none = np.zeros((0, 4), np.float32)
    assert matching_colors(none, others, colors).shape == (0, 3)
    assert len(matching_colors(boxes, none, colors[:0])) == 3


def square(sample, score):
    """One object in the middle of a sample's image."""
    height, width = sample["image"].shape[:2]
    box = np.array([[width / 4, height / 4, width * 3 / 4, height * 3 / 4]], np.float32)
    scores, classes = np.array([score], np.float32), np.zeros(1, np.int32)
    return Detections((height, width), box, scores, classes, masks=np.ones((1, 28, 28), np.float32))


def test_pictures_show_truth_and_prediction_alike():
    """Outlines, crisp at the sheet's size, in the same colour; the crowd gray."""
    reader, pictures = Found(), InstancePictures(Found(), 1)
    sample = reader[0]
    found = square(sample, 0.9)
    x1, y1, x2, y2 = found.boxes[0]
    edges = np.array([[[x1, y1, x1, y2], [x2, y1, x2, y2]]] * 2, np.float32)
    edges[1] = edges[1] * 0.1
    boxes = np.stack([found.boxes[0], found.boxes[0] * 0.1])
    sample |= {"edges": edges, "boxes": boxes, "labels": np.zeros(2, np.int32)}
    sample["crowd"] = np.array([False, True])
    pictures.add(sample, found)
    (row,) = pictures._rows
    image, truth, shown = (picture.astype(int) for picture in row)
    assert image.shape == truth.shape == shown.shape == (320, 480, 3)
    assert (image == 150).all()
    inside = (slice(90, 230), slice(130, 350))  # within the outline of 120..360, 80..240
    np.testing.assert_array_equal(truth[inside], shown[inside])
    assert (truth[inside] != 150).any(-1).all()
    np.testing.assert_array_equal(truth[160, 120], shown[160, 120])
    assert truth[160, 120].tolist() == [230, 25, 75]
    assert truth[10, 20].tolist() == [150, 150, 150]
    sheet = pictures.sheet()
    assert sheet.shape[1] == 3 * 480 + 4 * 8


def test_stuff_has_a_legend():
    """Only of the labels that are shown: 2 in the truth, 3 in the prediction."""
    reader = Found()
    pictures = InstancePictures(reader, 1, 0.5, ("things", "sky", "sea", "sand"))
    sample = reader[0] | {"mask": np.full(SIZES[0], 255, np.int32)}
    sample["mask"][:100], sample["mask"][100:150] = 0, 2
    semantic = np.full(SIZES[0], 3, np.int32)
    pictures.add(sample, replace(square(sample, 0.4), semantic=semantic))
    image, truth, shown = pictures._rows[0]
    yellow, green = (np.round(image[0, 0] * 0.7 + palette()[label] * 0.3) for label in (3, 2))
    np.testing.assert_array_equal(shown[50, 400], yellow)
    np.testing.assert_array_equal(truth[200, 300], green)
    np.testing.assert_array_equal(truth[300, 300], image[300, 300])  # to be ignored
    legend = pictures.sheet()[-24:]
    colors = {tuple(c) for c in legend.reshape(-1, 3).tolist()}
    first, second, third = (tuple(c) for c in palette()[1:4].tolist())
    assert {second, third} < colors
    assert first not in colors


def test_labels_that_no_detection_has_are_not_drawn():
    """Those of a branch that is there to be trained."""
    sample = Found()[0]
    sheets = []
    for mask in ({}, {"mask": np.full(SIZES[0], 2, np.int32)}):
        pictures = InstancePictures(Found(), 1, 0.5)
        pictures.add(sample | mask, square(sample, 0.6))
        sheets.append(pictures.sheet())
    np.testing.assert_array_equal(*sheets)


def test_pictures_of_some_images_and_strong_detections():
    reader = Found()
    pictures = InstancePictures(reader, 2, score_threshold=0.5)
    assert pictures.wanted == {0, 2}
    for index in range(3):
        pictures(reader[index], square(reader[index], 0.4 + 0.1 * index))
    assert len(pictures._rows) == 2
    first, last = (row[2] for row in pictures._rows)
    assert (first == 150).all()  # 0.4 is too little
    assert not (last == 150).all()
