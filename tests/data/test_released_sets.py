"""Readers of released sets, each on a tiny tree in the release's layout."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tfseg.data import DataError, open_reader
from tfseg.data.label_counts import count_labels
from tfseg.data.readers import cocostuff_labels, mat
from tfseg.data.readers.sbd import MAX_MAT_BYTES


def save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path, **options)
    return path


def photo(path, size=(2, 3)):
    return save(path, np.full((*size, 3), 90))


class TestAde20k:
    @pytest.fixture
    def root(self, tmp_path):
        root = tmp_path / "ADEChallengeData2016"
        photo(root / "images/training/ADE_train_00000001.jpg")
        save(root / "images/training/ADE_train_00000002.jpg", np.full((2, 3), 7))
        for n in (1, 2):
            file = root / f"annotations/training/ADE_train_0000000{n}.png"
            save(file, [[0, 1, 2], [149, 150, 0]])
        return root

    def test_labels(self, root):
        reader = open_reader("ade20k", root=root)
        assert len(reader) == 2
        assert reader[0]["name"] == "ADE_train_00000001"
        np.testing.assert_array_equal(reader[0]["mask"], [[255, 0, 1], [148, 149, 255]])
        assert reader[0]["mask"].dtype == np.int32

    def test_gray_photographs_get_three_channels(self, root):
        assert [s["image"].shape for s in open_reader("ade20k", root=root)] == [(2, 3, 3)] * 2

    def test_classes(self, root):
        reader = open_reader("ade20k", root=root)
        assert len(reader.classes) == 150
        assert reader.classes[:5] == ("wall", "building", "sky", "floor", "tree")
        # objectInfo150.txt, lines 45, 67, 90, 150
        picked = [reader.classes[i - 1] for i in (45, 67, 90, 150)]
        assert picked == ["chest of drawers", "flower", "television", "flag"]
        assert reader.colors.shape == (150, 3)
        np.testing.assert_array_equal(reader.colors[[0, 2, 149]],
                                      [[120, 120, 120], [6, 230, 230], [92, 0, 255]])  # fmt: skip

    def test_a_label_beyond_150(self, root):
        save(root / "annotations/training/ADE_train_00000002.png", np.full((2, 3), 151))
        expected = r"00000002\.png: stored label 151 \(6 pixels\) is no class"
        with pytest.raises(DataError, match=expected):
            open_reader("ade20k", root=root)[1]

    def test_ignore_label_that_is_a_stored_label(self, root):
        reader = open_reader("ade20k", root=root, ignore_label=150)
        np.testing.assert_array_equal(reader[0]["mask"], [[150, 0, 1], [148, 149, 150]])

    def test_missing_files(self, root):
        (root / "annotations/training/ADE_train_00000002.png").unlink()
        with pytest.raises(DataError, match=r"1 images have no annotation: ADE_train_00000002"):
            open_reader("ade20k", root=root)
        with pytest.raises(DataError, match=r"folder .*validation is missing"):
            open_reader("ade20k", root=root, split="validation")

    def test_counts_of_labels(self, root):
        counts = count_labels(open_reader("ade20k", root=root), progress=False)
        assert counts.dtype == np.int64
        assert dict(enumerate(counts)) == {i: 2 * (i in (0, 1, 148, 149)) for i in range(150)}


class TestCityscapes:
    @pytest.fixture
    def root(self, tmp_path):
        for city in ("ulm", "aachen"):
            stem = f"{city}_000000_000019"
            photo(tmp_path / f"leftImg8bit/train/{city}/{stem}_leftImg8bit.png", (2, 17))
            folder = tmp_path / f"gtFine/train/{city}"
            save(folder / f"{stem}_gtFine_labelIds.png", np.arange(34).reshape(2, 17))
            save(folder / f"{stem}_gtFine_color.png", np.zeros((2, 17, 3)))
        return tmp_path

    def test_labels(self, root):
        reader = open_reader("cityscapes", root=root)
        assert [s["name"] for s in reader] == ["aachen_000000_000019", "ulm_000000_000019"]
        # labels.py: ids 0..33 and their trainIds
        expected = [255] * 7 + [0, 1, 255, 255, 2, 3, 4, 255, 255, 255, 5, 255, 6, 7]
        expected += [8, 9, 10, 11, 12, 13, 14, 15, 255, 255, 16, 17, 18]
        np.testing.assert_array_equal(reader[0]["mask"].ravel(), expected)

    def test_classes(self, root):
        reader = open_reader("cityscapes", root=root)
        assert len(reader.classes) == len(reader.colors) == 19
        assert reader.classes[13] == "car"
        np.testing.assert_array_equal(reader.colors[13], [0, 0, 142])

    def test_missing_files(self, root):
        file = root / "gtFine/train/ulm/ulm_000000_000019_gtFine_labelIds.png"
        file.unlink()
        with pytest.raises(DataError, match=r"1 masks are missing: .*ulm_000000_000019_gtFine"):
            open_reader("cityscapes", root=root)
        photo(root / "leftImg8bit/train/ulm/other.png")
        with pytest.raises(DataError, match=r"1 images are not called .*leftImg8bit.*other\.png"):
            open_reader("cityscapes", root=root)
        with pytest.raises(DataError, match=r"folder .*val is missing"):
            open_reader("cityscapes", root=root, split="val")


class TestCocoStuffMaps:
    @pytest.fixture
    def root(self, tmp_path):
        photo(tmp_path / "images/train2017/000000000009.jpg")
        save(tmp_path / "annotations/train2017/000000000009.png", [[0, 10, 12], [91, 181, 255]])
        return tmp_path

    def test_171_classes(self, root):
        reader = open_reader("cocostuff", root=root)
        assert len(reader.classes) == 171
        (sample,) = reader
        # labels.txt: 1 person, 11 fire hydrant, 13 stop sign; 12, street sign, is no class
        # then 92 banner is the first of the stuff behind 80 things, and 182 wood the last
        np.testing.assert_array_equal(sample["mask"], [[0, 10, 11], [80, 170, 255]])
        names = [reader.classes[i] for i in (0, 10, 11, 79, 80, 170)]
        assert names == ["person", "fire hydrant", "stop sign", "toothbrush", "banner", "wood"]

    def test_182_ids(self, root):
        reader = open_reader("cocostuff", root=root, format="stuffthingmaps182")
        assert len(reader.classes) == 182
        np.testing.assert_array_equal(reader[0]["mask"], [[0, 10, 12], [91, 181, 255]])
        assert reader.classes[12] == "stop sign"
        assert reader.classes[91] == "banner"

    def test_a_label_that_coco_never_gave(self, root):
        save(root / "annotations/train2017/000000000009.png", np.full((2, 3), 11))
        with pytest.raises(DataError, match=r"stored label 11 \(6 pixels\) is no class"):
            open_reader("cocostuff", root=root)[0]

    def test_missing_files(self, root):
        photo(root / "images/train2017/000000000010.jpg")
        with pytest.raises(DataError, match=r"1 images of .* have no pixel map: 000000000010\.jpg"):
            open_reader("cocostuff", root=root)
        with pytest.raises(DataError, match=r"folder .*val2017 is missing"):
            open_reader("cocostuff", root=root, images="images/val2017")

    def test_unknown_format(self, root):
        with pytest.raises(ValueError, match="format: Input should be 'stuffthingmaps'"):
            open_reader("cocostuff", root=root, format="maps")


class TestStuffChallenge:
    @pytest.fixture
    def tree(self):
        """Two regions by list and by string, one crowd; the last pixel has no label."""
        categories = [
            {"id": 92 + i, "name": name, "supercategory": s}
            for i, (name, s) in enumerate(
                zip(cocostuff_labels.CHALLENGE, cocostuff_labels.SUPERCATEGORIES, strict=True)
            )
        ]
        common = {"image_id": 9, "iscrowd": 0}
        regions = [
            {**common, "id": 1, "category_id": 92, "counts": [1, 2, 3]},
            {**common, "id": 2, "category_id": 183, "counts": "0121O"},
            {**common, "id": 3, "category_id": 100, "counts": [0, 6], "iscrowd": 1},
        ]
        for region in regions:
            region["segmentation"] = {"size": [2, 3], "counts": region.pop("counts")}
        images = [{"id": 9, "file_name": "000000000009.jpg", "height": 2, "width": 3}]
        return {"images": images, "categories": categories, "annotations": regions}

    @pytest.fixture
    def open_tree(self, tmp_path, tree):
        photo(tmp_path / "images/000000000009.jpg")

        def write_and_open(change=lambda tree: None):
            change(tree)
            (tmp_path / "stuff.json").write_text(json.dumps(tree))
            options = {"root": tmp_path, "images": "images", "labels": "stuff.json"}
            return open_reader("cocostuff", format="challenge2017", **options)

        return write_and_open

    def test_labels(self, open_tree):
        reader = open_tree()
        (sample,) = reader
        assert sample["name"] == "000000000009"
        # 92 banner is class 0; 183 other is 91. Runs 0 1 2 2 1: pixels 0, 3 and 4 of the columns
        np.testing.assert_array_equal(sample["mask"], [[91, 0, 91], [0, 91, 255]])
        assert len(reader.classes) == len(reader.colors) == 92
        assert reader.classes[0] == "banner"
        assert reader.classes[90:] == ("wood", "other")

    def test_overlap(self, open_tree):
        def overlap(tree):
            tree["annotations"][2]["iscrowd"] = 0

        reader = open_tree(overlap)
        with pytest.raises(DataError, match="region 3 of image 9 covers pixels of another"):
            reader[0]

    def test_damaged_runs(self, open_tree):
        def shorten(tree):
            tree["annotations"][0]["segmentation"]["counts"] = [1, 2]

        reader = open_tree(shorten)
        with pytest.raises(DataError, match="region 1 of image 9: the RLE's runs do not fill"):
            reader[0]

    def test_category_out_of_range(self, open_tree):
        def person(tree):
            tree["annotations"][0]["category_id"] = 1

        with pytest.raises(DataError, match=r"stored label 1 \(2 pixels\) is no class"):
            open_tree(person)[0]

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda t: t["categories"].pop(), "categories are not the challenge's 92, 92 'banner'"),
            (lambda t: t.pop("images"), "no JSON of the challenge: images: Field required"),
            (lambda t: t["images"][0].update(height=0), r"images\.0\.height: .*greater than 0"),
            (lambda t: t["images"][0].update(width=10**8), "the limit is 178,956,970"),
            (lambda t: t["images"].append(t["images"][0] | {"id": 8}), "1 images are listed twice"),
            (lambda t: t["images"][0].update(id=8), "region 1 is of an image that is not listed"),
            (
                lambda t: t["images"][0].update(file_name="../../other.jpg"),
                r"1 images are missing: .*images/other\.jpg",
            ),
            (
                lambda t: t["annotations"][0].update(segmentation=[[1, 2, 3, 4]]),
                r"annotations\.0\.segmentation: Input should be an object",
            ),
        ],
    )
    def test_mistakes_are_found_on_opening(self, open_tree, change, message):
        with pytest.raises(DataError, match=message):
            open_tree(change)

    def test_missing_file(self, tmp_path):
        (tmp_path / "images").mkdir()
        options = {"root": tmp_path, "images": "images", "format": "challenge2017"}
        with pytest.raises(DataError, match=r"label file .*stuff\.json is missing"):
            open_reader("cocostuff", labels="stuff.json", **options)
        (tmp_path / "stuff.json").write_text("{")
        with pytest.raises(DataError, match="no JSON of the challenge"):
            open_reader("cocostuff", labels="stuff.json", **options)

    def test_released_sample(self, shared, tmp_path):
        """Against the areas that the release gives; its images are not in the sample."""
        file = shared("data/cocostuff_sample/stuff_examples.json")
        tree = json.loads(file.read_text())
        for image in tree["images"]:
            photo(tmp_path / image["file_name"], (image["height"], image["width"]))
        reader = open_reader(
            "cocostuff", root=tmp_path, images=".", labels=file, format="challenge2017"
        )
        names = [category["name"] for category in tree["categories"]]
        assert list(reader.classes) == names
        assert list(cocostuff_labels.SUPERCATEGORIES) == [
            category["supercategory"] for category in tree["categories"]
        ]
        with Image.open(file.with_name("000000000934.png")) as png:
            palette = np.array(png.getpalette(), np.uint8).reshape(-1, 3)
        np.testing.assert_array_equal(reader.colors, palette[92:184])
        expected = np.zeros(92, np.int64)
        for region in tree["annotations"]:
            expected[region["category_id"] - 92] += int(region["area"])
        np.testing.assert_array_equal(count_labels(reader, progress=False), expected)


def save_sbd(path, labels):
    """A .mat file as SBD has them: a struct with the labels among other fields."""
    path.parent.mkdir(parents=True, exist_ok=True)
    boundaries = np.empty((20, 1), object)
    boundaries[:] = [[np.zeros((2, 2))]] * 20
    fields = {
        "Boundaries": boundaries,
        "Segmentation": np.asarray(labels, np.uint8),
        "CategoriesPresent": np.array([[3]], np.uint8),
    }
    savemat(path, {"GTcls": fields}, do_compression=True)
    return path


@pytest.fixture
def sbd(tmp_path):
    """SBD: a, b train; c, d val. The labels are full of 1, 2, 3, 4."""
    root = tmp_path / "benchmark_RELEASE/dataset"
    for label, name in enumerate("abcd", 1):
        photo(root / f"img/{name}.jpg")
        save_sbd(root / f"cls/{name}.mat", np.full((2, 3), label))
    (root / "train.txt").write_text("a\nb\n")
    (root / "val.txt").write_text("c\nd\n")
    return root


@pytest.fixture
def voc(tmp_path):
    """VOC: a, e train; c, b, f val. The labels are full of 20, with a void pixel."""
    root = tmp_path / "VOC2011"
    for name in "abcef":
        photo(root / f"JPEGImages/{name}.jpg")
        save(root / f"SegmentationClass/{name}.png", [[20, 20, 20], [20, 20, 255]])
    lists = root / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\ne\n")
    (lists / "val.txt").write_text("c\nb\nf\n")
    return root


class TestSbd:
    def test_splits(self, sbd):
        reader = open_reader("sbd", root=sbd)
        assert [s["name"] for s in reader] == ["a", "b"]
        sample = open_reader("sbd", root=sbd, split="val")[1]
        assert sample["name"] == "d"
        np.testing.assert_array_equal(sample["mask"], np.full((2, 3), 4))
        assert sample["mask"].dtype == np.int32
        assert reader.classes[20] == "tvmonitor"

    def test_missing_files(self, sbd):
        (sbd / "cls/b.mat").unlink()
        with pytest.raises(DataError, match=r"1 masks are missing: .*cls/b\.mat"):
            open_reader("sbd", root=sbd)
        with pytest.raises(DataError, match=r"split list .*trian\.txt is missing; .*'train'"):
            open_reader("sbd", root=sbd, split="trian")

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM" + bytes(512), "MATLAB 7.3"),
            (b"x" * 300, "is damaged or has no GTcls"),
            (b"x" * (MAX_MAT_BYTES + 1), "has 524,289 bytes, the limit is 524,288"),
        ],
    )
    def test_other_files(self, sbd, content, message):
        (sbd / "cls/a.mat").write_bytes(content)
        with pytest.raises(DataError, match=message):
            open_reader("sbd", root=sbd)[0]

    def test_truncated_file(self, sbd):
        file = sbd / "cls/a.mat"
        file.write_bytes(file.read_bytes()[:-20])
        with pytest.raises(DataError, match=r"a\.mat is damaged"):
            open_reader("sbd", root=sbd)[0]

    def test_files_that_end_the_process_that_reads_them(self, sbd, tmp_path, monkeypatch):
        """As SciPy's reader does on some damaged ones; the next file is read by a new process."""
        child = (Path(mat.__file__).parent / "mat_child.py").read_text()
        bad = "    if 'b.mat' in path: __import__('os').kill(__import__('os').getpid(), 11)\n"
        hung = "    if 'c.mat' in path: __import__('time').sleep(60)\n"
        program = tmp_path / "child.py"
        program.write_text(
            child.replace("    try:\n        found = ", bad + hung + "    try:\n        found = ")
        )
        monkeypatch.setattr(mat, "_PROGRAM", program)
        monkeypatch.setattr(mat, "SECONDS", 5.0)
        reader, files = mat.MatReader(), [sbd / f"cls/{name}.mat" for name in "abca"]
        np.testing.assert_array_equal(reader.read(files[0]), np.full((2, 3), 1))
        with pytest.raises(DataError, match=r"b\.mat is damaged: it crashes SciPy \(SIGSEGV\)"):
            reader.read(files[1])
        with pytest.raises(DataError, match=r"c\.mat is damaged: reading it takes over 5 s"):
            reader.read(files[2])
        np.testing.assert_array_equal(reader.read(files[3]), np.full((2, 3), 1))

    @pytest.mark.parametrize("content", [{"GTinst": 1}, {"GTcls": np.zeros((2, 2))}])
    def test_other_variables(self, sbd, content):
        savemat(sbd / "cls/a.mat", content)
        with pytest.raises(DataError, match=r"has no GTcls\.Segmentation"):
            open_reader("sbd", root=sbd)[0]

    def test_labels_that_are_no_integers(self, sbd):
        savemat(sbd / "cls/a.mat", {"GTcls": {"Segmentation": np.full((2, 3), 0.5)}})
        with pytest.raises(DataError, match="is no matrix of integers"):
            open_reader("sbd", root=sbd)[0]

    def test_a_label_out_of_range(self, sbd):
        save_sbd(sbd / "cls/a.mat", np.full((2, 3), 21))
        with pytest.raises(DataError, match=r"a\.mat: label 21 \(6 pixels\) is out of range"):
            open_reader("sbd", root=sbd)[0]


class TestVocSbd:
    def test_train_aug(self, voc, sbd):
        """VOC's train and all of SBD, without VOC's val; VOC's labels where there are both."""
        reader = open_reader("voc_sbd", voc=voc, sbd=sbd)
        assert [s["name"] for s in reader] == ["a", "d", "e"]
        np.testing.assert_array_equal(reader[0]["mask"], [[20, 20, 20], [20, 20, 255]])
        np.testing.assert_array_equal(reader[1]["mask"], np.full((2, 3), 4))

    def test_seg11valid(self, voc, sbd):
        reader = open_reader("voc_sbd", voc=voc, sbd=sbd, split="seg11valid")
        assert [s["name"] for s in reader] == ["c", "f"]
        assert np.all(reader[0]["mask"][0] == 20)

    def test_seg11valid_of_another_year(self, voc, sbd):
        names = "\n".join(f"2007_{n:06d}" for n in range(1449))
        (voc / "ImageSets/Segmentation/val.txt").write_text(names)
        with pytest.raises(DataError, match="seg11valid is a part of VOC 2011's val"):
            open_reader("voc_sbd", voc=voc, sbd=sbd, split="seg11valid")

    def test_missing_files(self, voc, sbd):
        (sbd / "img/d.jpg").unlink()
        with pytest.raises(DataError, match=r"1 images are missing: .*img/d\.jpg"):
            open_reader("voc_sbd", voc=voc, sbd=sbd)
        with pytest.raises(DataError, match=r"folder .*VOC2012 is missing; did you mean 'VOC2011'"):
            open_reader("voc_sbd", voc=voc.with_name("VOC2012"), sbd=sbd)
