"""The semantic masks that panoptic networks learn, from COCO's panoptic files."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from pydantic import TypeAdapter

from tfseg.data.io import read_image
from tfseg.data.readers.coco_json import Id
from tfseg.data.readers.files import complain, folder, read_json
from tfseg.data.sample import DataError
from tfseg.ops.panoptic import ids_from_rgb


@dataclass(frozen=True, slots=True)
class _Category:
    id: Id
    name: str
    isthing: Literal[0, 1]


@dataclass(frozen=True, slots=True)
class _Segment:
    id: Id
    category_id: Id


@dataclass(frozen=True, slots=True)
class _Annotation:
    image_id: Id
    file_name: str
    segments_info: list[_Segment]


@dataclass(frozen=True, slots=True)
class _File:
    categories: list[_Category]
    annotations: list[_Annotation]


class PanopticMasks:
    """Masks in detectron2's convention (datasets/prepare_panoptic_fpn.py).

    Class 0 stands for all things, the stuff classes follow by increasing id: 54 in COCO. Pixels of
    no segment get the ignore label.

    Attributes:
        classes: the semantic classes' names.
        stuff_ids: the category ids of classes 1, 2, ...
    """

    def __init__(self, masks: Path, annotations: Path, ignore_label: int) -> None:
        """Reads the JSON; the PNGs are read one by one.

        Args:
            masks: folder of the panoptic PNGs.
            annotations: panoptic_train2017.json or the like.
            ignore_label: the label of pixels of no segment.

        Raises:
            ValueError: an ignore label that is a class.
            DataError: a missing or damaged file, images that are there twice, segments of unknown
                categories.
        """
        self._folder, self._origin, self._ignore_label = folder(masks), annotations, ignore_label
        tree = read_json(annotations, TypeAdapter(_File), "JSON of COCO's panoptic format")
        categories = sorted(tree.categories, key=lambda category: category.id)
        stuff = [category for category in categories if not category.isthing]
        self.classes = ("things", *(category.name for category in stuff))
        self.stuff_ids = tuple(category.id for category in stuff)
        if 0 <= ignore_label < len(self.classes):
            raise ValueError(
                f"ignore_label {ignore_label} is a semantic class, one of {len(self.classes)}"
            )
        self._labels = {category.id: 0 for category in categories if category.isthing}
        self._labels |= {number: label for label, number in enumerate(self.stuff_ids, start=1)}
        self._of_image = {annotation.image_id: annotation for annotation in tree.annotations}
        if len(self._of_image) < len(tree.annotations):
            raise DataError(f"{annotations} has two annotations of one image")
        odd = [
            f"{segment.id} of image {a.image_id} (category {segment.category_id})"
            for a in tree.annotations
            for segment in a.segments_info
            if segment.category_id not in self._labels
        ]
        complain(odd, "segments are of unknown categories", str(annotations))

    def check_images(self, ids: Sequence[int]) -> None:
        """Checks that these images have masks.

        Raises:
            DataError: naming those that have none.
        """
        absent = [number for number in ids if number not in self._of_image]
        complain(absent, "images have no panoptic annotation", str(self._origin))
        names = [Path(self._of_image[number].file_name).name for number in ids]
        missing = [name for name in names if not (self._folder / name).is_file()]
        complain(missing, "panoptic masks are missing", str(self._folder))

    def read(self, image: int, size: tuple[int, int]) -> np.ndarray:
        """The semantic mask int32 (H, W) of an image of this id and (height, width).

        Raises:
            DataError: a damaged file or one of another size, or pixels of unknown segments.
        """
        annotation = self._of_image[image]
        path = self._folder / Path(annotation.file_name).name
        colors = read_image(path)
        if colors.shape != (*size, 3):
            raise DataError(f"{path} must be {size[0]} x {size[1]} x 3, is {colors.shape}")
        numbers = ids_from_rgb(colors)
        labels = {
            segment.id: self._labels[segment.category_id] for segment in annotation.segments_info
        }
        present, where = np.unique(numbers, return_inverse=True)
        unknown = [number for number in present.tolist() if number and number not in labels]
        complain(unknown, f"segments are not listed in {self._origin.name}", str(path))
        labels.setdefault(0, self._ignore_label)
        table = np.array([labels[number] for number in present.tolist()], np.int32)
        return table[where.reshape(size)]
