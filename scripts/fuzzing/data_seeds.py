"""Valid images, annotations and configs, small, and the data sets around them."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

_CONFIGS = Path(__file__).resolve().parents[2] / "configs"
_SIZE = (10, 12)  # rows, columns

#: YAML in which each anchor stands for nine of the one before: a gigabyte when it is written out.
_LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def _encoded(
    array: np.ndarray, kind: str = "PNG", mode: str | None = None, **options: Any
) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(array)
    (image.convert(mode) if mode else image).save(file, kind, **options)
    return file.getvalue()


def _pixels(*channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*_SIZE, *channels)).astype(np.uint8)


def _labels(top: int = 2) -> np.ndarray:
    return (np.indices(_SIZE).sum(0) // 6 % top).astype(np.uint8)


def images() -> list[bytes]:
    """Of all formats and kinds of pixels."""
    color, gray = _pixels(3), _pixels()
    exif = Image.Exif()
    exif[0x0112] = 6
    files = [_encoded(color, kind) for kind in ("PNG", "JPEG", "TIFF", "BMP", "PPM", "WEBP", "GIF")]
    files += [_encoded(gray), _encoded(gray.astype(np.uint16) * 200), _encoded(_pixels(4))]
    files += [_encoded(color, mode="P"), _encoded(gray, mode="1"), _encoded(gray, mode="LA")]
    files += [_encoded(color, "JPEG", exif=exif), _encoded(color, "JPEG", progressive=True)]
    files += [_encoded(gray, "TIFF", compression=c) for c in ("tiff_lzw", "tiff_deflate", "jpeg")]
    page = Image.fromarray(gray)
    file = io.BytesIO()
    page.save(file, "TIFF", save_all=True, append_images=[page])
    return [*files, file.getvalue()]


def masks() -> list[bytes]:
    """Label maps as PNGs: 8 and 16 bits, palettes, and TIFF."""
    labels = _labels()
    palette = _encoded(labels, mode="P")
    return [_encoded(labels), _encoded(labels.astype(np.uint16)), palette, _encoded(labels, "TIFF")]


def photographs(folder: Path) -> None:
    """Two images, a.png and b.png."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("a.png", "b.png"):
        (folder / name).write_bytes(_encoded(_pixels(3)))


def coco() -> list[bytes]:
    """Polygons that overlap, both kinds of run lengths, a crowd, keypoints."""
    rows, columns = _SIZE
    square = [1.0, 1.0, 6.0, 1.0, 6.0, 6.0, 1.0, 6.0]
    segmentations: list[Any] = [
        [square, [4.0, 4.0, 9.0, 4.0, 9.0, 9.0]],
        {"size": [rows, columns], "counts": [20, 40, 60]},
        {"size": [rows, columns], "counts": "d0X1l1"},
    ]
    annotations = [
        {
            "id": place + 1,
            "image_id": 1 + place % 2,
            "category_id": 3,
            "bbox": [1.0, 1.0, 8.5, 7.25],
            "area": 31.5,
            "iscrowd": place % 2,
            "segmentation": segmentation,
            "keypoints": [3, 4, 2, 0, 0, 0],
        }
        for place, segmentation in enumerate(segmentations)
    ]
    listed = [
        {"id": number, "height": rows, "width": columns, "file_name": name}
        for number, name in ((1, "a.png"), (2, "b.png"))
    ]
    names = ["left_eye", "right_eye"]
    category = {"id": 3, "name": "cat", "keypoints": names, "skeleton": [[1, 2]]}
    tree = {"images": listed, "categories": [category], "annotations": annotations}
    return [json.dumps(tree).encode(), json.dumps(tree, indent=1).encode()]


def panoptic() -> bytes:
    """Segments of both images: two things and stuff."""
    categories = [{"id": 3, "name": "cat", "isthing": 1}, {"id": 9, "name": "sky", "isthing": 0}]
    segments = [{"id": n, "category_id": c, "area": 5, "iscrowd": 0} for n, c in ((1, 3), (2, 9))]
    annotations = [
        {"image_id": number, "file_name": f"{name}.png", "segments_info": segments}
        for number, name in ((1, "a"), (2, "b"))
    ]
    return json.dumps({"categories": categories, "annotations": annotations}).encode()


def panoptic_png() -> bytes:
    """The segments' pixels."""
    colors = np.zeros((*_SIZE, 3), np.uint8)
    colors[..., 0] = _labels(3)
    return _encoded(colors)


def challenge() -> bytes:
    """COCO-Stuff's challenge: two regions of an image."""
    from tfseg.data.readers.cocostuff_labels import CHALLENGE

    rows, columns = _SIZE
    image = {"id": 1, "file_name": "a.png", "height": rows, "width": columns}
    regions = [
        {"id": n, "image_id": 1, "category_id": 92 + n, "segmentation": {"size": [rows, columns]}}
        for n in (1, 2)
    ]
    regions[0]["segmentation"]["counts"] = [0, 50, 70]
    regions[1]["segmentation"]["counts"] = [60, 60]
    categories = [{"id": 92 + place, "name": name} for place, name in enumerate(CHALLENGE)]
    tree = {"images": [image], "annotations": regions, "categories": categories}
    return json.dumps(tree).encode()


def results() -> bytes:
    """COCO's results: boxes of two images."""
    boxes = [
        {"image_id": 1 + place % 2, "category_id": 1, "bbox": [1, 2.5, 3, 4], "score": 0.5}
        for place in range(6)
    ]
    return json.dumps(boxes).encode()


def sbd(folder: Path) -> None:
    """SBD with one image."""
    from scipy.io import savemat

    for name in ("img", "cls"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "img" / "a.jpg").write_bytes(_encoded(_pixels(3), "JPEG"))
    content = {"GTcls": {"Segmentation": _labels(3), "Boundaries": np.zeros((20, 1), object)}}
    savemat(folder / "cls" / "a.mat", content, do_compression=True)
    (folder / "train.txt").write_text("a\n")


def voc(folder: Path) -> None:
    """VOC with two images of two objects, and proposals of their boxes."""
    lists = folder / "ImageSets" / "Segmentation"
    for path in (lists, folder / "JPEGImages", folder / "SegmentationClass"):
        path.mkdir(parents=True, exist_ok=True)
    (folder / "SegmentationObject").mkdir(exist_ok=True)
    for name in ("a", "b"):
        (folder / "JPEGImages" / f"{name}.jpg").write_bytes(_encoded(_pixels(3), "JPEG"))
        for kind in ("SegmentationClass", "SegmentationObject"):
            (folder / kind / f"{name}.png").write_bytes(_encoded(_labels(3), mode="P"))
    (lists / "train.txt").write_text("a\nb\n")
    boxes = np.array([[0, 0, 12, 10], [2, 2, 8, 8]], np.float32)
    np.savez(folder / "proposals.npz", a=boxes, b=boxes)


def mask_sets(folder: Path) -> list[tuple[Path, str, dict[str, Any]]]:
    """Sets of one image each: where its mask is, the reader's name and its options."""
    sets: list[tuple[Path, str, dict[str, Any]]] = []

    def add(reader: str, image: str, mask: str, suffix: str = "PNG", **options: Any) -> None:
        root = folder / f"{reader}-{len(sets)}"
        paths = {k: root / v if isinstance(v, str) else v for k, v in options.items()}
        for place in (root / image, root / mask):
            place.parent.mkdir(parents=True, exist_ok=True)
        (root / image).write_bytes(_encoded(_pixels(3), suffix))
        sets.append((root / mask, reader, paths))

    folders = {"images": "images", "masks": "masks"}
    add("folder", "images/a.png", "masks/a.png", **folders, num_classes=2)
    table = {"x": (0, 0, 0), "y": (1, 1, 1)}
    add("folder", "images/a.png", "masks/a.png", **folders, color_table=table)
    add("instance_ids", "images/a.png", "masks/a.png", **folders)
    add("camvid", "train/a.png", "trainannot/a.png", root="")
    add("ade20k", "images/training/a.jpg", "annotations/training/a.png", "JPEG", root="")
    city = "x/x_0_0_gtFine_labelIds.png"
    image = "leftImg8bit/train/x/x_0_0_leftImg8bit.png"
    add("cityscapes", image, f"gtFine/train/{city}", root="")
    add("isbi", "image/0.png", "label/0.png", root="")
    add("isbi", "train-volume.tif", "train-labels.tif", "TIFF", root="")
    add("cell_tracking", "01/t000.tif", "01_GT/SEG/man_seg000.tif", "TIFF", root="")
    for reader in ("voc_objects", "voc_instances"):
        root = folder / reader
        voc(root)
        mask = root / "SegmentationObject" / "a.png"
        sets.append((mask, reader, {"root": root}))
    return sets


def experiments() -> list[bytes]:
    """Experiment files, one with stages, and one that laughs."""
    names = ("unet_isbi2012", "mask_rcnn_dsb2018", "deeplab_v3_camvid")
    found = [_CONFIGS / f"{name}.yaml" for name in names if (_CONFIGS / f"{name}.yaml").exists()]
    staged = [p for p in sorted(_CONFIGS.glob("*.yaml")) if "\nstages:" in p.read_text()][:1]
    texts = [path.read_bytes() for path in [*found, *staged]]
    return [*texts, texts[0] + _LAUGHS.encode()]
