"""The boxes of a file in COCO's results format, by image."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
from pydantic import Field, TypeAdapter

from tfseg.data.coco_results import check_results, corners
from tfseg.data.readers.coco_json import Id, Pixels
from tfseg.data.readers.files import complain, read_json
from tfseg.data.sample import DataError

Key = int | str


# What is read of a result; as slots, because there may be millions.
@dataclass(frozen=True, slots=True)
class _Result:
    image_id: Id | str
    category_id: Id
    bbox: tuple[Pixels, Pixels, Pixels, Pixels]
    score: Annotated[float, Field(ge=0, le=1)]


class ResultsFile:
    """What some detector has found, from a file of COCO's results.

    Attributes:
        path: the file.
    """

    def __init__(
        self,
        path: Path,
        category_ids: Sequence[int],
        images: Collection[Key],
        known: Collection[Key] | None = None,
    ):
        """Reads and checks the file.

        Args:
            path: JSON, [{"image_id": ..., "category_id": ..., "bbox": [x, y, width, height],
                "score": 0..1}, ...]; other keys, as "segmentation", are not used.
            category_ids: which there are, by class.
            images: the ids of the images that boxes will be asked for. The file may have none of
                some: nothing has been found there.
            known: the images that there are; None: any.

        Raises:
            DataError: a missing or damaged file, entries that lack a key or have one of a wrong
                type, unknown categories or images, boxes of a negative width or height, scores
                outside 0..1, no box of any of ``images``.
        """
        self.path = path
        results = read_json(path, TypeAdapter(list[_Result]), "JSON of COCO's results")
        places = {number: place for place, number in enumerate(category_ids)}
        odd = [
            f"{i} (category {r.category_id})"
            for i, r in enumerate(results)
            if r.category_id not in places
        ]
        complain(odd, f"results are of none of the {len(places)} categories", str(path))
        check_results(results, known, str(path))
        # By image, and in it by falling score.
        ids = {key: number for number, key in enumerate({r.image_id: None for r in results})}
        if not ids.keys() & set(images):
            some = ", ".join(str(key) for key in list(ids)[:5]) or "none"
            raise DataError(
                f"{path} has no boxes of the {len(images)} images to look at (as "
                f"{next(iter(images), None)!r}); it has those of image_id {some}. An image file's "
                "image_id is its name without suffix, as an integer if it has digits alone"
            )
        owners = np.array([ids[r.image_id] for r in results])
        scores = np.array([r.score for r in results], np.float64)
        labels = np.array([places[r.category_id] for r in results], np.int32)
        order = np.lexsort((-scores, owners))
        starts = np.searchsorted(owners[order], np.arange(1, len(ids)))
        arrays = (corners(results).astype(np.float32), scores.astype(np.float32), labels)
        parts = [np.split(values[order], starts) for values in arrays]
        self._found = dict(zip(ids, zip(*parts, strict=True), strict=True))

    def found(
        self, keys: Sequence[Key], originals: np.ndarray, count: int | None = None
    ) -> dict[str, np.ndarray]:
        """The boxes of some images, cut to them.

        Args:
            keys: the images' ids.
            originals: (B, 2), their heights and widths.
            count: the best of each image; None: all.

        Returns:
            "boxes" float32 (B, N, 4) xyxy in the images' pixels, "scores" float32 (B, N), falling,
            "classes" int32 (B, N) and "valid" bool (B, N); N is ``count``, or what the image with
            most boxes has, but 1 at least.
        """
        nothing = (np.zeros((0, 4)), np.zeros(0), np.zeros(0))
        parts = [self._found.get(key, nothing) for key in keys]
        most = max(1, *(len(scores) for _, scores, _ in parts)) if count is None else count
        found = {
            "boxes": np.zeros((len(keys), most, 4), np.float32),
            "scores": np.zeros((len(keys), most), np.float32),
            "classes": np.zeros((len(keys), most), np.int32),
            "valid": np.zeros((len(keys), most), bool),
        }
        for row, (boxes, scores, classes) in enumerate(parts):
            height, width = originals[row]
            kept = slice(min(most, len(scores)))
            limits = np.array([width, height, width, height], np.float32)
            found["boxes"][row, kept] = boxes[kept].clip(0, limits)
            found["scores"][row, kept] = scores[kept]
            found["classes"][row, kept] = classes[kept]
            found["valid"][row, kept] = True
        return found
