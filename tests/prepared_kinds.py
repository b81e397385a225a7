"""Data sets of all kinds, to be prepared: each gives a reader's name, options and ignore label."""

import json

import numpy as np
from PIL import Image

from tfseg.data.records.prepare import make_job, prepare

RNG = np.random.default_rng(0)
POINTS = ["nose", "left_eye", "right_eye"]


def _save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def folder_set(root):
    """A turned JPEG, a gray 16-bit TIFF, and an RGBA and a palette PNG, with labels over 255."""
    image = RNG.integers(0, 256, (20, 30, 4)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    _save(root / "images/a.jpg", image[..., :3], exif=exif)
    _save(root / "images/b.tif", (image[..., 0].astype(np.uint16) * 200))
    _save(root / "images/c.png", image)
    Image.fromarray(image[..., :3]).quantize(8).save(root / "images/d.png")
    for name, size in (("a", (30, 20)), ("b", (20, 30)), ("c", (20, 30)), ("d", (20, 30))):
        _save(root / f"masks/{name}.png", RNG.integers(0, 300, size).astype(np.uint16))
    options = {"images": str(root / "images"), "masks": str(root / "masks"), "num_classes": 300}
    return "folder", options, -1


def cells(root):
    ids = np.zeros((40, 48), np.uint16)
    ids[4:20, 4:20], ids[4:20, 20:36], ids[26:36, 8:30] = 3, 700, 12
    for n in range(3):
        _save(root / f"01/t{n:03d}.tif", RNG.integers(0, 256, (40, 48)).astype(np.uint8))
        _save(root / f"01_GT/SEG/man_seg{n:03d}.tif", ids)
    return "cell_tracking", {"root": str(root), "border_weights": True}, 255


def people(root):
    """Polygons that overlap, an RLE, a crowd, keypoints, a gray image, one without objects."""
    sizes = [(24, 32), (30, 20), (16, 16)]
    for number, size in enumerate(sizes):
        pixels = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
        _save(root / f"images/{number}.png", pixels[..., 0] if number == 1 else pixels)

    def annotation(number, image, box, **more):
        facts = {"id": number, "image_id": image, "category_id": 7, "bbox": box, "iscrowd": 0}
        return {**facts, "area": box[2] * box[3] - 0.25, **more}

    tree = {
        "images": [
            {"id": 5 - n, "file_name": f"{n}.png", "height": h, "width": w}
            for n, (h, w) in enumerate(sizes)
        ],
        "categories": [
            {"id": 7, "name": "person", "keypoints": POINTS, "skeleton": [[1, 2], [1, 3]]}
        ],
        "annotations": [
            annotation(
                20,
                5,
                [6, 2, 6, 6],
                segmentation=[[6.5, 2, 10, 2, 10, 6, 6, 6], [8, 4, 12, 4, 12, 8, 8, 8]],
                keypoints=[7, 3, 2, 9, 4, 1, 0, 0, 0],
            ),
            annotation(
                21, 5, [1, 2, 1, 2], segmentation={"size": [24, 32], "counts": [26, 2, 740]}
            ),
            annotation(
                22,
                5,
                [8, 4, 9, 9],
                iscrowd=1,
                segmentation={"size": [24, 32], "counts": [200, 60, 508]},
            ),
            annotation(30, 4, [1, 1, 8, 9], segmentation=[[1, 1, 9, 1, 9, 10]]),
        ],
    }
    (root / "people.json").write_text(json.dumps(tree))
    options = {"images": str(root / "images"), "annotations": str(root / "people.json")}
    return "coco", {**options, "keypoints": True, "subset": [0, 3]}, 255


def voc(root):
    """Two objects with a void border around them."""
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("one\ntwo\n")
    classes = np.zeros((20, 30), np.uint8)
    classes[2:9, 2:12], classes[3:8, 3:11], classes[10:18, 12:25] = 255, 4, 15
    objects = np.where(classes == 4, 1, np.where(classes == 15, 2, classes)).astype(np.uint8)
    for name in ("one", "two"):
        _save(root / f"JPEGImages/{name}.jpg", RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8))
        _save(root / f"SegmentationClass/{name}.png", classes)
        _save(root / f"SegmentationObject/{name}.png", objects)
    return "voc_instances", {"root": str(root), "split": "train"}, 255


def voc_windows(root):
    return "voc_objects", voc(root)[1], 255


def shapes_set(root):
    return "shapes", {"size": [32, 40], "count": 11, "seed": 3}, 255


def prepare_kind(kind, folder, shards=2, processes=1):
    """A source of some kind, prepared: the source's reader, and the manifest."""
    name, options, ignore_label = kind(folder / "source")
    job, reader = make_job(name, options, ignore_label, folder / "to", "train", shards)
    return reader, prepare(job, reader, processes=processes).manifest


def assert_same(found, expected):
    assert set(found) == set(expected)
    for key, value in expected.items():
        if key == "name":
            assert found[key] == value
        else:
            assert found[key].dtype == value.dtype, key
            np.testing.assert_array_equal(found[key], value, strict=True, err_msg=key)
