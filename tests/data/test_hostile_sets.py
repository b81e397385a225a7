"""Annotations as accidents and attackers leave them: a DataError, soon, and in little memory."""

import json

import numpy as np
import pytest
from fuzzing import data_seeds

from tfseg.data import DataError, open_reader
from tfseg.data.border_weights import unet_weight_map
from tfseg.data.readers.files import list_lines

LONG = "a" * 300 + ".png"


def write(path, tree):
    path.write_text(json.dumps(tree))


@pytest.fixture
def coco(tmp_path):
    data_seeds.photographs(tmp_path / "images")
    return json.loads(data_seeds.coco()[0])


def test_a_name_too_long_for_a_file_is_one_that_is_missing(tmp_path, coco):
    coco["images"][0]["file_name"] = LONG
    write(tmp_path / "coco.json", coco)
    with pytest.raises(DataError, match="1 images are missing"):
        open_reader("coco", images=tmp_path / "images", annotations=tmp_path / "coco.json")
    data_seeds.voc(tmp_path)
    (tmp_path / "ImageSets/Segmentation/train.txt").write_text(LONG)
    with pytest.raises(DataError, match="images are missing"):
        open_reader("voc", root=tmp_path)


def test_a_panoptic_name_too_long_for_a_file(tmp_path, coco):
    write(tmp_path / "coco.json", coco)
    panoptic = json.loads(data_seeds.panoptic())
    panoptic["annotations"][0]["file_name"] = LONG
    write(tmp_path / "panoptic.json", panoptic)
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match="2 panoptic masks are missing"):
        open_reader(
            "coco",
            images=tmp_path / "images",
            annotations=tmp_path / "coco.json",
            panoptic_masks=tmp_path / "masks",
            panoptic_annotations=tmp_path / "panoptic.json",
        )


def test_many_categories_take_no_square_of_their_time(tmp_path, coco):
    """Their square would take minutes."""
    coco["categories"] = [
        {**coco["categories"][0], "id": number, "name": str(number)} for number in range(50_000)
    ]
    write(tmp_path / "coco.json", coco)
    reader = open_reader("coco", images=tmp_path / "images", annotations=tmp_path / "coco.json")
    assert len(reader.classes) == 50_000


def test_a_long_list_with_one_name_twice(tmp_path):
    lines = [str(number) for number in range(50_000)]
    (tmp_path / "train.txt").write_text("\n".join([*lines, lines[-1]]))
    with pytest.raises(DataError, match="has '49999' twice"):
        list_lines(tmp_path / "train.txt")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("category_id", 10**12, "category_id"),
        ("category_id", -1, "category_id"),
        ("segmentation", {"size": None, "counts": [0, 120]}, "has size None"),
        ("segmentation", {"size": 7, "counts": [0, 120]}, "has size 7"),
        ("segmentation", {"counts": [0, 120]}, "has size None"),
        ("segmentation", {"size": [10, 12], "counts": {"a": 1}}, "a string or a list"),
        ("segmentation", {"size": [10, 12], "counts": [10**30]}, "do not fill"),
    ],
)
def test_damaged_regions_of_the_stuff_challenge(tmp_path, key, value, message):
    data_seeds.photographs(tmp_path / "images")
    tree = json.loads(data_seeds.challenge())
    tree["annotations"][0][key] = value
    write(tmp_path / "stuff.json", tree)
    options = {"root": tmp_path, "images": "images", "labels": "stuff.json"}
    with pytest.raises(DataError, match=message):
        list(open_reader("cocostuff", **options, format="challenge2017"))


@pytest.mark.parametrize(
    "boxes",
    [np.full((2, 4), "x"), np.zeros((2, 4), complex), np.zeros((2, 4), "V4"), np.zeros((2, 3))],
)
def test_proposals_that_are_no_numbers(tmp_path, boxes):
    data_seeds.voc(tmp_path)
    np.savez(tmp_path / "proposals.npz", a=boxes, b=np.zeros((1, 4)))
    with pytest.raises(DataError, match=r"no numbers \(N, 4\): a"):
        open_reader("voc_proposals", root=tmp_path, proposals=tmp_path / "proposals.npz")


def test_proposals_cut_off_anywhere(tmp_path):
    data_seeds.voc(tmp_path)
    path = tmp_path / "proposals.npz"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for end in range(1, len(whole), 37):
        path.write_bytes(whole[:end])
        with pytest.raises(DataError):
            open_reader("voc_proposals", root=tmp_path, proposals=path)
        data = bytearray(whole)
        data[end] = rng.integers(256)
        path.write_bytes(data)
        try:
            open_reader("voc_proposals", root=tmp_path, proposals=path)
        except DataError:
            continue


def test_ids_of_32_bits_take_no_memory_of_their_size():
    """They come from TIFF files; a list up to the largest would take 16 GiB."""
    ids = np.zeros((8, 8), np.int32)
    ids[:3, :3], ids[5:, 5:] = 7, 2**31 - 1
    small = np.where(ids == 7, 1, np.where(ids > 7, 2, 0)).astype(np.int32)
    np.testing.assert_array_equal(unet_weight_map(ids), unet_weight_map(small))
