"""Readers: what they find, and what the errors say."""

import re

import numpy as np
import pytest
from PIL import Image

from tfseg.data import DataError, list_readers, open_reader
from tfseg.data.readers import BaseReader, register_reader
from tfseg.data.readers.voc import voc_palette


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


@pytest.fixture
def pairs(tmp_path):
    """Three gray images and masks; the mask of number n is full of n."""
    for n in (1, 2, 10):
        save(tmp_path / f"images/{n}.png", np.full((4, 6), 100 + n))
        save(tmp_path / f"masks/{n}.png", np.full((4, 6), n))
    return {"images": tmp_path / "images", "masks": tmp_path / "masks"}


class TestRegistry:
    def test_names(self):
        assert set(list_readers()) >= {"camvid", "folder", "isbi", "shapes", "voc"}

    def test_unknown_reader(self):
        with pytest.raises(ValueError, match="unknown reader 'camvit'; did you mean 'camvid'"):
            open_reader("camvit")

    def test_unknown_option(self):
        with pytest.raises(ValueError, match="no option 'cuont'; did you mean 'count'"):
            open_reader("shapes", cuont=3)

    def test_option_of_a_wrong_type(self):
        with pytest.raises(ValueError, match=r"count: .*valid integer.*got 'many'"):
            open_reader("shapes", count="many")

    def test_missing_option(self):
        with pytest.raises(ValueError, match="root: Field required"):
            open_reader("voc")

    def test_name_taken(self):
        with pytest.raises(ValueError, match="'voc' is registered twice"):
            register_reader("voc")(BaseReader)

    @pytest.mark.parametrize(
        ("classes", "ignore_label", "message"),
        [
            (["a", "b"], 1, r"ignore_label 1 is the id of class 'b'; it must be none of 0\.\.1"),
            (["a", "b", "a"], 255, r"named twice: \['a'\]"),
            ([], 255, "no classes"),
        ],
    )
    def test_classes(self, classes, ignore_label, message):
        with pytest.raises(ValueError, match=message):
            BaseReader(classes, None, ignore_label)


class TestFolder:
    def test_natural_order_and_content(self, pairs):
        reader = open_reader("folder", num_classes=11, **pairs)
        assert [s["name"] for s in reader] == ["1", "2", "10"]
        assert reader.keys() == tuple(reader[0]) == ("name", "image", "mask")
        assert reader.classes[:2] == ("0", "1")
        assert reader.colors is None
        image, mask = reader[2]["image"], reader[2]["mask"]
        assert (image.shape, image.dtype) == ((4, 6, 1), np.uint8)
        assert (mask.shape, mask.dtype) == ((4, 6), np.int32)
        assert np.all(image == 110)
        assert np.all(mask == 10)
        with pytest.raises(IndexError):
            reader[3]

    def test_subset(self, pairs):
        reader = open_reader("folder", num_classes=11, subset=[1, 3], **pairs)
        assert [s["name"] for s in reader] == ["2", "10"]

    @pytest.mark.parametrize("subset", [[0, 4], [2, 2], [-1, 2], [3, 4]])
    def test_subset_out_of_range(self, pairs, subset):
        with pytest.raises(DataError, match=r"part of its 3 samples, \[0, 3\)"):
            open_reader("folder", num_classes=11, subset=subset, **pairs)

    def test_split_list(self, pairs, tmp_path):
        (tmp_path / "list.txt").write_bytes(b"10\r\n\r\n 1 \n")
        options = {"num_classes": 11, "split_list": tmp_path / "list.txt", **pairs}
        assert [s["name"] for s in open_reader("folder", **options)] == ["10", "1"]
        (tmp_path / "list.txt").write_text("1\n3\n4\n")
        with pytest.raises(DataError, match=r"2 names of .*list\.txt have no image: 3, 4"):
            open_reader("folder", **options)
        (tmp_path / "list.txt").write_text("1\n2\n1\n")
        with pytest.raises(DataError, match=r"list\.txt has '1' twice"):
            open_reader("folder", **options)
        (tmp_path / "list.txt").write_text("\n \n")
        with pytest.raises(DataError, match=r"list\.txt is empty"):
            open_reader("folder", **options)

    def test_mask_suffix(self, tmp_path):
        save(tmp_path / "a.png", np.zeros((2, 2)))
        save(tmp_path / "m/a_L.png", np.ones((2, 2)))
        options = {"images": tmp_path, "masks": tmp_path / "m", "num_classes": 2}
        assert np.all(open_reader("folder", mask_suffix="_L", **options)[0]["mask"] == 1)

    def test_missing_masks_are_listed_together(self, pairs):
        for n in range(20, 27):
            save(pairs["images"] / f"{n}.png", np.zeros((4, 6)))
        expected = r"7 images of .*images have no mask .*: 20\.png, .*24\.png, \.\.\.$"
        with pytest.raises(DataError, match=expected):
            open_reader("folder", num_classes=11, **pairs)

    def test_missing_folder(self, pairs):
        options = {**pairs, "masks": pairs["masks"].with_name("mask")}
        with pytest.raises(DataError, match=r"folder .*mask is missing; did you mean 'masks'"):
            open_reader("folder", num_classes=11, **options)

    def test_empty_split(self, pairs, tmp_path):
        (tmp_path / "none").mkdir()
        with pytest.raises(DataError, match="none has no samples: the split is empty"):
            open_reader("folder", num_classes=2, images=tmp_path / "none", masks=pairs["masks"])

    def test_empty_file_is_found_on_opening(self, pairs):
        (pairs["masks"] / "2.png").write_bytes(b"")
        with pytest.raises(DataError, match=r"1 masks are 0-byte files: .*2\.png"):
            open_reader("folder", num_classes=11, **pairs)

    def test_two_files_of_one_name(self, pairs):
        save(pairs["images"] / "2.jpg", np.zeros((4, 6)))
        with pytest.raises(DataError, match=r"two images of one name: 2\.jpg and 2\.png"):
            open_reader("folder", num_classes=11, **pairs)

    def test_other_files_are_passed_over(self, pairs):
        (pairs["images"] / "Thumbs.db").write_bytes(b"x")
        (pairs["images"] / "._1.png").write_bytes(b"x")
        assert len(open_reader("folder", num_classes=11, **pairs)) == 3

    def test_mask_of_another_size(self, pairs):
        save(pairs["masks"] / "2.png", np.zeros((6, 4)))
        reader = open_reader("folder", num_classes=11, **pairs)
        expected = r"2\.png has 4 rows x 6 columns, but its mask .*2\.png has 6 x 4"
        with pytest.raises(DataError, match=expected):
            reader[1]

    def test_label_out_of_range(self, pairs):
        mask = np.array([[0, 10, 11, 11], [12, 255, 200, 11]])
        save(pairs["masks"] / "2.png", mask)
        save(pairs["images"] / "2.png", mask)
        expected = (
            "2.png: label 11 (3 pixels), 12 (1 pixels), 200 (1 pixels) is out of range; "
            "allowed are 0..10 and the ignore label 255"
        )
        with pytest.raises(DataError, match=re.escape(expected)):
            open_reader("folder", num_classes=11, **pairs)[1]

    def test_truncated_image(self, pairs):
        file = pairs["images"] / "2.png"
        noise = np.random.default_rng(0).integers(0, 256, (64, 64))
        data = save(file, noise).read_bytes()
        file.write_bytes(data[:2000])
        with pytest.raises(DataError, match=r"images/2\.png cannot be decoded"):
            open_reader("folder", num_classes=11, **pairs)[1]

    def test_void_labels(self, pairs):
        reader = open_reader(
            "folder", ignore_label=-1, num_classes=3, void_labels=[10, 255], **pairs
        )
        assert np.all(reader[2]["mask"] == -1)
        assert np.all(reader[1]["mask"] == 2)


class TestColorTable:
    TABLE = {"sky": [0, 0, 255], "border": [255, 255, 255], "road": [128, 64, 128]}  # noqa: RUF012

    @pytest.fixture
    def coded(self, tmp_path):
        save(tmp_path / "images/a.png", np.zeros((1, 3, 3)))
        save(tmp_path / "masks/a.png", [[self.TABLE[n] for n in ("road", "sky", "border")]])
        return {"images": tmp_path / "images", "masks": tmp_path / "masks"}

    def test_classes_are_those_of_the_table(self, coded):
        reader = open_reader("folder", color_table=self.TABLE, void_labels=["border"], **coded)
        assert reader.classes == ("sky", "road")
        np.testing.assert_array_equal(reader.colors, [[0, 0, 255], [128, 64, 128]])
        np.testing.assert_array_equal(reader[0]["mask"], [[1, 0, 255]])

    def test_order_of_classes(self, coded):
        reader = open_reader(
            "folder", color_table=self.TABLE, classes=["road", "border", "sky"], **coded
        )
        np.testing.assert_array_equal(reader[0]["mask"], [[0, 2, 1]])

    def test_unknown_colour(self, coded):
        table = {name: self.TABLE[name] for name in ("sky", "road")}
        expected = r"masks/a\.png: colour \(255, 255, 255\) at row 0, column 2 is not in"
        with pytest.raises(DataError, match=expected):
            open_reader("folder", color_table=table, **coded)[0]

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({}, "give classes"),
            ({"classes": ["a", "b"], "num_classes": 3}, "num_classes is 3, but there are 2"),
            ({"num_classes": 2, "void_labels": ["x"]}, "void label 'x' is not in color_table"),
            (
                {"color_table": TABLE, "classes": ["sky", "raod", "border"]},
                "class 'raod' has no colour; did you mean 'road'",
            ),
            (
                {"color_table": TABLE, "classes": ["sky", "road"]},
                "'border', which is neither in classes nor in void_labels",
            ),
            ({"color_table": {"a": [1, 2, 3], "b": [1, 2, 3]}}, "one colour to two names"),
            ({"color_table": {"a": [1, 2, 256]}}, r"colour of 'a' must be in 0\.\.255"),
        ],
    )
    def test_options_that_disagree(self, coded, options, message):
        with pytest.raises(ValueError, match=message):
            open_reader("folder", **options, **coded)


class TestVoc:
    @pytest.fixture
    def root(self, tmp_path):
        for stem in ("2007_1", "2007_2"):
            save(tmp_path / f"JPEGImages/{stem}.jpg", np.zeros((2, 3, 3)))
            for folder in ("SegmentationClass", "SegmentationClassAug"):
                save(tmp_path / folder / f"{stem}.png", [[0, 20, 255], [1, 1, 1]])
        lists = tmp_path / "ImageSets/Segmentation"
        lists.mkdir(parents=True)
        (lists / "train.txt").write_text("2007_2\n2007_1\n")
        return tmp_path

    def test_split(self, root):
        reader = open_reader("voc", ignore_label=-1, root=root, split="train")
        assert [s["name"] for s in reader] == ["2007_2", "2007_1"]
        np.testing.assert_array_equal(reader[0]["mask"], [[0, 20, -1], [1, 1, 1]])
        assert len(reader.classes) == 21
        assert reader.classes[15] == "person"

    def test_list_of_names_with_other_masks(self, root, tmp_path):
        (tmp_path / "aug.txt").write_text("2007_1\n")
        (root / "SegmentationClass/2007_1.png").unlink()
        options = {"root": str(root), "split": str(tmp_path / "aug.txt")}
        assert len(open_reader("voc", masks="SegmentationClassAug", **options)) == 1
        with pytest.raises(
            DataError, match=r"1 masks are missing: .*SegmentationClass/2007_1\.png"
        ):
            open_reader("voc", **options)

    def test_list_of_paths(self, root, tmp_path):
        line = "/JPEGImages/2007_1.jpg /SegmentationClassAug/2007_1.png\n"
        (tmp_path / "aug.txt").write_text(line)
        reader = open_reader("voc", root=root, split=str(tmp_path / "aug.txt"))
        assert [s["name"] for s in reader] == ["2007_1"]
        (tmp_path / "aug.txt").write_text("a b c\n")
        with pytest.raises(DataError, match=r"aug\.txt: 1 lines are neither .*'a b c'"):
            open_reader("voc", root=root, split=str(tmp_path / "aug.txt"))

    def test_missing_split(self, root):
        with pytest.raises(DataError, match=r"trian\.txt is missing; did you mean 'train'"):
            open_reader("voc", root=root, split="trian")

    def test_real_images(self, shared, tmp_path):
        (tmp_path / "all.txt").write_text("2011_000003\n2011_000006\n2011_000025\n")
        root = shared("data/voc_palette")
        reader = open_reader("voc", root=root, split=str(tmp_path / "all.txt"))
        for sample in reader:
            assert sample["image"].shape == (*sample["mask"].shape, 3)
            # The palette of the files is an independent statement of index and colour.
            file = root / f"SegmentationClass/{sample['name']}.png"
            colors = np.array(Image.open(file).convert("RGB"))
            scored = sample["mask"] != 255
            np.testing.assert_array_equal(reader.colors[sample["mask"][scored]], colors[scored])

    def test_palette(self):
        # VOC's documented colours: background, aeroplane, bicycle, train, tvmonitor, void.
        expected = [[0, 0, 0], [128, 0, 0], [0, 128, 0], [128, 192, 0], [0, 64, 128]]
        np.testing.assert_array_equal(voc_palette(256)[[0, 1, 2, 19, 20]], expected)
        np.testing.assert_array_equal(voc_palette(256)[255], [224, 224, 192])


class TestCamvid:
    @pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
    def test_real_splits(self, shared, split, count):
        reader = open_reader("camvid", root=shared("data/camvid"), split=split)
        assert len(reader) == count
        sample = reader[count - 1]
        assert sample["image"].shape == (360, 480, 3)
        assert set(np.unique(sample["mask"])) <= {*range(11), 255}
        assert 255 in sample["mask"]

    def test_unlabelled_is_ignored(self, tmp_path):
        save(tmp_path / "train/a.png", np.zeros((1, 3, 3)))
        save(tmp_path / "trainannot/a.png", [[0, 10, 11]])
        reader = open_reader("camvid", root=tmp_path)
        np.testing.assert_array_equal(reader[0]["mask"], [[0, 10, 255]])
        assert reader.classes[10] == "bicyclist"
        assert reader.colors.shape == (11, 3)
        save(tmp_path / "trainannot/a.png", [[0, 10, 12]])
        with pytest.raises(DataError, match=r"a\.png: label 12 \(1 pixels\) is out of range"):
            reader[0]

    def test_missing(self, tmp_path):
        save(tmp_path / "train/a.png", np.zeros((1, 3, 3)))
        with pytest.raises(DataError, match=r"folder .*trainannot is missing"):
            open_reader("camvid", root=tmp_path)
        (tmp_path / "trainannot").mkdir()
        with pytest.raises(DataError, match=r"1 images of .*train have no mask: a\.png"):
            open_reader("camvid", root=tmp_path)


class TestIsbi:
    IMAGES = np.random.default_rng(0).integers(0, 256, (3, 4, 5)).astype(np.uint8)
    LABELS = np.array([[255, 0, 255, 255, 0]] * 4, np.uint8) * np.ones((3, 1, 1), np.uint8)

    def folders(self, root):
        for i in range(3):
            save(root / f"image/{i + 8}.png", self.IMAGES[i])
            save(root / f"label/{i + 8}.png", self.LABELS[i])
        return root

    def stacks(self, root, labels=LABELS):
        for name, values in (("train-volume.tif", self.IMAGES), ("train-labels.tif", labels)):
            pages = [Image.fromarray(v) for v in values]
            pages[0].save(root / name, save_all=True, append_images=pages[1:])
        return root

    @pytest.mark.parametrize("layout", ["folders", "stacks"])
    def test_layouts(self, tmp_path, layout):
        reader = open_reader("isbi", root=getattr(self, layout)(tmp_path), subset=[1, 3])
        assert len(reader) == len(list(reader)) == 2
        assert reader.classes == ("membrane", "inside")
        for sample, image in zip(reader, self.IMAGES[1:], strict=True):
            np.testing.assert_array_equal(sample["image"], image[..., None])
            np.testing.assert_array_equal(sample["mask"], [[1, 0, 1, 1, 0]] * 4)
            assert sample["mask"].dtype == np.int32
        expected = ["9", "10"] if layout == "folders" else ["01", "02"]
        assert [s["name"] for s in reader] == expected

    def test_real_slices(self, shared):
        reader = open_reader("isbi", root=shared("data/isbi2012"))
        assert len(reader) == 24
        sample = reader[23]
        assert sample["name"] == "23"
        assert sample["image"].shape == (512, 512, 1)
        assert 0.6 < sample["mask"].mean() < 0.9  # membranes are about a fifth

    def test_other_labels(self, tmp_path):
        labels = self.LABELS.copy()
        labels[2, 1, 0] = 254
        reader = open_reader("isbi", root=self.stacks(tmp_path, labels))
        expected = r"train-labels\.tif, slice 2 has label 254 \(1 pixels"
        with pytest.raises(DataError, match=expected):
            reader[2]

    def test_stacks_of_different_length(self, tmp_path):
        with pytest.raises(DataError, match=r"3 slices in train-volume\.tif, 2 in train-labels"):
            open_reader("isbi", root=self.stacks(tmp_path, self.LABELS[:2]))

    def test_stacks_of_different_size(self, tmp_path):
        reader = open_reader("isbi", root=self.stacks(tmp_path, self.LABELS[:, :3]))
        with pytest.raises(DataError, match=r"slice 0 is \(3, 5\), its slice is \(4, 5\)"):
            reader[0]

    def test_missing_label(self, tmp_path):
        (self.folders(tmp_path) / "label/9.png").unlink()
        with pytest.raises(DataError, match=r"1 slices of .*image have no label: 9\.png"):
            open_reader("isbi", root=tmp_path)

    def test_border_weights(self, tmp_path):
        from tfseg.data.border_weights import unet_weight_map

        reader = open_reader("isbi", root=self.folders(tmp_path), border_weights=True)
        assert reader.keys() == ("name", "image", "mask", "weights")
        # Two cells, left and right of the first membrane; the second has one neighbour only.
        expected = unet_weight_map(np.array([[1, 0, 2, 2, 0]] * 4, np.int32))
        assert expected.std() > 0
        np.testing.assert_array_equal(reader[0]["weights"], expected)
