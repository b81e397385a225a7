"""COCO's instances, keypoints and panoptic sets, and sets in their format, LVIS among them."""

import json
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np

from tfseg.data.io import read_image
from tfseg.data.outlines import (
    mask_outline,
    outline_region,
    polygon_outline,
    stack_outlines,
)
from tfseg.data.readers.base import BaseReader, register_reader, twice
from tfseg.data.readers.coco_json import CocoImage, CocoObject, Rle, image_path, read_coco
from tfseg.data.readers.coco_panoptic import PanopticMasks
from tfseg.data.readers.cocostuff import PixelMaps
from tfseg.data.readers.files import complain, cut, folder, is_file
from tfseg.data.regions import Region, region_of
from tfseg.data.rle import decode_rle
from tfseg.data.sample import DataError, Sample

_NO_OUTLINE = np.zeros((0, 4), np.float32)


@register_reader("coco")
class CocoReader(BaseReader):
    """Objects with boxes, masks and keypoints; see `tfseg.data.sample.ObjectReader`.

    Images come by increasing id; gray ones get three channels. Labels are the places of the
    categories by increasing id. Coordinates are COCO's, in which pixel i covers [i, i + 1); but
    keypoints, which COCO gives as whole pixels, get half a pixel more, to lie in their middles.
    """

    def __init__(
        self,
        *,
        images: Path,
        annotations: Path,
        masks: bool = True,
        keypoints: bool = False,
        panoptic_masks: Path | None = None,
        panoptic_annotations: Path | None = None,
        semantic_masks: Path | None = None,
        only_labelled: bool = False,
        subset: tuple[int, int] | None = None,
        ignore_label: int = 255,
    ) -> None:
        """Reads the JSON and checks it, and that no image is missing.

        Args:
            images: folder of the images.
            annotations: instances_train2017.json, person_keypoints_train2017.json or the like.
            masks: samples have "edges"; all objects must have a segmentation.
            keypoints: samples have "keypoints"; objects that have none get visibility 0.
            panoptic_masks: folder of panoptic PNGs, from which samples get "mask", with the
                classes of `PanopticMasks`.
            panoptic_annotations: their JSON.
            semantic_masks: instead, folder of COCO-Stuff's pixel maps (one split of the unpacked
                stuffthingmaps_trainval2017.zip), from which samples get "mask"; see `PixelMaps`.
            only_labelled: leave out images without an object that is no crowd, and with
                ``keypoints`` those without a labelled keypoint, as detectron2 does in training.
            subset: [start, stop) of the images, to hold some out; default: all.
            ignore_label: the label of pixels of no panoptic segment, or not in a pixel map.

        Raises:
            DataError: what is wrong with the files; see `read_coco`.
            ValueError: only one of the panoptic options, or those and pixel maps.
        """
        self._file, self._folder = annotations, folder(images)
        content = read_coco(annotations, masks=masks, keypoints=keypoints)
        # Labels of objects have no ignore label, and LVIS has more classes than 255.
        super().__init__([category.name for category in content.categories], None, -1)
        self.ignore_label = ignore_label
        self.category_ids = tuple(category.id for category in content.categories)
        self.keypoint_names: tuple[str, ...] = ()
        self.skeleton: tuple[tuple[int, int], ...] = ()
        if keypoints:
            self.keypoint_names = tuple(content.categories[0].keypoints or ())
            pairs = content.categories[0].skeleton or ()
            self.skeleton = tuple((a - 1, b - 1) for a, b in pairs)
        self.flip_pairs = mirror_pairs(self.keypoint_names)
        self._labels = {number: label for label, number in enumerate(self.category_ids)}
        self._objects, self._masks = content.objects, masks
        kept = content.images
        if only_labelled:
            kept = [image for image in kept if self._is_labelled(image)]
        self._images = cut(kept, subset, str(annotations))
        if not self._images:
            raise DataError(f"{annotations} has no images, or none with labelled objects")
        self._paths = self._find_images()
        if (panoptic_masks is None) != (panoptic_annotations is None):
            raise ValueError("give panoptic_masks and panoptic_annotations, or neither")
        self.semantic: PanopticMasks | None = None
        if panoptic_masks is not None and panoptic_annotations is not None:
            self.semantic = PanopticMasks(panoptic_masks, panoptic_annotations, ignore_label)
            self.semantic.check_images([image.id for image in self._images])
        self._maps: PixelMaps | None = None
        if semantic_masks is not None:
            if self.semantic is not None:
                raise ValueError("give panoptic_masks or semantic_masks: samples have one mask")
            images_of = zip(self._images, self._paths, strict=True)
            stems = {image.id: path.stem for image, path in images_of}
            self._maps = PixelMaps(semantic_masks, stems, ignore_label)

    @property
    def semantic_classes(self) -> tuple[str, ...]:
        """The names of the labels in "mask"; empty without masks."""
        masks = self.semantic or self._maps
        return () if masks is None else masks.classes

    def _is_labelled(self, image: CocoImage) -> bool:
        objects = [found for found in self._objects[image.id] if not found.crowd]
        if not self.keypoint_names:
            return bool(objects)
        return any(o.keypoints is not None and o.keypoints[:, 2].any() for o in objects)

    def _find_images(self) -> list[Path]:
        paths = []
        for image in self._images:
            try:
                paths.append(image_path(image, self._folder))
            except ValueError as e:
                raise DataError(f"{self._file}: image {image.id}: {e}") from None
        complain(twice(paths), "images are listed under two ids", str(self._file))
        missing = [path for path in paths if not is_file(path)]
        complain(missing, "images are missing", str(self._file))
        return paths

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image and its objects.

        Raises:
            IndexError: past the end.
            DataError: an image that cannot be read or has another size than the JSON says, or a
                segmentation that cannot be decoded.
        """
        image, path = self._images[index], self._paths[index]
        pixels = read_image(path)
        if pixels.shape[:2] != (image.height, image.width):
            raise DataError(
                f"{path} has {pixels.shape[0]} rows x {pixels.shape[1]} columns, but image "
                f"{image.id} of {self._file} has {image.height} x {image.width}"
            )
        objects = self._objects[image.id]
        sample = Sample(
            name="_".join(path.relative_to(self._folder).with_suffix("").parts),
            image=np.repeat(pixels, 3, axis=-1) if pixels.shape[-1] == 1 else pixels,
            boxes=np.array([found.box for found in objects], np.float32).reshape(-1, 4),
            labels=np.array([self._labels[found.category_id] for found in objects], np.int32),
            crowd=np.array([found.crowd for found in objects], bool),
            area=np.array([found.area for found in objects], np.float32),
            ids=np.array([found.id for found in objects], np.int64),
        )
        if self._masks:
            sample["edges"] = self._edges(image, objects)
        if self.keypoint_names:
            sample["keypoints"] = _keypoints(objects, len(self.keypoint_names))
        masks = self.semantic or self._maps
        if masks is not None:
            sample["mask"] = masks.read(image.id, (image.height, image.width))
        return sample

    def _edges(self, image: CocoImage, objects: list[CocoObject]) -> np.ndarray:
        outlines = []
        for found in objects:
            try:
                size = (image.height, image.width)
                outlines.append(_NO_OUTLINE if found.crowd else _outline(found, size))
            except ValueError as e:
                raise DataError(f"{self._file}: annotation {found.id}: {e}") from None
        try:
            return stack_outlines(outlines)
        except ValueError as e:
            raise DataError(f"{self._file}: image {image.id}: {e}") from None

    def keys(self) -> tuple[str, ...]:
        """The keys of every sample."""
        optional = (
            ("edges", self._masks),
            ("keypoints", bool(self.keypoint_names)),
            ("mask", bool(self.semantic_classes)),
        )
        keys = ("name", "image", "boxes", "labels", "crowd", "area", "ids")
        return (*keys, *(key for key, wanted in optional if wanted))

    def image_file(self, index: int) -> Path | None:
        """The file of the image of sample ``index``."""
        return self._paths[index]

    def image_id(self, index: int) -> int:
        """The id of the image of sample ``index``."""
        return self._images[index].id

    def known_images(self) -> Collection[int]:
        """The ids of all images of the file."""
        return self._objects.keys()

    def void_mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The crowds of an image of this (height, width), bool (H, W).

        A crowd without a segmentation, as all are with ``masks: false``, is its box.

        Raises:
            DataError: a segmentation that cannot be decoded.
        """
        void = np.zeros(size, bool)
        for found in self._objects[self._images[index].id]:
            if found.crowd:
                try:
                    region = _region(found, size)
                except ValueError as e:
                    raise DataError(f"{self._file}: annotation {found.id}: {e}") from None
                void[region.place] |= region.inside
        return void

    def truth(self) -> dict[str, Any]:
        """The JSON, restricted to the split's images; what LVIS lacks, ``iscrowd``, is 0."""
        tree = json.loads(self._file.read_bytes())
        kept = {image.id for image in self._images}
        return {
            "images": [image for image in tree["images"] if image["id"] in kept],
            "categories": tree["categories"],
            "annotations": [
                {"iscrowd": 0, **annotation}
                for annotation in tree["annotations"]
                if annotation["image_id"] in kept
            ],
        }


def mirror_pairs(names: tuple[str, ...]) -> tuple[tuple[int, int], ...]:
    """The pairs of keypoints left_NAME and right_NAME, by their places."""
    return tuple(
        (place, names.index(f"right_{name.removeprefix('left_')}"))
        for place, name in enumerate(names)
        if name.startswith("left_") and f"right_{name.removeprefix('left_')}" in names
    )


def _outline(found: CocoObject, size: tuple[int, int]) -> np.ndarray:
    if not found.segmentation:
        return _NO_OUTLINE
    if isinstance(found.segmentation, Rle):
        return mask_outline(_decoded(found.segmentation, size))
    return polygon_outline(found.segmentation)


def _decoded(found: Rle, size: tuple[int, int]) -> Region:
    return region_of(decode_rle({"size": found.size, "counts": found.counts}, size))


def _region(found: CocoObject, size: tuple[int, int]) -> Region:
    """The pixels of an object, or without a segmentation of its box."""
    if not found.segmentation:
        left, top = (math.floor(low) for low in found.box[:2])
        right, bottom = (math.ceil(high) for high in found.box[2:])
        return Region(top, left, np.ones((bottom - top, right - left), bool))
    if isinstance(found.segmentation, Rle):
        return _decoded(found.segmentation, size)
    return outline_region(polygon_outline(found.segmentation), size)


def _keypoints(objects: list[CocoObject], count: int) -> np.ndarray:
    """float32 (N, K, 3) in continuous pixels."""
    points = np.zeros((len(objects), count, 3), np.float32)
    for place, found in zip(points, objects, strict=True):
        if found.keypoints is not None:
            place[:] = found.keypoints + np.array([0.5, 0.5, 0], np.float32)
    return points
