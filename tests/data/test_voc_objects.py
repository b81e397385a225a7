"""DeconvNet's training windows, on a small VOC drawn here and on real VOC images."""

import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image

from tfseg.data import DataError, open_reader
from tfseg.data.readers.voc import VocReader


def _save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(pixels, np.uint8)).save(path)


@pytest.fixture
def root(tmp_path):
    """Two images of 40x60: a person and a dog side by side, and two dogs."""
    scenes = {
        "a": [(15, (10, 10, 30, 20)), (12, (5, 30, 15, 50))],
        "b": [(12, (0, 0, 10, 10)), (12, (30, 40, 40, 60))],
    }
    for name, objects in scenes.items():
        image = np.full((40, 60, 3), 100)
        classes, numbers = np.zeros((40, 60)), np.zeros((40, 60))
        for number, (label, (top, left, bottom, right)) in enumerate(objects, start=1):
            classes[top:bottom, left:right] = label
            numbers[top:bottom, left:right] = number
            classes[top, left:right] = numbers[top, left:right] = 255
        _save(tmp_path / f"JPEGImages/{name}.jpg", image)
        _save(tmp_path / f"SegmentationClass/{name}.png", classes)
        _save(tmp_path / f"SegmentationObject/{name}.png", numbers)
    lists = tmp_path / "ImageSets/Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("a\nb\n")
    return tmp_path


def test_objects(root):
    reader = open_reader("voc_objects", root=root, balance=False)
    assert len(reader) == 4
    assert reader.keys() == ("name", "image", "mask")
    person = reader[0]
    # 19 rows (one is void) by 10 columns: a square of 23 about (20.5, 15)
    assert person["image"].shape == (23, 23, 3)
    assert person["image"].dtype == np.uint8
    assert person["mask"].shape == (23, 23)
    assert person["mask"].dtype == np.int32
    labels, counts = np.unique(person["mask"], return_counts=True)
    assert dict(zip(labels.tolist(), counts.tolist(), strict=True))[15] == 19 * 10
    # the dog's pixels are background here
    assert set(labels.tolist()) == {0, 15, 255}
    assert [reader[i]["name"] for i in range(4)] == ["a:0", "a:1", "b:2", "b:3"]


def test_outside_is_black_and_ignored(root):
    corner = open_reader("voc_objects", root=root, balance=False, ignore_label=99)[2]
    # 9 rows by 10 columns in the upper left: a square of 12 from (-1, 0)
    outside = corner["mask"] == 99
    assert outside[:, 0].all()
    assert not corner["image"][:, 0].any()
    np.testing.assert_allclose(corner["image"][:, 1:].astype(int), 100, atol=3)
    # ... and the void row stays void
    assert outside[:, 1:].sum() == 10
    assert (corner["mask"] == 12).sum() == 9 * 10


def test_rare_classes_are_repeated(root):
    reader = open_reader("voc_objects", root=root)
    assert len(reader) == 6
    found = [np.setdiff1d(reader[i]["mask"], [0, 255]).tolist() for i in range(6)]
    assert sorted(found) == [[12]] * 3 + [[15]] * 3
    assert len({reader[i]["name"] for i in range(6)}) == 6


def test_proposals(root, tmp_path):
    boxes = {
        # the person, the person badly, the dog, and nothing
        "a": [[10, 11, 20, 30], [10, 22, 20, 40], [30, 5, 50, 15], [50, 30, 60, 40]],
        "b": [[40, 30, 60, 40], [41, 31, 60, 40]],
    }
    path = tmp_path / "boxes.npz"
    np.savez(path, **{name: np.array(b, np.float32) for name, b in boxes.items()})
    reader = open_reader("voc_proposals", root=root, proposals=path, balance=False)
    assert len(reader) == 4
    sides = [reader[i]["mask"].shape[0] for i in range(4)]
    assert sides == [23, 24, 24, 23]
    # all labels stay: the window about the person reaches into the dog
    wide = open_reader("voc_proposals", root=root, proposals=path, context=3.0, balance=False)
    assert set(np.unique(wide[0]["mask"]).tolist()) == {0, 12, 15, 255}
    balanced = open_reader("voc_proposals", root=root, proposals=path)
    assert len(balanced) == 6
    strict = open_reader("voc_proposals", root=root, proposals=path, overlap=0.96, balance=False)
    assert len(strict) == 1


def test_proposals_that_are_wrong(root, tmp_path):
    path = tmp_path / "boxes.npz"
    with pytest.raises(DataError, match=r"no \.npz file"):
        open_reader("voc_proposals", root=root, proposals=path)
    np.savez(path, a=np.zeros((3, 4)))
    with pytest.raises(DataError, match="1 images have no proposals: b"):
        open_reader("voc_proposals", root=root, proposals=path)
    np.savez(path, a=np.zeros((3, 4)), b=np.zeros((3, 5)))
    with pytest.raises(DataError, match=r"no numbers \(N, 4\): b"):
        open_reader("voc_proposals", root=root, proposals=path)
    np.savez(path, a=np.zeros((0, 4)), b=np.array([[0, 20, 10, 30]]))
    with pytest.raises(DataError, match="no proposal covers an object"):
        open_reader("voc_proposals", root=root, proposals=path)
    path.write_bytes(b"PK\x03\x04 cut off")
    with pytest.raises(DataError, match=r"no \.npz file"):
        open_reader("voc_proposals", root=root, proposals=path)
    with zipfile.ZipFile(path, "w") as file:  # NumPy gives such an entry's bytes
        file.writestr("a.npy", b"no array")
        file.writestr("b.npy", b"no array")
    with pytest.raises(DataError, match="2 images have proposals that are no numbers"):
        open_reader("voc_proposals", root=root, proposals=path)


def test_masks_that_are_wrong(root):
    objects = root / "SegmentationObject"
    (objects / "b.png").rename(objects / "c.png")
    with pytest.raises(DataError, match=r"1 object masks are missing: .*b\.png"):
        open_reader("voc_objects", root=root)
    _save(objects / "b.png", np.zeros((40, 61)))
    with pytest.raises(DataError, match=r"40 rows x 60 columns, but .* 40 x 61"):
        open_reader("voc_objects", root=root)


def test_no_objects(root):
    for name in "ab":
        _save(root / f"SegmentationObject/{name}.png", np.zeros((40, 60)))
    with pytest.raises(DataError, match="have no objects"):
        open_reader("voc_objects", root=root)


def test_real_images(shared, tmp_path):
    source = shared("data/voc_palette")
    root = tmp_path / "voc"
    shutil.copytree(source, root)
    names = sorted(p.stem for p in (root / "JPEGImages").glob("*.jpg"))
    (root / "list.txt").write_text("\n".join(names))
    options = {"root": root, "split": str(root / "list.txt")}
    reader = open_reader("voc_objects", **options, balance=False)
    whole = VocReader(**options)
    by_image = {}
    for sample in (reader[i] for i in range(len(reader))):
        labels = set(np.unique(sample["mask"]).tolist()) - {0, 255}
        assert len(labels) == 1
        height, width = sample["image"].shape[:2]
        assert height == width
        # The object reaches to 1.2 times less than the window, in one direction at least.
        rows, columns = np.nonzero(sample["mask"] == labels.pop())
        extent = max(np.ptp(rows), np.ptp(columns)) + 1
        assert abs(1.2 * extent - height) <= 1
        name = sample["name"].split(":")[0]
        count = (~np.isin(sample["mask"], [0, 255])).sum()
        by_image[name] = by_image.get(name, 0) + count
    for sample in whole:
        # every labelled pixel is in the window of its own object
        assert by_image[sample["name"]] == (~np.isin(sample["mask"], [0, 255])).sum()
