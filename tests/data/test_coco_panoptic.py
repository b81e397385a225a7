"""The semantic masks of panoptic networks: by hand, and from COCO's published examples."""

import json

import numpy as np
import pytest
from PIL import Image

from tfseg.data import DataError, open_reader
from tfseg.data.readers.coco_panoptic import PanopticMasks

#: segment ids of a 2 x 4 image; 300 = 44 + 256, 70000 = 112 + 17 * 256 + 65536
SEGMENTS = np.array([[5, 5, 300, 300], [0, 70000, 70000, 9]])


def _tree():
    listed = [(5, 100), (300, 1), (70000, 2), (9, 50)]
    return {
        "categories": [
            {"id": 100, "name": "wall", "isthing": 0},
            {"id": 1, "name": "person", "isthing": 1},
            {"id": 50, "name": "sky", "isthing": 0},
            {"id": 2, "name": "cat", "isthing": 1},
        ],
        "annotations": [
            {
                "image_id": 7,
                "file_name": "x.png",
                "segments_info": [{"id": i, "category_id": c, "area": 1} for i, c in listed],
            }
        ],
    }


@pytest.fixture
def open_masks(tmp_path):
    rgb = np.stack([SEGMENTS % 256, SEGMENTS // 256 % 256, SEGMENTS // 256**2], -1)
    Image.fromarray(rgb.astype(np.uint8)).save(tmp_path / "x.png")

    def opened(change=lambda tree: None, ignore_label=255):
        tree = _tree()
        change(tree)
        (tmp_path / "p.json").write_text(json.dumps(tree))
        return PanopticMasks(tmp_path, tmp_path / "p.json", ignore_label)

    return opened


def test_by_hand(open_masks):
    masks = open_masks()
    assert masks.classes == ("things", "sky", "wall")
    assert list(masks.stuff.items()) == [(50, "sky"), (100, "wall")]
    assert list(masks.things.items()) == [(1, "person"), (2, "cat")]
    masks.check_images([7])
    mask = masks.read(7, (2, 4))
    assert mask.dtype == np.int32
    np.testing.assert_array_equal(mask, [[2, 2, 0, 0], [255, 0, 0, 1]])
    assert open_masks(ignore_label=77).read(7, (2, 4))[1, 0] == 77


def test_segments_by_hand(open_masks):
    numbers, segments = open_masks(_segment(iscrowd=1, area=8)).segments(7, (2, 4))
    assert numbers.dtype == np.int32
    np.testing.assert_array_equal(numbers, SEGMENTS)
    assert segments[0] == {"id": 5, "category_id": 100, "area": 1, "iscrowd": 0}
    assert segments[1] == {"id": 300, "category_id": 1, "area": 8, "iscrowd": 1}
    assert [segment["id"] for segment in segments] == [5, 300, 70000, 9]


def _segment(**values):
    return lambda tree: tree["annotations"][0]["segments_info"][1].update(values)


def test_mistakes(open_masks, tmp_path):
    with pytest.raises(DataError, match=r"unknown categories: 300 of image 7 \(category 8\)"):
        open_masks(_segment(category_id=8))
    with pytest.raises(DataError, match=r"x\.png: 1 segments are not listed in p\.json: 300"):
        open_masks(_segment(id=301)).read(7, (2, 4))
    with pytest.raises(DataError, match=r"p\.json: 1 images have two segments of one id: 7"):
        open_masks(_segment(id=5))
    with pytest.raises(DataError, match=r"p\.json: 1 categories are there twice: 50"):
        open_masks(lambda tree: tree["categories"][0].update(id=50))
    with pytest.raises(DataError, match=r"segments_info\.1\.id: .*greater than 0"):
        open_masks(_segment(id=0))
    with pytest.raises(DataError, match="two annotations of one image"):
        open_masks(lambda tree: tree["annotations"].append(tree["annotations"][0]))
    with pytest.raises(DataError, match=r"annotations\.0\.segments_info\.1\.id"):
        open_masks(_segment(id="300"))
    with pytest.raises(DataError, match=r"x\.png must be 4 x 2 x 3, is \(2, 4, 3\)"):
        open_masks().read(7, (4, 2))
    with pytest.raises(DataError, match="1 images have no panoptic annotation: 8"):
        open_masks().check_images([7, 8])
    with pytest.raises(ValueError, match="ignore_label 2 is a semantic class"):
        open_masks(ignore_label=2)
    (tmp_path / "x.png").unlink()
    with pytest.raises(DataError, match=r"1 panoptic masks are missing: x\.png"):
        open_masks().check_images([7])


def test_coco_against_the_objects(shared):
    """54 classes; where the two files of the examples have things, the mask has class 0."""
    root = shared("data/panoptic_sample/sample_data")
    reader = open_reader(
        "coco",
        images=root / "input_images",
        annotations=root / "panoptic_coco_detection_format.json",
        panoptic_masks=root / "panoptic_examples",
        panoptic_annotations=root / "panoptic_examples.json",
    )
    assert "mask" in reader.keys()  # noqa: SIM118 (not a mapping)
    assert reader.semantic is not None
    assert len(reader.semantic.classes) == 54
    names = dict(zip(reader.category_ids, reader.classes, strict=True))
    from pycocotools import mask as coco_mask

    truth = reader.truth()
    for index, sample in enumerate(reader):
        assert set(sample) == set(reader.keys())
        expected = np.full(sample["mask"].shape, 255)
        for annotation in truth["annotations"]:
            if annotation["image_id"] == reader.image_id(index):
                name = names[annotation["category_id"]]
                stuff = name in reader.semantic.classes
                label = reader.semantic.classes.index(name) if stuff else 0
                expected[coco_mask.decode(annotation["segmentation"]) > 0] = label
        np.testing.assert_array_equal(sample["mask"], expected)


def test_both_options_are_needed(shared):
    root = shared("data/panoptic_sample/sample_data")
    with pytest.raises(ValueError, match="give panoptic_masks and panoptic_annotations"):
        open_reader(
            "coco",
            images=root / "input_images",
            annotations=root / "panoptic_coco_detection_format.json",
            panoptic_masks=root / "panoptic_examples",
        )
