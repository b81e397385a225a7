"""Semantic labels beside objects: flattened from them, and COCO-Stuff's pixel maps."""

import json

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from tfseg.data import DataError, open_reader
from tfseg.data.detection import detection_dataset
from tfseg.data.outlines import mask_outline, stack_outlines
from tfseg.data.readers.cocostuff_labels import STUFF
from tfseg.data.regions import region_of
from tfseg.data.semantic_labels import flattened, with_semantic_labels
from tfseg.data.transforms import make_transforms
from tfseg.registry import Preprocessing

SIZE = (12, 16)


def _square(x1, y1, x2, y2):
    mask = np.zeros(SIZE, bool)
    mask[y1:y2, x1:x2] = True
    return mask


def _sample(masks, labels, crowd=None):
    return {
        "image": np.zeros((*SIZE, 3), np.uint8),
        "labels": np.array(labels, np.int32),
        "crowd": np.zeros(len(labels), bool) if crowd is None else np.array(crowd),
        "edges": stack_outlines([mask_outline(region_of(mask)) for mask in masks]),
    }


class TestFlattened:
    def test_the_small_lie_on_the_large_and_void_below_all(self):
        small, large, void = _square(2, 2, 5, 5), _square(1, 1, 9, 9), _square(0, 0, 4, 12)
        expected = np.zeros(SIZE, int)
        expected[:, 0:4] = 77
        expected[1:9, 1:9] = 1
        expected[2:5, 2:5] = 4
        for order in ((0, 1), (1, 0)):
            masks, labels = [[small, large][i] for i in order], [[3, 0][i] for i in order]
            mask = flattened(_sample(masks, labels), void, 77)
            np.testing.assert_array_equal(mask, expected)
        assert mask.dtype == np.int32

    def test_of_two_as_large_the_later_is_on_top(self):
        masks = [_square(0, 0, 4, 4), _square(2, 2, 6, 6)]
        mask = flattened(_sample(masks, [5, 6]), _square(0, 0, 0, 0), 255)
        assert (mask[2:4, 2:4] == 7).all()
        assert (mask[:2, :4] == 6).all()
        assert not mask[6:].any()

    def test_size_is_what_the_image_has_of_an_object(self):
        """Large objects of which the image has little are small."""
        sample = _sample([_square(0, 0, 5, 5), _square(0, 0, 4, 4)], [0, 1])
        sample["edges"][1] += np.array([-3, 0, -3, 0], np.float32)  # one column is left
        sample["edges"][1] *= np.array([1, 5, 1, 5], np.float32)
        mask = flattened(sample, _square(0, 0, 0, 0), 255)
        assert (mask[:, 0] == 2).all()
        assert (mask[:5, 1:5] == 1).all()

    def test_crowds_and_objects_without_pixels_leave_nothing(self):
        masks = [_square(0, 0, 9, 9), _square(0, 0, 0, 0)]
        mask = flattened(_sample(masks, [0, 1], [True, False]), _square(0, 0, 0, 0), 255)
        assert not mask.any()
        assert flattened(_sample([], []), _square(0, 0, 2, 2), 255)[1, 1] == 255


def _annotation(number, category, bbox, segmentation, **more):
    entry = {"id": number, "image_id": 9, "category_id": category, "bbox": bbox, "area": 1}
    return entry | {"iscrowd": 0, "segmentation": segmentation} | more


def _polygon(x1, y1, x2, y2):
    return [[x1, y1, x2, y1, x2, y2, x1, y2]]


def _tree():
    """Image 9, a.png, with two objects and a crowd in its last two columns; image 4 with none."""
    crowd = {"size": [*SIZE], "counts": [14 * 12, 2 * 12]}
    return {
        "images": [
            {"id": 9, "file_name": "a.png", "height": 12, "width": 16},
            {"id": 4, "file_name": "c.png", "height": 8, "width": 8},
        ],
        "categories": [{"id": 3, "name": "person"}, {"id": 7, "name": "cat"}],
        "annotations": [
            _annotation(1, 7, [12, 4, 3, 3], _polygon(12, 4, 15, 7)),
            _annotation(2, 3, [1, 1, 6, 8], _polygon(1, 1, 7, 9)),
            _annotation(3, 3, [14, 0, 2, 12], crowd, iscrowd=1),
        ],
    }


@pytest.fixture
def open_tree(tmp_path):
    """Opens the reader on a tree as above, after a change of it."""
    (tmp_path / "images").mkdir()
    color = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    Image.fromarray(color).save(tmp_path / "images/a.png")
    Image.fromarray(color[:8, :8]).save(tmp_path / "images/c.png")

    def opened(change=lambda tree: None, **options):
        tree = _tree()
        change(tree)
        (tmp_path / "i.json").write_text(json.dumps(tree))
        files = {"images": tmp_path / "images", "annotations": tmp_path / "i.json"}
        return open_reader("coco", **files, **options)

    return opened


class TestInstances:
    def test_coco(self, open_tree):
        plain = open_tree(ignore_label=99)
        reader = with_semantic_labels(plain, "instances")
        expected = np.zeros(SIZE, int)
        expected[:, 14:] = 99
        expected[1:9, 1:7] = 1
        expected[4:7, 12:15] = 2  # the cat, upon the crowd
        np.testing.assert_array_equal(reader[1]["mask"], expected)
        assert not reader[0]["mask"].any()
        assert reader[0]["mask"].shape == (8, 8)

        assert reader.semantic_classes == ("background", "person", "cat")
        assert plain.semantic_classes == ()
        assert reader.keys() == (*plain.keys(), "mask")
        assert set(reader[1]) == set(reader.keys())
        assert "mask" not in plain[1]
        assert len(reader) == 2
        assert [sample["name"] for sample in reader] == ["c", "a"]
        for name in ("classes", "category_ids", "colors", "skeleton", "flip_pairs", "semantic"):
            assert getattr(reader, name) == getattr(plain, name)
        assert (reader.image_id(1), reader.truth()) == (9, plain.truth())
        assert sorted(reader.known_images()) == [4, 9]
        with pytest.raises(AttributeError, match="no_such"):
            reader.no_such  # noqa: B018
        with pytest.raises(IndexError):
            reader[2]

    @pytest.mark.parametrize(
        ("segmentation", "expected"),
        [
            (_polygon(10, 2, 12, 6), _square(10, 2, 12, 6)),
            ([], _square(13, 0, 16, 12)),
            (None, _square(13, 0, 16, 12)),
        ],
    )
    def test_crowds_are_what_their_segmentation_or_box_has(self, open_tree, segmentation, expected):
        def change(tree):
            tree["annotations"][2] |= {"segmentation": segmentation, "bbox": [13.4, 0, 2.6, 12]}

        reader = open_tree(change)
        np.testing.assert_array_equal(reader.void_mask(1, SIZE), expected)
        boxes = open_tree(change, masks=False)
        np.testing.assert_array_equal(boxes.void_mask(1, SIZE), _square(13, 0, 16, 12))

    def test_a_damaged_crowd(self, open_tree):
        def change(tree):
            tree["annotations"][2]["segmentation"]["counts"] = [5]

        reader = with_semantic_labels(open_tree(change), "instances")
        with pytest.raises(DataError, match=r"i\.json: annotation 3: the RLE's runs do not fill"):
            reader[1]

    def test_instance_ids(self, tmp_path):
        ids = np.zeros((8, 10), np.uint16)
        ids[1:4, 1:5], ids[5:8, 6:10] = 7, 2
        for folder, pixels in (("images", ids.astype(np.uint8)), ("masks", ids)):
            (tmp_path / folder).mkdir()
            Image.fromarray(pixels).save(tmp_path / folder / "a.png")
        files = {name: tmp_path / name for name in ("images", "masks")}
        reader = with_semantic_labels(open_reader("instance_ids", **files), "instances")
        np.testing.assert_array_equal(reader[0]["mask"], ids > 0)
        assert reader.semantic_classes == ("background", "object")

    def test_vocs_void_border_has_no_label(self, tmp_path):
        labels, objects = np.zeros((10, 12), np.uint8), np.zeros((10, 12), np.uint8)
        labels[2:6, 2:6], objects[2:6, 2:6] = 15, 1
        for mask in (labels, objects):
            mask[1, 2:6] = 255
        for folder, pixels in (
            ("SegmentationClass", labels),
            ("SegmentationObject", objects),
            ("JPEGImages", labels),
        ):
            (tmp_path / folder).mkdir()
            suffix = "jpg" if folder == "JPEGImages" else "png"
            Image.fromarray(pixels).save(tmp_path / folder / f"a.{suffix}")
        (tmp_path / "ImageSets/Segmentation").mkdir(parents=True)
        (tmp_path / "ImageSets/Segmentation/train.txt").write_text("a\n")
        plain = open_reader("voc_instances", root=tmp_path)
        reader = with_semantic_labels(plain, "instances")
        np.testing.assert_array_equal(reader[0]["mask"], labels)  # person is 15 in both
        assert len(reader.semantic_classes) == 21
        with pytest.raises(DataError, match=r"a\.png is \(10, 12\), its image \(3, 3\)"):
            plain.void_mask(0, (3, 3))

    def test_mistakes(self, open_tree):
        with pytest.raises(ValueError, match=r"no outlines to make masks from \(masks: true\)"):
            with_semantic_labels(open_tree(masks=False), "instances")
        with pytest.raises(ValueError, match="ignore_label 2 is a label of the 2 classes and"):
            with_semantic_labels(open_tree(ignore_label=2), "instances")
        with_semantic_labels(open_tree(ignore_label=3), "instances")

    def test_coco_images_against_pycocotools(self, shared):
        from pycocotools.coco import COCO

        root = shared("data/coco128")
        coco = COCO(root / "instances.json")
        files = {"images": root / "images", "annotations": root / "instances.json"}
        plain = open_reader("coco", **files, subset=[0, 30])
        reader = with_semantic_labels(plain, "instances")
        differing, pixels, void = 0, 0, 0
        for index in range(len(reader)):
            mask = reader[index]["mask"]
            expected = np.zeros(mask.shape, int)
            found = coco.loadAnns(coco.getAnnIds(imgIds=reader.image_id(index)))
            for annotation in found:
                if annotation["iscrowd"]:
                    expected[coco.annToMask(annotation) > 0] = 255
            objects = [a for a in found if not a["iscrowd"]]
            for annotation in sorted(objects, key=lambda a: -a["area"]):
                label = 1 + reader.category_ids.index(annotation["category_id"])
                expected[coco.annToMask(annotation) > 0] = label
            differing += (mask != expected).sum()
            pixels += mask.size
            void += (mask == 255).sum()
        # pycocotools includes pixels that polygons only touch.
        assert differing / pixels < 0.01
        assert (void > 0) == any(plain[i]["crowd"].any() for i in range(len(plain)))


class TestMoved:
    @pytest.mark.parametrize("seed", range(3))
    @pytest.mark.parametrize(
        "spec",
        [
            {"flip": {"probability": 1.0, "vertical": True}},
            {"crop": {"size": [9, 7]}},
            {"resize": {"size": [36, 48]}},
            {"rotate90": {}},
        ],
    )
    def test_labels_stay_on_their_objects(self, open_tree, spec, seed):
        """The moved mask is what the moved objects give."""

        def two_apart(tree):
            tree["annotations"].pop()

        reader = with_semantic_labels(open_tree(two_apart), "instances")
        sample = {key: tf.constant(value) for key, value in reader[1].items()}
        (transform,) = make_transforms([spec])
        out = {k: v.numpy() for k, v in transform(sample, tf.constant([seed, 5])).items()}
        void = np.zeros(out["image"].shape[:2], bool)
        np.testing.assert_array_equal(out["mask"], flattened(out, void, 255))

    def test_batches(self, open_tree):
        reader = with_semantic_labels(open_tree(ignore_label=99), "instances")
        dataset = detection_dataset(
            reader,
            [],
            preprocessing=Preprocessing("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
            batch_size=2,
            seed=0,
            semantic=True,
        )
        (batch,) = dataset.take(1).as_numpy_iterator()
        assert batch["mask"].shape == (2, 32, 32)
        for name, mask in zip(batch["name"], batch["mask"], strict=True):
            expected = reader[1 if name == b"a" else 0]["mask"]
            height, width = expected.shape
            np.testing.assert_array_equal(mask[:height, :width], expected)
            assert (mask[height:] == 99).all()
            assert (mask[:, width:] == 99).all()


class TestPixelMaps:
    @pytest.fixture
    def maps(self, tmp_path):
        """A map of image 9: person, bicycle, stop sign, wood, unlabeled."""
        stored = np.zeros(SIZE, np.uint8)
        stored[0, :5] = [0, 1, 12, 181, 255]
        (tmp_path / "maps").mkdir()
        Image.fromarray(stored).save(tmp_path / "maps/a.png")
        return tmp_path / "maps"

    def test_by_hand(self, open_tree, maps):
        reader = open_tree(semantic_masks=maps, ignore_label=200)
        assert with_semantic_labels(reader, "masks") is reader
        names = reader.semantic_classes
        assert len(names) == 171
        assert names[-len(STUFF) :] == STUFF
        mask = reader[1]["mask"]
        assert mask.dtype == np.int32
        # street sign, 11, is no class
        np.testing.assert_array_equal(mask[0, :5], [0, 1, 11, 170, 200])
        assert [names[i] for i in (1, 11, 170)] == ["bicycle", "stop sign", "wood"]
        assert not mask[1:].any()
        assert set(reader[1]) == set(reader.keys())

    def test_an_image_without_map_has_no_labels(self, open_tree, maps):
        mask = open_tree(semantic_masks=maps)[0]["mask"]
        np.testing.assert_array_equal(mask, np.full((8, 8), 255))

    def test_labels_from_the_objects_take_their_place(self, open_tree, maps):
        reader = with_semantic_labels(open_tree(semantic_masks=maps), "instances")
        assert len(reader.semantic_classes) == 3
        assert reader[1]["mask"][4, 13] == 2
        assert reader.keys().count("mask") == 1

    def test_mistakes(self, open_tree, maps):
        with pytest.raises(ValueError, match="the reader has no masks; give 'coco' semantic_masks"):
            with_semantic_labels(open_tree(), "masks")
        with pytest.raises(ValueError, match="ignore_label 170 is a semantic class, one of 171"):
            open_tree(semantic_masks=maps, ignore_label=170)
        with pytest.raises(DataError, match="no_maps is missing"):
            open_tree(semantic_masks=maps.parent / "no_maps")
        Image.fromarray(np.full(SIZE, 11, np.uint8)).save(maps / "a.png")
        with pytest.raises(DataError, match=r"a\.png: stored label 11 \(192 pixels\) is no class"):
            open_tree(semantic_masks=maps)[1]
        Image.fromarray(np.zeros((3, 4), np.uint8)).save(maps / "a.png")
        with pytest.raises(DataError, match=r"a\.png is \(3, 4\), its image \(12, 16\)"):
            open_tree(semantic_masks=maps)[1]
        (maps / "a.png").rename(maps / "b.png")
        message = r"maps has a pixel map of none of the 2 images: there is no c\.png, nor"
        with pytest.raises(DataError, match=message):
            open_tree(semantic_masks=maps)

    def test_panoptic_masks_are_masks_too(self, shared, maps):
        root = shared("data/panoptic_sample/sample_data")
        options = {
            "images": root / "input_images",
            "annotations": root / "panoptic_coco_detection_format.json",
            "panoptic_masks": root / "panoptic_examples",
            "panoptic_annotations": root / "panoptic_examples.json",
        }
        reader = with_semantic_labels(open_reader("coco", **options), "masks")
        assert reader.semantic_classes == reader.semantic.classes
        assert len(reader.semantic_classes) == 54
        with pytest.raises(ValueError, match="give panoptic_masks or semantic_masks"):
            open_reader("coco", **options, semantic_masks=maps)
