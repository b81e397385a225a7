"""Objects that masks tell: instance ids of one class, and VOC's class and object masks."""

from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from tfseg.data.io import read_image, read_mask
from tfseg.data.outlines import mask_outline, stack_outlines
from tfseg.data.readers.base import BaseReader, Pair, register_reader
from tfseg.data.readers.files import check_pairs, complain, cut, image_files
from tfseg.data.readers.voc import CLASSES, VOID, voc_pairs, voc_palette
from tfseg.data.readers.voc_objects import objects_of
from tfseg.data.regions import Region
from tfseg.data.rle import encode_rle
from tfseg.data.sample import DataError, Sample

#: 16-bit files hold no more; with the image's place it makes ids that are unique in a split
MAX_OBJECTS = 1 << 16


class MaskObject(NamedTuple):
    """An object of an image: its id there, from 1, its class's label and its pixels."""

    number: int
    label: int
    region: Region


class ObjectMaskReader(BaseReader):
    """Samples whose objects are masks; see `tfseg.data.sample.ObjectReader`.

    A box is tight around its object's pixels. There are no crowds and no keypoints. An object in
    several pieces is one. Ids of annotations are 65536 times the image's id, from 1, plus the
    object's in its mask.
    """

    keypoint_names: tuple[str, ...] = ()
    skeleton: tuple[tuple[int, int], ...] = ()
    flip_pairs: tuple[tuple[int, int], ...] = ()
    semantic_classes: tuple[str, ...] = ()

    def __init__(
        self,
        pairs: Sequence[Pair],
        classes: Sequence[str],
        colors: np.ndarray | None,
        ignore_label: int,
    ) -> None:
        super().__init__(classes, colors, -1)
        self.ignore_label = ignore_label
        self.category_ids = tuple(range(1, len(classes) + 1))
        self._pairs = list(pairs)

    @abstractmethod
    def read_objects(self, index: int) -> tuple[tuple[int, int], list[MaskObject]]:
        """The (height, width) of an image's masks, and its objects by increasing number."""

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        """Reads one image and its objects.

        Raises:
            IndexError: past the end.
            DataError: a file that cannot be read, masks of another size than their image.
        """
        pair = self._pairs[index]
        image = read_image(pair.image)
        size, objects = self.read_objects(index)
        if image.shape[:2] != size:
            raise DataError(f"{pair.mask} is {size}, its image {pair.image} {image.shape[:2]}")
        try:
            edges = stack_outlines([mask_outline(found.region) for found in objects])
        except ValueError as e:
            raise DataError(f"{pair.mask}: {e}") from None
        return Sample(
            name=pair.name,
            image=np.repeat(image, 3, axis=-1) if image.shape[-1] == 1 else image,
            boxes=np.array([_box(found.region) for found in objects], np.float32).reshape(-1, 4),
            labels=np.array([found.label for found in objects], np.int32),
            crowd=np.zeros(len(objects), bool),
            edges=edges,
            area=np.array([found.region.inside.sum() for found in objects], np.float32),
            ids=np.array([self._id(index, found) for found in objects], np.int64),
        )

    def keys(self) -> tuple[str, ...]:
        """The keys of every sample."""
        return ("name", "image", "boxes", "labels", "crowd", "edges", "area", "ids")

    def image_file(self, index: int) -> Path | None:
        """The file of the image of sample ``index``."""
        return self._pairs[index].image

    def image_id(self, index: int) -> int:
        """The id of the image of sample ``index``: its place, from 1."""
        return range(len(self))[index] + 1

    def known_images(self) -> range:
        """The ids of the split's images."""
        return range(1, len(self) + 1)

    def void_mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """Nothing: see `tfseg.data.sample.ObjectReader`."""
        return np.zeros(size, bool)

    def _id(self, index: int, found: MaskObject) -> int:
        return self.image_id(index) * MAX_OBJECTS + found.number

    def truth(self) -> dict[str, Any]:
        """The ground truth as COCO's JSON, masks as uncompressed RLE; all masks are read."""
        images, annotations = [], []
        for index, pair in enumerate(self._pairs):
            size, objects = self.read_objects(index)
            height, width = size
            image = {"id": self.image_id(index), "height": height, "width": width}
            images.append({**image, "file_name": pair.image.name})
            for found in objects:
                whole = np.zeros(size, bool)
                whole[found.region.place] = found.region.inside
                x1, y1, x2, y2 = _box(found.region)
                annotations.append(
                    {
                        "id": self._id(index, found),
                        "image_id": image["id"],
                        "category_id": self.category_ids[found.label],
                        "bbox": [x1, y1, x2 - x1, y2 - y1],
                        "area": int(found.region.inside.sum()),
                        "iscrowd": 0,
                        "segmentation": encode_rle(whole),
                    }
                )
        names = zip(self.category_ids, self.classes, strict=True)
        categories = [{"id": number, "name": name} for number, name in names]
        return {"images": images, "categories": categories, "annotations": annotations}


def _box(region: Region) -> tuple[int, int, int, int]:
    """A region's bounds, xyxy."""
    height, width = region.inside.shape
    return region.left, region.top, region.left + width, region.top + height


@register_reader("instance_ids")
class InstanceIdReader(ObjectMaskReader):
    """Images and masks of their objects' ids, 0 between them: one class, as cell nuclei.

    Images and masks are paired by their names without suffix.
    """

    def __init__(
        self,
        *,
        images: Path,
        masks: Path,
        class_name: str = "object",
        subset: tuple[int, int] | None = None,
        ignore_label: int = 255,
    ) -> None:
        """Pairs the files and checks that none is missing.

        Args:
            images: folder of images; gray ones get three channels, alpha is dropped.
            masks: folder of 8- or 16-bit gray or palette images of ids.
            class_name: what the objects are.
            subset: [start, stop) of the images in natural order; default: all.
            ignore_label: not used; objects leave no pixel unlabelled.

        Raises:
            DataError: missing or empty folders and files, a subset past the last image.
        """
        found, ids = image_files(images), image_files(masks)
        absent = [file.name for stem, file in found.items() if stem not in ids]
        complain(absent, f"images of {images} have no mask", str(masks))
        pairs = [Pair(stem, file, ids[stem]) for stem, file in found.items()]
        check_pairs(pairs, str(images))
        super().__init__(cut(pairs, subset, str(images)), [class_name], None, ignore_label)

    def read_objects(self, index: int) -> tuple[tuple[int, int], list[MaskObject]]:
        """The (height, width) of an image's mask, and its objects by increasing id.

        Raises:
            DataError: a mask that cannot be read, or has ids of more than 16 bits.
        """
        # Here, because scipy takes longer to import than all the rest of the readers.
        from scipy import ndimage

        path = self._pairs[index].mask
        ids = read_mask(path)
        if ids.min() < 0 or ids.max() >= MAX_OBJECTS:
            raise DataError(f"{path}: ids must be in 0..{MAX_OBJECTS - 1}, not {ids.max()}")
        objects = [
            MaskObject(number, 0, Region(place[0].start, place[1].start, ids[place] == number))
            for number, place in enumerate(ndimage.find_objects(ids), start=1)
            if place is not None
        ]
        return (ids.shape[0], ids.shape[1]), objects


@register_reader("voc_instances")
class VocInstances(ObjectMaskReader):
    """The objects of VOC's segmentation set: 20 classes, without the background.

    An object's class is that of most of its pixels. The void border belongs to no object.
    """

    def __init__(
        self,
        *,
        root: Path,
        split: str = "train",
        masks: str = "SegmentationClass",
        objects: str = "SegmentationObject",
        ignore_label: int = 255,
    ) -> None:
        """Pairs the files and checks that none is missing.

        Args:
            root: the folder VOC2012 of the devkit.
            split: see `VocReader`.
            masks: the folder below ``root`` of class masks.
            objects: the folder below ``root`` of object masks of the same file names.
            ignore_label: not used; the void border belongs to no object.

        Raises:
            DataError: missing folders or files, an empty split.
        """
        semantic = voc_pairs(root, split, masks)
        self._classes = [pair.mask for pair in semantic]
        pairs = [pair._replace(mask=root / objects / pair.mask.name) for pair in semantic]
        check_pairs(pairs, split)
        colors = voc_palette(len(CLASSES))[1:]
        super().__init__(pairs, CLASSES[1:], colors, ignore_label)

    def read_objects(self, index: int) -> tuple[tuple[int, int], list[MaskObject]]:
        """The (height, width) of an image's masks, and its objects by increasing number.

        Raises:
            DataError: masks that cannot be read or differ in size, or a label that is no class.
        """
        path = self._pairs[index].mask
        numbers = read_mask(path)
        objects = []
        for found in objects_of(self._classes[index], path):
            if not 0 < found.label < len(CLASSES):
                raise DataError(f"{self._classes[index]}: label {found.label} is no class")
            x1, y1, x2, y2 = found.box
            region = Region(y1, x1, numbers[y1:y2, x1:x2] == found.number)
            objects.append(MaskObject(found.number, found.label - 1, region))
        return (numbers.shape[0], numbers.shape[1]), objects

    def void_mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """The void border, bool (H, W).

        Raises:
            DataError: a mask that cannot be read or has another size.
        """
        path = self._classes[index]
        labels = read_mask(path)
        if labels.shape != size:
            raise DataError(f"{path} is {labels.shape}, its image {size}")
        void: np.ndarray = labels == VOID
        return void
