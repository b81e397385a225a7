"""Objects and semantic labels combined into one panoptic map."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tfseg.predict.detections import Detections


@dataclass(frozen=True)
class Combiner:
    """`combine` for what a panoptic network finds.

    Attributes:
        things: category id and name of each class of objects, by class.
        stuff: category id and name of each semantic label from 1 on.
        overlap_threshold: see `combine`.
        stuff_area_threshold: see `combine`.
        score_threshold: see `combine`.
    """

    things: Mapping[int, str]
    stuff: Mapping[int, str]
    overlap_threshold: float = 0.5
    stuff_area_threshold: int = 4096
    score_threshold: float = 0.5

    def __call__(self, found: Detections) -> tuple[np.ndarray, list[dict[str, Any]]]:
        """The segments of one image, as `combine` gives them.

        Args:
            found: with masks and semantic labels.

        Raises:
            ValueError: where it has not both, or a class has no category.
        """
        if found.semantic is None:
            raise ValueError("these detections have no semantic labels to be combined with")
        # Masks of the image's size: only of the first ones, which may be used.
        sure = found[: np.count_nonzero(found.scores >= self.score_threshold)]
        return combine(
            sure.pasted(),
            sure.scores,
            sure.classes,
            found.semantic,
            thing_ids=tuple(self.things),
            stuff_ids=tuple(self.stuff),
            overlap_threshold=self.overlap_threshold,
            stuff_area_threshold=self.stuff_area_threshold,
            score_threshold=self.score_threshold,
        )


def combine(
    masks: Sequence[np.ndarray] | np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    semantic: np.ndarray,
    *,
    thing_ids: Sequence[int],
    stuff_ids: Sequence[int],
    overlap_threshold: float = 0.5,
    stuff_area_threshold: int = 4096,
    score_threshold: float = 0.5,
) -> tuple[np.ndarray, list[dict[str, Any]]]:
    """Gives each pixel at most one object or stuff.

    As detectron2's modeling/meta_arch/panoptic_fpn.py, ``combine_semantic_and_instance_outputs``
    (Kirillov et al., "Panoptic Feature Pyramid Networks", CVPR 2019, section 3): objects by
    falling score get the pixels that are left, stuff the rest.

    Args:
        masks: N bool (H, W), the objects' pixels.
        scores: float (N,).
        classes: int (N,), 0..K-1.
        semantic: int (H, W), the classes of largest logits; 0 stands for all things, 1, 2, ...
            are stuff.
        thing_ids: category ids of the K classes.
        stuff_ids: category ids of stuff 1, 2, ...
        overlap_threshold: objects with a larger part of their pixels taken before are left out.
        stuff_area_threshold: stuff of fewer pixels is left out.
        score_threshold: objects of a lower score are left out.

    Returns:
        int32 (H, W), segment ids 1, 2, ..., 0 where there is nothing; and of each segment its
        "id", "category_id", "isthing", "area" in pixels and, of a thing, its "score" and
        "instance" (its place among the N).

    Raises:
        ValueError: shapes that do not fit, or classes that have no category id.
    """
    _check(masks, scores, classes, semantic, thing_ids, stuff_ids)
    panoptic = np.zeros(semantic.shape, np.int32)
    segments: list[dict[str, Any]] = []
    for index in np.argsort(-scores, kind="stable").tolist():
        if scores[index] < score_threshold:
            break
        mask = masks[index]
        left = mask & (panoptic == 0)
        area, taken = int(mask.sum()), int(mask.sum() - left.sum())
        # Without pixels, or, unlike in detectron2 only at a threshold of 1, with none left.
        if area == 0 or taken == area or taken / area > overlap_threshold:
            continue
        panoptic[left] = len(segments) + 1
        thing = {"score": float(scores[index]), "instance": index}
        category = thing_ids[int(classes[index])]
        segments.append(_segment(len(segments) + 1, category, True, area - taken) | thing)
    for label in np.unique(semantic).tolist():
        left = (semantic == label) & (panoptic == 0)
        area = int(left.sum())
        if label == 0 or area == 0 or area < stuff_area_threshold:
            continue
        panoptic[left] = len(segments) + 1
        segments.append(_segment(len(segments) + 1, stuff_ids[label - 1], False, area))
    return panoptic, segments


def _segment(number: int, category_id: int, isthing: bool, area: int) -> dict[str, Any]:
    return {"id": number, "category_id": category_id, "isthing": isthing, "area": area}


def _check(
    masks: Sequence[np.ndarray] | np.ndarray,
    scores: np.ndarray,
    classes: np.ndarray,
    semantic: np.ndarray,
    thing_ids: Sequence[int],
    stuff_ids: Sequence[int],
) -> None:
    if not len(masks) == len(scores) == len(classes):
        lengths = f"{len(masks)}, {len(scores)} and {len(classes)}"
        raise ValueError(f"there are {lengths} masks, scores and classes")
    if semantic.ndim != 2 or semantic.dtype.kind not in "iu":
        raise ValueError(f"semantic must be int (H, W), not {semantic.dtype} {semantic.shape}")
    for mask in masks:
        if mask.shape != semantic.shape or mask.dtype != bool:
            raise ValueError(
                f"masks must be bool {semantic.shape} as the labels, not {mask.dtype} {mask.shape}"
            )
    for what, found, count in (
        ("classes", classes, len(thing_ids)),
        ("semantic labels", semantic, len(stuff_ids) + 1),
    ):
        if found.size and (found.min() < 0 or found.max() >= count):
            raise ValueError(f"{what} must be 0..{count - 1}, not {found.min()}..{found.max()}")
