"""COCO's format: a file by hand and its mistakes, real files against pycocotools."""

import json
import logging

import numpy as np
import pytest
from PIL import Image

from tfseg.data import DataError, open_reader
from tfseg.data.outlines import fill_outline
from tfseg.data.readers.coco import mirror_pairs
from tfseg.data.readers.coco_json import CocoImage, image_path


def _tree():
    """Image 9 (a.png, 12 x 16) with four objects, image 4 (b/c.png, gray, 8 x 8) with none."""
    return {
        "info": {"year": 2017},
        "images": [
            {"id": 9, "file_name": "a.png", "height": 12, "width": 16, "license": 3},
            {"id": 4, "file_name": "b/c.png", "height": 8, "width": 8},
        ],
        "categories": [
            {"id": 7, "name": "cat", "supercategory": "animal"},
            {"id": 3, "name": "person"},
        ],
        "annotations": [
            _annotation(20, 7, [1, 1, 4, 3], segmentation=[[1, 1, 5, 1, 5, 4, 1, 4]]),
            # two overlapping squares
            _annotation(
                10,
                3,
                [6, 2, 6, 6],
                segmentation=[[6, 2, 10, 2, 10, 6, 6, 6], [8, 4, 12, 4, 12, 8, 8, 8]],
            ),
            # rows 2 and 3 of column 1
            _annotation(
                30, 3, [1, 2, 1, 2], segmentation={"size": [12, 16], "counts": [14, 2, 176]}
            ),
            _annotation(
                40, 7, [0, 8, 9, 4], iscrowd=1, segmentation={"size": [12, 16], "counts": [192]}
            ),
        ],
    }


def _annotation(number, category, bbox, **more):
    area = bbox[2] * bbox[3]
    base = {"id": number, "image_id": 9, "category_id": category, "bbox": bbox, "area": area}
    return {**base, "iscrowd": 0, **more}


@pytest.fixture
def open_tree(tmp_path):
    """Opens the reader on a tree as above, after a change of it."""
    (tmp_path / "images/b").mkdir(parents=True)
    color = np.random.default_rng(0).integers(0, 256, (12, 16, 3)).astype(np.uint8)
    Image.fromarray(color).save(tmp_path / "images/a.png")
    Image.fromarray(color[:8, :8, 0]).save(tmp_path / "images/b/c.png")

    def opened(change=lambda tree: None, **options):
        tree = _tree()
        change(tree)
        file = tmp_path / "instances.json"
        file.write_text(json.dumps(tree))
        return open_reader("coco", images=tmp_path / "images", annotations=file, **options)

    return opened


def test_by_hand(open_tree):
    reader = open_tree()
    assert reader.classes == ("person", "cat")
    assert reader.category_ids == (3, 7)
    assert [reader.image_id(0), reader.image_id(1)] == [4, 9]
    sample = reader[1]
    assert set(sample) == set(reader.keys())
    assert sample["name"] == "a"
    np.testing.assert_array_equal(sample["ids"], [20, 10, 30, 40])
    np.testing.assert_array_equal(
        sample["boxes"], [[1, 1, 5, 4], [6, 2, 12, 8], [1, 2, 2, 4], [0, 8, 9, 12]]
    )
    np.testing.assert_array_equal(sample["labels"], [1, 0, 0, 1])
    np.testing.assert_array_equal(sample["crowd"], [False, False, False, True])
    np.testing.assert_array_equal(sample["area"], [12, 36, 2, 36])
    masks = np.zeros((4, 12, 16), bool)
    masks[0, 1:4, 1:5] = True
    masks[1, 2:6, 6:10] = masks[1, 4:8, 8:12] = True
    masks[2, 2:4, 1] = True  # the crowd, 3, has no outline
    for edges, mask in zip(sample["edges"], masks, strict=True):
        np.testing.assert_array_equal(fill_outline(edges, (12, 16)), mask)
    dtypes = {key: np.asarray(value).dtype.name for key, value in sample.items() if key != "name"}
    assert dtypes == {
        "image": "uint8",
        "boxes": "float32",
        "labels": "int32",
        "crowd": "bool",
        "area": "float32",
        "ids": "int64",
        "edges": "float32",
    }


def test_an_image_without_objects(open_tree):
    sample = open_tree()[0]
    assert sample["name"] == "b_c"
    assert sample["image"].shape == (8, 8, 3)  # gray in the file
    assert sample["boxes"].shape == (0, 4)
    assert sample["edges"].shape == (0, 1, 4)
    assert len(sample["labels"]) == len(sample["crowd"]) == len(sample["ids"]) == 0


def test_boxes_alone(open_tree):
    def without(tree):
        for annotation in tree["annotations"]:
            del annotation["segmentation"]

    reader = open_tree(without, masks=False)
    assert "edges" not in reader.keys()  # noqa: SIM118 (not a mapping)
    assert set(reader[1]) == set(reader.keys())
    with pytest.raises(DataError, match=r"3 annotations have no segmentation .*: 20, 10, 30"):
        open_tree(without)


def test_splits(open_tree):
    assert [s["name"] for s in open_tree(subset=[1, 2])] == ["a"]
    assert [s["name"] for s in open_tree(only_labelled=True)] == ["a"]

    def crowd(tree):
        tree["annotations"] = tree["annotations"][3:]

    assert len(open_tree(crowd)) == 2
    with pytest.raises(DataError, match="none with labelled objects"):
        open_tree(crowd, only_labelled=True)


def test_truth_is_the_files_own(open_tree):
    tree = _tree()
    truth = open_tree().truth()
    assert truth == {key: tree[key] for key in ("images", "categories", "annotations")}
    cut = open_tree(subset=[0, 1]).truth()
    assert [image["id"] for image in cut["images"]] == [4]
    assert cut["annotations"] == []
    assert cut["categories"] == tree["categories"]


def test_lvis(open_tree, tmp_path):
    """No iscrowd, images by their address, federated keys, more classes than the ignore label."""

    def federated(tree):
        for image in tree["images"]:
            name = image.pop("file_name").split("/")[-1]
            image["coco_url"] = f"http://images.cocodataset.org/b/{name}"
            image["neg_category_ids"], image["not_exhaustive_category_ids"] = [3], []
        for annotation in tree["annotations"]:
            del annotation["iscrowd"]
        tree["categories"] += [
            {"id": 100 + i, "name": str(i), "frequency": "r", "synset": "x"} for i in range(300)
        ]
        tree["annotations"].pop()

    reader = open_tree(federated)
    assert len(reader.classes) == 302
    assert [sample["name"] for sample in reader] == ["b_c", "a"]  # b/c.png, and a.png itself
    assert not reader[1]["crowd"].any()
    assert {annotation["iscrowd"] for annotation in reader.truth()["annotations"]} == {0}


def _change(path, **values):
    """A change of a tree: values of the entry at a path as in "annotations.0"."""
    key, index = path.split(".")
    return lambda tree: tree[key][int(index)].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_change("annotations.2", category_id=8), r"unknown categories: 30 \(category 8\)"),
        (_change("annotations.2", image_id=5), r"unknown images: 30 \(image 5\)"),
        (_change("annotations.2", id=10), "1 annotation ids are there twice: 10"),
        (_change("images.0", id=4), "1 image ids are there twice: 4"),
        (_change("categories.0", id=3), "1 category ids are there twice: 3"),
        (_change("categories.0", name="person"), "1 category names are there twice: person"),
        (
            _change("annotations.0", segmentation=[[1, 1, 5, 1, 5, 4], [1, 2, 3, 4]]),
            "1 annotations have a polygon of fewer than 3 points.*: 20",
        ),
        (_change("annotations.0", segmentation=[[1, 1, 5, 1, 5, 4, 3]]), "odd count.*: 20"),
        (_change("annotations.0", segmentation=[]), "no segmentation .*: 20"),
        (
            _change("annotations.2", segmentation={"size": [16, 12], "counts": [192]}),
            r"RLE of another size than their image: 30 \(\[16, 12\], image \[12, 16\]\)",
        ),
        (_change("images.1", file_name="d.png"), r"1 images are missing: .*images/d\.png"),
        (_change("images.1", file_name="../a.png"), r"image 4: its file_name .* leads out"),
        (_change("images.1", file_name="/etc/a.png"), r"image 4: its file_name .* leads out"),
        (_change("images.1", file_name=None), "image 4: it has neither a file_name nor a coco_url"),
        (_change("images.1", file_name="a.png"), r"listed under two ids: .*images/a\.png"),
        (_change("images.1", height=0), r"images\.1\.height: .*greater than 0 \(.*id 4\)"),
        (_change("images.1", height=10**9), "1 images have more than 178,956,970 pixels: 4"),
        (_change("annotations.0", bbox=[1, 2, 3]), r"annotations\.0\.bbox.*id 20"),
        (_change("annotations.0", bbox="1234"), r"annotations\.0\.bbox: .*id 20"),
        (_change("annotations.0", bbox=[1, 2, 3, "4"]), r"annotations\.0\.bbox\.3.*id 20"),
        (_change("annotations.0", bbox=[1, 2, 3, float("nan")]), r"bbox\.3: .*id 20"),
        (_change("annotations.0", bbox=[1, 2, 3, 1e30]), r"bbox\.3: .*less than.*id 20"),
        (_change("annotations.0", segmentation=[[1, 1, 5, 1, 5, 1e300]]), "segmentation.*id 20"),
        (_change("annotations.0", segmentation="x"), r"annotations\.0\.segmentation.*id 20"),
        (_change("annotations.0", iscrowd=2), r"annotations\.0\.iscrowd.*id 20"),
        (_change("annotations.0", id=2**70), r"annotations\.0\.id"),
        (lambda t: t["annotations"][0].pop("area"), r"annotations\.0\.area: Field required.*id 20"),
        (lambda t: t["annotations"].append(5), r"annotations\.4: "),
        (lambda t: t.pop("images"), "is no JSON of COCO's format: images: Field required"),
        (lambda t: t["categories"].clear(), "instances.json has no categories"),
    ],
)
def test_mistakes_are_found_on_opening(open_tree, change, message):
    with pytest.raises(DataError, match=message):
        open_tree(change)


def test_files_that_are_no_json(open_tree, tmp_path):
    file = tmp_path / "other.json"
    with pytest.raises(DataError, match=r"the label file .*other\.json is missing"):
        open_reader("coco", images=tmp_path, annotations=file)
    for text in ("", "[1, 2]", '{"images": ', "[" * 100_000):
        file.write_text(text)
        with pytest.raises(DataError, match=r"other\.json is no JSON of COCO's format: the file"):
            open_reader("coco", images=tmp_path, annotations=file)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [12, 16], "counts": [14, 2]}, "annotation 30: the RLE's runs do not fill"),
        ({"size": [12, 16], "counts": "\u00e9"}, "annotation 30: the RLE's .*"),
        ({"size": [12, 16], "counts": "p"}, "annotation 30: the RLE's string is damaged"),
    ],
)
def test_mistakes_are_found_on_reading(open_tree, segmentation, message):
    reader = open_tree(_change("annotations.2", segmentation=segmentation))
    with pytest.raises(DataError, match=message):
        reader[1]


def test_images_have_the_size_that_the_file_says(open_tree):
    def change(tree):
        tree["images"][1]["height"] = 9

    with pytest.raises(DataError, match=r"c\.png has 8 rows x 8 columns, but image 4 .* 9 x 8"):
        open_tree(change)[0]


def test_boxes_are_clipped_or_left_out_and_counted(open_tree, caplog):
    def change(tree):
        for annotation, bbox in zip(
            tree["annotations"],
            ([-2, 1, 6, 3], [6, 2, 0, 6], [14, 10, 1, -3], [16, 3, 4, 4]),
            strict=True,
        ):
            annotation["bbox"] = bbox
        tree["annotations"].append(_annotation(50, 3, [10, 8, 6.01, 4], segmentation=[[1] * 6]))

    with caplog.at_level(logging.WARNING):
        sample = open_tree(change)[1]
    np.testing.assert_allclose(sample["boxes"], [[0, 1, 4, 4], [10, 8, 16, 12]])
    np.testing.assert_array_equal(sample["ids"], [20, 50])
    (record,) = caplog.records
    assert "1 boxes are clipped to their images (annotations 20)" in record.message
    assert "3 objects are left out" in record.message
    assert "(annotations 10, 30, 40)" in record.message


class TestKeypoints:
    names = ("nose", "left_eye", "right_eye")

    def _persons(self, tree):
        tree["categories"] = [
            {"id": 3, "name": "person", "keypoints": list(self.names), "skeleton": [[2, 3], [1, 2]]}
        ]
        tree["annotations"] = tree["annotations"][1:3]
        tree["annotations"][0]["keypoints"] = [7, 3, 2, 8, 4, 1, 0, 0, 0]

    def test_by_hand(self, open_tree):
        reader = open_tree(self._persons, keypoints=True)
        assert reader.keypoint_names == self.names
        assert reader.skeleton == ((1, 2), (0, 1))
        assert reader.flip_pairs == ((1, 2),)
        sample = reader[1]
        assert set(sample) == set(reader.keys())
        np.testing.assert_array_equal(
            sample["keypoints"],
            [[[7.5, 3.5, 2], [8.5, 4.5, 1], [0.5, 0.5, 0]], np.zeros((3, 3))],
        )
        assert reader[0]["keypoints"].shape == (0, 3, 3)

    def test_only_labelled_images(self, open_tree):
        def hidden(tree):
            self._persons(tree)
            tree["annotations"][0]["keypoints"] = [0] * 9

        assert len(open_tree(self._persons, keypoints=True, only_labelled=True)) == 1
        with pytest.raises(DataError, match="none with labelled objects"):
            open_tree(hidden, keypoints=True, only_labelled=True)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (_change("annotations.0", keypoints=[1, 2, 2]), r"not 3 keypoints .*: 10 \(3\)"),
            (_change("annotations.0", keypoints=[1, 2, 3] * 3), "visibility that is not 0, 1.*10"),
            (_change("annotations.0", keypoints="x"), r"annotations\.0\.keypoints.*id 10"),
            (_change("categories.0", keypoints=None), r"categories have other .*person \(0\)"),
            (_change("categories.0", skeleton=[[1, 4]]), "a skeleton of keypoints beyond 3"),
        ],
    )
    def test_mistakes(self, open_tree, change, message):
        def both(tree):
            self._persons(tree)
            change(tree)

        with pytest.raises(DataError, match=message):
            open_tree(both, keypoints=True)


def test_mirror_pairs_need_both_sides():
    assert mirror_pairs(("left_a", "b", "right_a", "left_c")) == ((0, 2),)


def test_lvis_paths(tmp_path):
    image = CocoImage(1, 2, 3, coco_url="http://images.cocodataset.org/train2017/7.jpg")
    assert image_path(image, tmp_path) == tmp_path / "7.jpg"
    (tmp_path / "train2017").mkdir()
    (tmp_path / "train2017/7.jpg").touch()
    assert image_path(image, tmp_path) == tmp_path / "train2017/7.jpg"


class TestRealFiles:
    def test_coco128_against_pycocotools(self, shared):
        root = shared("data/coco128")
        coco = _pycocotools(root / "instances.json")
        reader = open_reader("coco", images=root / "images", annotations=root / "instances.json")
        assert len(reader) == 100
        assert list(reader.category_ids) == sorted(coco.cats)
        agreements, count = [], 0
        for index in range(len(reader)):
            sample = reader[index]
            count += len(sample["ids"])
            for place, number in enumerate(sample["ids"].tolist()):
                own = coco.anns[number]
                assert own["image_id"] == reader.image_id(index)
                assert reader.category_ids[sample["labels"][place]] == own["category_id"]
                x, y, width, height = own["bbox"]
                np.testing.assert_allclose(
                    sample["boxes"][place], [x, y, x + width, y + height], atol=0.01
                )
                assert sample["crowd"][place] == own["iscrowd"]
                if not own["iscrowd"]:
                    expected = coco.annToMask(own).astype(bool)
                    filled = fill_outline(sample["edges"][place], expected.shape)
                    wrong = np.count_nonzero(filled != expected)
                    # pycocotools rounds the outline to a fifth of a pixel.
                    steps = sample["edges"][place][:, 2:] - sample["edges"][place][:, :2]
                    assert wrong <= 2 + 0.2 * np.hypot(*steps.T).sum()
                    agreements.append(1 - wrong / np.count_nonzero(filled | expected))
        assert count == len(coco.anns) == 742
        assert np.mean(agreements) > 0.99

    def test_keypoints(self, shared):
        root = shared("data/coco_keypoints")
        reader = open_reader(
            "coco", images=root, annotations=root / "test_coco.json", keypoints=True
        )
        assert len(reader.keypoint_names) == 17
        assert len(reader.flip_pairs) == 8
        assert all(
            reader.keypoint_names[a][5:] == reader.keypoint_names[b][6:]
            for a, b in reader.flip_pairs
        )
        stored = {a["id"]: a["keypoints"] for a in reader.truth()["annotations"]}
        for sample in reader:
            for number, points in zip(sample["ids"].tolist(), sample["keypoints"], strict=True):
                np.testing.assert_array_equal(
                    points - [0.5, 0.5, 0], np.reshape(stored.pop(number), (17, 3))
                )
        assert not stored


def _pycocotools(file):
    from pycocotools.coco import COCO

    return COCO(file)
