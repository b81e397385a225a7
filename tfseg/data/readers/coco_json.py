"""The files of COCO's instances and keypoints, checked: cocodataset.org/#format-data."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, NamedTuple

import numpy as np
from pydantic import Field, FiniteFloat, PositiveInt, TypeAdapter

from tfseg.data.io import MAX_PIXELS
from tfseg.data.readers.base import twice
from tfseg.data.readers.files import complain, is_file, read_json
from tfseg.data.sample import DataError

_LOG = logging.getLogger(__name__)

# COCO rounds boxes to hundredths of pixels.
_ROUNDED = 0.02

Id = Annotated[int, Field(ge=-(2**63), lt=2**63)]
Pixels = Annotated[float, Field(gt=-1e7, lt=1e7, allow_inf_nan=False)]
Run = Annotated[int, Field(ge=0, lt=2**32)]


@dataclass(frozen=True, slots=True)
class Rle:
    """A run-length encoded mask; see `tfseg.data.rle`."""

    size: list[int]
    counts: str | list[Run]


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image; LVIS has ``coco_url`` in place of ``file_name``."""

    id: Id
    height: PositiveInt
    width: PositiveInt
    file_name: str | None = None
    coco_url: str | None = None


@dataclass(frozen=True, slots=True)
class Category:
    """A class; those of persons have keypoints. ``skeleton`` counts them from 1."""

    id: Id
    name: str
    keypoints: list[str] | None = None
    skeleton: list[tuple[PositiveInt, PositiveInt]] | None = None


@dataclass(frozen=True, slots=True)
class _Annotation:
    id: Id
    image_id: Id
    category_id: Id
    bbox: tuple[Pixels, Pixels, Pixels, Pixels]
    area: FiniteFloat
    iscrowd: Literal[0, 1] = 0
    segmentation: list[list[Pixels]] | Rle | None = None
    keypoints: list[Pixels] | None = None


@dataclass(frozen=True, slots=True)
class _File:
    images: list[CocoImage]
    categories: list[Category]
    annotations: list[_Annotation]


class CocoObject(NamedTuple):
    """An annotation, as arrays, which take a tenth of the lists' memory.

    Attributes:
        id: of the annotation.
        category_id: of its class.
        box: xyxy in its image.
        area: pixels, as the file has it.
        crowd: a region of many objects.
        segmentation: polygons, float32 (n, 2) corners each, a mask, or None.
        keypoints: float32 (K, 3) as the file has them, or None.
    """

    id: int
    category_id: int
    box: tuple[float, float, float, float]
    area: float
    crowd: bool
    segmentation: tuple[np.ndarray, ...] | Rle | None
    keypoints: np.ndarray | None


class CocoFile(NamedTuple):
    """A file's content: images and categories by increasing id, objects by image id."""

    images: list[CocoImage]
    categories: list[Category]
    objects: dict[int, list[CocoObject]]


def read_coco(path: Path, *, masks: bool, keypoints: bool) -> CocoFile:
    """Reads and checks a file of COCO's format; more keys, as LVIS has, are no mistake.

    Boxes are clipped to their images; those without an area are left out. One warning tells how
    many, and which.

    Args:
        path: the JSON file.
        masks: every object but a crowd must have a segmentation.
        keypoints: the categories must have keypoints, all as many.

    Raises:
        DataError: a missing or damaged file, entries that lack a key or have one of a wrong
            type; ids that are there twice or unknown; a polygon of fewer than 3 points; an RLE of
            another size than its image; keypoints of a wrong length; no category.
    """
    tree = read_json(path, TypeAdapter(_File), "JSON of COCO's format")
    origin = str(path)
    images = {image.id: image for image in tree.images}
    categories = sorted(tree.categories, key=lambda category: category.id)
    _check_ids(tree, images, origin)
    large = [i.id for i in tree.images if i.height * i.width > MAX_PIXELS]
    complain(large, f"images have more than {MAX_PIXELS:,} pixels", origin)
    points = _keypoint_count(categories, origin) if keypoints else 0
    objects: dict[int, list[CocoObject]] = {image: [] for image in sorted(images)}
    boxes = _boxes(tree.annotations, images, origin)
    kept = [annotation for annotation in tree.annotations if annotation.id in boxes]
    _check_segmentations(kept, images, masks, origin)
    _check_keypoints(kept, points, origin)
    for annotation in kept:
        found = _object(annotation, boxes[annotation.id], masks, points)
        objects[annotation.image_id].append(found)
    return CocoFile([images[image] for image in objects], categories, objects)


def _check_ids(tree: _File, images: dict[int, CocoImage], origin: str) -> None:
    if not tree.categories:
        raise DataError(f"{origin} has no categories")
    complain(twice(i.id for i in tree.images), "image ids are there twice", origin)
    complain(twice(c.id for c in tree.categories), "category ids are there twice", origin)
    complain(twice(c.name for c in tree.categories), "category names are there twice", origin)
    complain(twice(a.id for a in tree.annotations), "annotation ids are there twice", origin)
    known = {category.id for category in tree.categories}
    odd = [f"{a.id} (image {a.image_id})" for a in tree.annotations if a.image_id not in images]
    complain(odd, "annotations are of unknown images", origin)
    odd = [f"{a.id} (category {a.category_id})" for a in tree.annotations]
    odd = [
        text for text, a in zip(odd, tree.annotations, strict=True) if a.category_id not in known
    ]
    complain(odd, "annotations are of unknown categories", origin)


def _keypoint_count(categories: Sequence[Category], origin: str) -> int:
    counts = {c.name: len(c.keypoints or ()) for c in categories}
    first = next(iter(counts.values()))
    odd = [f"{name} ({count})" for name, count in counts.items() if count != first or not count]
    complain(odd, f"categories have other keypoints than the first one's {first}, or none", origin)
    beyond = [c.name for c in categories if any(max(pair) > first for pair in c.skeleton or ())]
    complain(beyond, f"categories have a skeleton of keypoints beyond {first}", origin)
    return first


def _boxes(
    annotations: Sequence[_Annotation], images: dict[int, CocoImage], origin: str
) -> dict[int, tuple[float, float, float, float]]:
    """The boxes that are left in their images, xyxy, by annotation id."""
    boxes, clipped, dropped = {}, [], []
    for annotation in annotations:
        image = images[annotation.image_id]
        x, y, width, height = annotation.bbox
        box = (max(x, 0.0), max(y, 0.0), min(x + width, image.width), min(y + height, image.height))
        if width <= 0 or height <= 0 or box[0] >= box[2] or box[1] >= box[3]:
            dropped.append(annotation.id)
            continue
        boxes[annotation.id] = box
        moved = np.abs(np.subtract(box, (x, y, x + width, y + height)))
        if moved.max() > _ROUNDED:
            clipped.append(annotation.id)
    reports = [
        f"{len(ids)} {what} (annotations {', '.join(map(str, ids[:5]))}"
        f"{', ...' if len(ids) > 5 else ''})"
        for ids, what in (
            (clipped, "boxes are clipped to their images"),
            (dropped, "objects are left out, whose boxes have no area in their images"),
        )
        if ids
    ]
    if reports:
        _LOG.warning("%s: %s", origin, "; ".join(reports))
    return boxes


def _check_segmentations(
    annotations: Sequence[_Annotation], images: dict[int, CocoImage], masks: bool, origin: str
) -> None:
    short, sizes, absent = [], [], []
    for annotation in annotations:
        image, segmentation = images[annotation.image_id], annotation.segmentation
        if isinstance(segmentation, Rle):
            if segmentation.size != [image.height, image.width]:
                size = f"{segmentation.size}, image [{image.height}, {image.width}]"
                sizes.append(f"{annotation.id} ({size})")
        elif any(len(polygon) < 6 or len(polygon) % 2 for polygon in segmentation or ()):
            short.append(annotation.id)
        elif not segmentation and not annotation.iscrowd:
            absent.append(annotation.id)
    complain(sizes, "annotations have an RLE of another size than their image", origin)
    what = "annotations have a polygon of fewer than 3 points, or an odd count of coordinates"
    complain(short, what, origin)
    if masks:
        what = "annotations have no segmentation (give masks: false for boxes alone)"
        complain(absent, what, origin)


def _check_keypoints(annotations: Sequence[_Annotation], count: int, origin: str) -> None:
    if not count:
        return
    lengths = {a.id: len(a.keypoints) for a in annotations if a.keypoints is not None}
    odd = [f"{number} ({length})" for number, length in lengths.items() if length != 3 * count]
    complain(odd, f"annotations have not {count} keypoints of 3 numbers each", origin)
    visibilities = {a.id: set((a.keypoints or [])[2::3]) for a in annotations}
    odd = [str(number) for number, found in visibilities.items() if not found <= {0, 1, 2}]
    complain(odd, "annotations have keypoints of a visibility that is not 0, 1 or 2", origin)


def _object(
    annotation: _Annotation,
    box: tuple[float, float, float, float],
    masks: bool,
    keypoints: int,
) -> CocoObject:
    segmentation: tuple[np.ndarray, ...] | Rle | None = None
    if masks:
        found = annotation.segmentation
        if isinstance(found, Rle):
            segmentation = found
        else:
            parts = found or ()
            segmentation = tuple(np.array(part, np.float32).reshape(-1, 2) for part in parts)
    points = None
    if keypoints and annotation.keypoints is not None:
        points = np.array(annotation.keypoints, np.float32).reshape(keypoints, 3)
    return CocoObject(
        annotation.id,
        annotation.category_id,
        box,
        annotation.area,
        bool(annotation.iscrowd),
        segmentation,
        points,
    )


def image_path(image: CocoImage, images: Path) -> Path:
    """An image's file below the folder ``images``.

    LVIS names it by its address alone: .../train2017/000000391895.jpg is looked for below a folder
    train2017, too.

    Raises:
        ValueError: no name, or one that leads out of the folder.
    """
    if image.file_name is not None:
        inside = PurePosixPath(image.file_name)
        if not inside.parts or inside.is_absolute() or ".." in inside.parts:
            raise ValueError(f"its file_name {image.file_name!r} leads out of the images' folder")
        return images / inside
    parts = PurePosixPath(image.coco_url or "").parts[-2:]
    if len(parts) < 2 or ".." in parts:
        raise ValueError("it has neither a file_name nor a coco_url of a file")
    below = images / parts[0] / parts[1]
    return below if is_file(below) else images / parts[1]
