"""Objects from masks: instance ids and VOC's, by hand and against pycocotools."""

import numpy as np
import pytest
from PIL import Image

from tfseg.data import DataError, open_reader
from tfseg.data.outlines import fill_outline

IDS = np.zeros((8, 10), np.uint16)
IDS[1:4, 1:5] = 700
IDS[6, 2] = 700  # in two pieces
IDS[2, 2] = 0  # with a hole
IDS[5:8, 6:10] = 2


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


class TestInstanceIds:
    @pytest.fixture
    def root(self, tmp_path):
        image = np.random.default_rng(0).integers(0, 256, (8, 10, 4)).astype(np.uint8)
        for name in ("n1", "n2", "n10"):
            _save(tmp_path / f"images/{name}.png", image)
            _save(tmp_path / f"masks/{name}.png", IDS if name != "n2" else IDS * 0)
        return tmp_path

    def _open(self, root, **options):
        return open_reader("instance_ids", images=root / "images", masks=root / "masks", **options)

    def test_by_hand(self, root):
        reader = self._open(root, class_name="nucleus")
        assert reader.classes == ("nucleus",)
        assert reader.category_ids == (1,)
        sample = reader[2]
        assert set(sample) == set(reader.keys())
        assert sample["name"] == "n10"
        assert sample["image"].shape == (8, 10, 3)
        np.testing.assert_array_equal(sample["boxes"], [[6, 5, 10, 8], [1, 1, 5, 7]])
        np.testing.assert_array_equal(sample["labels"], [0, 0])
        np.testing.assert_array_equal(sample["area"], [12, 12])
        np.testing.assert_array_equal(sample["ids"], [3 * 65536 + 2, 3 * 65536 + 700])
        assert not sample["crowd"].any()
        for edges, number in zip(sample["edges"], (2, 700), strict=True):
            np.testing.assert_array_equal(fill_outline(edges, (8, 10)), number == IDS)

    def test_an_image_without_objects(self, root):
        sample = self._open(root)[1]
        assert sample["boxes"].shape == (0, 4)
        assert sample["edges"].shape == (0, 1, 4)

    def test_subset(self, root):
        reader = self._open(root, subset=[1, 3])
        assert [sample["name"] for sample in reader] == ["n2", "n10"]
        assert [reader.image_id(0), reader.image_id(1)] == [1, 2]
        with pytest.raises(DataError, match=r"subset \[1, 4\) must be .* of its 3 samples"):
            self._open(root, subset=[1, 4])

    def test_truth_is_what_pycocotools_reads(self, root):
        reader = self._open(root)
        coco = _pycocotools(reader.truth())
        assert [image["file_name"] for image in coco.imgs.values()] == [
            "n1.png",
            "n2.png",
            "n10.png",
        ]
        for index, sample in enumerate(reader):
            assert coco.getAnnIds(reader.image_id(index)) == sample["ids"].tolist()
            for place, number in enumerate(sample["ids"].tolist()):
                own = coco.anns[number]
                expected = fill_outline(sample["edges"][place], (8, 10))
                np.testing.assert_array_equal(coco.annToMask(own), expected)
                x1, y1, x2, y2 = sample["boxes"][place]
                assert own["bbox"] == [x1, y1, x2 - x1, y2 - y1]
                assert own["area"] == sample["area"][place]

    def test_mistakes(self, root):
        _save(root / "images/n1.png", np.zeros((9, 10), np.uint8))
        reader = self._open(root)
        with pytest.raises(DataError, match=r"n1\.png is \(8, 10\), its image .* \(9, 10\)"):
            reader[0]
        (root / "masks/n10.png").unlink()
        _save(root / "masks/n10.tif", np.full((8, 10), 70000, np.int32))
        with pytest.raises(DataError, match=r"n10\.tif: ids must be in 0\.\.65535, not 70000"):
            self._open(root)[2]
        (root / "masks/n2.png").unlink()
        with pytest.raises(DataError, match=r"images have no mask: n2\.png"):
            self._open(root)

    def test_nuclei(self, shared):
        root = shared("data/dsb2018")
        train, validation = (
            open_reader(
                "instance_ids",
                images=root / "images",
                masks=root / "labels",
                class_name="nucleus",
                subset=subset,
            )
            for subset in ([0, 160], [160, 200])
        )
        assert (len(train), len(validation)) == (160, 40)
        coco = _pycocotools(validation.truth())
        for index in (0, 17, 39):
            sample = validation[index]
            assert sample["image"].shape[-1] == 3
            for edges, number in zip(sample["edges"], sample["ids"].tolist(), strict=True):
                expected = coco.annToMask(coco.anns[number])
                np.testing.assert_array_equal(fill_outline(edges, expected.shape), expected)


class TestVoc:
    @pytest.fixture
    def root(self, tmp_path):
        """A cat (8) and a person (15) with a void border between them."""
        labels, objects = np.zeros((2, 6, 9), np.uint8)
        labels[1:5, 1:4], objects[1:5, 1:4] = 8, 1
        labels[2:6, 5:9], objects[2:6, 5:9] = 15, 2
        labels[:, 4], objects[:, 4] = 255, 255
        self._files(tmp_path, labels, objects)
        (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\n")
        return tmp_path

    def _files(self, root, labels, objects):
        _save(root / "JPEGImages/a.jpg", np.zeros((6, 9, 3), np.uint8))
        _save(root / "SegmentationClass/a.png", labels)
        _save(root / "SegmentationObject/a.png", objects)

    def test_by_hand(self, root):
        reader = open_reader("voc_instances", root=root)
        assert len(reader.classes) == 20
        assert reader.colors.shape == (20, 3)
        sample = reader[0]
        assert set(sample) == set(reader.keys())
        assert [reader.classes[label] for label in sample["labels"]] == ["cat", "person"]
        np.testing.assert_array_equal(sample["boxes"], [[1, 1, 4, 5], [5, 2, 9, 6]])
        np.testing.assert_array_equal(sample["ids"], [65537, 65538])
        categories = {c["id"]: c["name"] for c in reader.truth()["categories"]}
        assert [categories[a["category_id"]] for a in reader.truth()["annotations"]] == [
            "cat",
            "person",
        ]

    def test_mistakes(self, root):
        (root / "SegmentationObject/a.png").unlink()
        with pytest.raises(DataError, match=r"1 masks are missing: .*SegmentationObject/a\.png"):
            open_reader("voc_instances", root=root)
        self._files(root, np.full((6, 9), 33, np.uint8), np.ones((6, 9), np.uint8))
        with pytest.raises(DataError, match=r"SegmentationClass/a\.png: label 33 is no class"):
            open_reader("voc_instances", root=root)[0]

    def test_real_masks(self, shared, tmp_path):
        root = shared("data/voc_palette")
        split = tmp_path / "all.txt"
        names = sorted(path.stem for path in (root / "JPEGImages").iterdir())
        split.write_text("\n".join(names))
        reader = open_reader("voc_instances", root=root, split=str(split))
        assert len(reader) == 3
        for sample in reader:
            labels, objects = (
                np.array(Image.open(root / folder / f"{sample['name']}.png"))
                for folder in ("SegmentationClass", "SegmentationObject")
            )
            masks = [fill_outline(edges, labels.shape) for edges in sample["edges"]]
            assert len(masks) == len(set(np.unique(objects)) - {0, 255})
            np.testing.assert_array_equal(np.sum(masks, 0), (objects > 0) & (objects < 255))
            for mask, label in zip(masks, sample["labels"], strict=True):
                assert set(np.unique(labels[mask])) == {label + 1}


def _pycocotools(tree):
    from pycocotools.coco import COCO

    coco = COCO()
    coco.dataset = tree
    coco.createIndex()
    return coco
