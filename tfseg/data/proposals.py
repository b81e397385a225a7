"""Boxes of another detector for the heads of a detector to learn from."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from pydantic import FiniteFloat, TypeAdapter

from tfseg.data.coco_results import check_results, corners
from tfseg.data.extension import ExtendedReader
from tfseg.data.readers.coco_json import Id, Pixels
from tfseg.data.readers.files import read_json
from tfseg.data.sample import DataError, ObjectReader, Sample


# What is read of a result; as slots, because there are millions.
@dataclass(frozen=True, slots=True)
class _Result:
    image_id: Id
    bbox: tuple[Pixels, Pixels, Pixels, Pixels]
    score: FiniteFloat


def read_proposals(path: Path, known: Collection[int], count: int) -> dict[int, np.ndarray]:
    """The best boxes of each image, from a file of COCO's results.

    Args:
        path: JSON, [{"image_id": ..., "bbox": [x, y, width, height], "score": ...}, ...]; what
            else there is, as "category_id", is not used.
        known: the images that there are.
        count: the most boxes of an image; those that score less are left out.

    Returns:
        float32 (P, 4) xyxy by falling score, of each image that has any; boxes of equal scores
        stay in the file's order.

    Raises:
        DataError: a missing or damaged file, entries that lack a key or have one of a wrong type,
            numbers that are not finite, boxes of negative sides, unknown images, no box at all.
    """
    results = read_json(path, TypeAdapter(list[_Result]), "JSON of COCO's results")
    if not results:
        raise DataError(f"{path} has no boxes")
    check_results(results, known, str(path))
    images, boxes = np.array([result.image_id for result in results]), corners(results)
    # By image, and in it by falling score.
    order = np.lexsort((-np.array([result.score for result in results]), images))
    found, starts = np.unique(images[order], return_index=True)
    parts = np.split(boxes[order].astype(np.float32), starts[1:])
    return {int(image): part[:count].copy() for image, part in zip(found, parts, strict=True)}


class ProposedRegions(ExtendedReader):
    """Samples with "proposals", the boxes that a file has of their images.

    They are cut to their images; those of which nothing is left are left out. An image of which
    the file has none gets none.
    """

    added = "proposals"

    def __init__(self, reader: ObjectReader, path: Path, count: int = 1000) -> None:
        """Reads the file; see `read_proposals`.

        Args:
            reader: the objects.
            path: the file. It may have boxes of images outside the reader's split.
            count: the most boxes of an image.

        Raises:
            DataError: what is wrong with the file, or no box of any image of the split.
        """
        super().__init__(reader)
        self._proposals = read_proposals(path, reader.known_images(), count)
        if not any(reader.image_id(index) in self._proposals for index in range(len(reader))):
            raise DataError(f"{path} has no boxes of the split's {len(reader)} images")

    def extend(self, sample: Sample, index: int) -> Sample:
        """The sample with its proposals."""
        none = np.zeros((0, 4), np.float32)
        boxes = self._proposals.get(self._reader.image_id(index), none)
        height, width = sample["image"].shape[:2]
        boxes = boxes.clip(0, np.array([width, height] * 2, np.float32))
        sample["proposals"] = boxes[(boxes[:, 2:] > boxes[:, :2]).all(1)]
        return sample
