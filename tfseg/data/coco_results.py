"""What all files of COCO's results have: boxes of images."""

from collections.abc import Collection, Sequence
from typing import Protocol

import numpy as np

from tfseg.data.readers.files import complain


class Result(Protocol):
    """An entry: ``bbox`` is x, y, width and height."""

    image_id: int | str
    bbox: tuple[float, float, float, float]


def check_results(
    results: Sequence[Result], known: Collection[int | str] | None, origin: str
) -> None:
    """Checks the entries' images and boxes.

    Args:
        results: the entries.
        known: the ids of the images that there are; None: any.
        origin: the file, for messages.

    Raises:
        DataError: naming the first entries of unknown images, or with negative sides.
    """
    places = list(enumerate(results))
    if known is not None:
        odd = [f"{i} (image {r.image_id})" for i, r in places if r.image_id not in known]
        complain(odd, "results are of unknown images", origin)
    odd = [f"{i} (image {r.image_id}): {r.bbox}" for i, r in places if min(r.bbox[2:]) < 0]
    complain(odd, "results have a box of a negative width or height", origin)


def corners(results: Sequence[Result]) -> np.ndarray:
    """The entries' boxes as float64 (N, 4) xyxy."""
    boxes = np.array([result.bbox for result in results], np.float64)
    boxes[:, 2:] += boxes[:, :2]
    return boxes
