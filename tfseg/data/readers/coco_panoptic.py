"""COCO's panoptic files: the semantic masks that networks learn, and segments to score."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, FiniteFloat, TypeAdapter

from tfseg.data.io import read_image
from tfseg.data.readers.base import twice
from tfseg.data.readers.coco_json import Id
from tfseg.data.readers.files import complain, folder, is_file, read_json
from tfseg.data.sample import DataError
from tfseg.ops.panoptic import MAX_ID, ids_from_rgb


@dataclass(frozen=True, slots=True)
class PanopticCategory:
    """A kind of things or of stuff, as COCO's JSON has it."""

    id: Id
    name: str
    isthing: Literal[0, 1]


@dataclass(frozen=True, slots=True)
class _Segment:
    id: Annotated[int, Field(gt=0, le=MAX_ID)]
    category_id: Id
    area: Annotated[FiniteFloat, Field(ge=0)]
    iscrowd: Literal[0, 1] = 0


@dataclass(frozen=True, slots=True)
class _Annotation:
    image_id: Id
    file_name: str
    segments_info: list[_Segment]


@dataclass(frozen=True, slots=True)
class _File:
    categories: list[PanopticCategory]
    annotations: list[_Annotation]


def _has_one_twice(segments: list[_Segment]) -> bool:
    return len({segment.id for segment in segments}) < len(segments)


class PanopticMasks:
    """Segments, and masks in detectron2's convention (datasets/prepare_panoptic_fpn.py).

    Class 0 stands for all things, the stuff classes follow by increasing id: 54 in COCO. Pixels of
    no segment get the ignore label.

    Attributes:
        categories: all categories, things and stuff, by increasing id.
        classes: the semantic classes' names.
        things: category id and name of things, by increasing id.
        stuff: category id and name of the semantic classes from 1 on.
    """

    def __init__(self, masks: Path, annotations: Path, ignore_label: int) -> None:
        """Reads the JSON; the PNGs are read one by one.

        Args:
            masks: folder of the panoptic PNGs.
            annotations: panoptic_train2017.json or the like.
            ignore_label: the label of pixels of no segment.

        Raises:
            ValueError: an ignore label that is a class.
            DataError: a missing or damaged file, images, categories or an image's segments that
                are there twice, segments of unknown categories.
        """
        self._folder, self._origin, self._ignore_label = folder(masks), annotations, ignore_label
        tree = read_json(annotations, TypeAdapter(_File), "JSON of COCO's panoptic format")
        self.categories = tuple(sorted(tree.categories, key=lambda category: category.id))
        again = twice(category.id for category in self.categories)
        complain(again, "categories are there twice", str(annotations))
        self.things = {c.id: c.name for c in self.categories if c.isthing}
        self.stuff = {c.id: c.name for c in self.categories if not c.isthing}
        self.classes = ("things", *self.stuff.values())
        if 0 <= ignore_label < len(self.classes):
            raise ValueError(
                f"ignore_label {ignore_label} is a semantic class, one of {len(self.classes)}"
            )
        self._labels = dict.fromkeys(self.things, 0)
        self._labels |= {number: label for label, number in enumerate(self.stuff, start=1)}
        self._of_image = {annotation.image_id: annotation for annotation in tree.annotations}
        if len(self._of_image) < len(tree.annotations):
            raise DataError(f"{annotations} has two annotations of one image")
        again = [a.image_id for a in tree.annotations if _has_one_twice(a.segments_info)]
        complain(again, "images have two segments of one id", str(annotations))
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
        missing = [name for name in names if not is_file(self._folder / name)]
        complain(missing, "panoptic masks are missing", str(self._folder))

    def segments(
        self, image: int, size: tuple[int, int]
    ) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """The segments of an image of this id and (height, width).

        Returns:
            int32 (H, W), segment ids, 0 where there is none; and the JSON's "id", "category_id",
            "area" in pixels and "iscrowd" of each segment.

        Raises:
            DataError: a damaged file or one of another size, or pixels of unknown segments.
        """
        annotation = self._of_image[image]
        path = self._folder / Path(annotation.file_name).name
        colors = read_image(path)
        if colors.shape != (*size, 3):
            raise DataError(f"{path} must be {size[0]} x {size[1]} x 3, is {colors.shape}")
        numbers = ids_from_rgb(colors)
        listed = {0, *(segment.id for segment in annotation.segments_info)}
        unknown = [number for number in np.unique(numbers).tolist() if number not in listed]
        complain(unknown, f"segments are not listed in {self._origin.name}", str(path))
        return numbers, [asdict(segment) for segment in annotation.segments_info]

    def read(self, image: int, size: tuple[int, int]) -> np.ndarray:
        """The semantic mask int32 (H, W) of an image of this id and (height, width).

        Raises:
            DataError: as `segments`.
        """
        numbers, segments = self.segments(image, size)
        labels = {0: self._ignore_label}
        labels |= {segment["id"]: self._labels[segment["category_id"]] for segment in segments}
        known = sorted(labels)
        table = np.array([labels[number] for number in known], np.int32)
        return table[np.searchsorted(known, numbers)]
