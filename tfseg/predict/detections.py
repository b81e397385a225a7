"""What a detector found in one image, in that image's pixels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Literal

import numpy as np
from pycocotools import mask as coco_mask

from tfseg.data.regions import Region

Style = Literal["detectron2", "torchvision", "detectron"]


@dataclass(frozen=True, eq=False)
class Detections:
    """The N objects found in an image, by falling score.

    Attributes:
        size: the image's (height, width).
        boxes: float32 (N, 4): x1, y1, x2, y2 in the image's continuous pixels.
        scores: float32 (N,), 0..1.
        classes: int32 (N,), 0..K-1 without a background.
        masks: float32 (N, M, M): probabilities on a grid that the box is divided into, or None.
        keypoints: float32 (N, K, 3): x, y in continuous pixels and a score, or None.
        semantic: int32 (H, W) labels of all pixels (a panoptic model's), or None.
        style: whose rule brings masks into the image; see `regions`.
    """

    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    classes: np.ndarray
    masks: np.ndarray | None = None
    keypoints: np.ndarray | None = None
    semantic: np.ndarray | None = None
    style: Style = "detectron2"

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, chosen: Any) -> "Detections":
        """The objects that a slice, an index array or a bool (N,) chooses."""
        found = {f.name: getattr(self, f.name) for f in fields(self)}
        parts = {
            name: value[chosen]
            for name, value in found.items()
            if name not in ("size", "semantic", "style") and value is not None
        }
        return replace(self, **parts)

    def above(self, score: float) -> "Detections":
        """The objects whose score is above this."""
        return self[self.scores > score]

    def at_size(self, size: tuple[int, int]) -> "Detections":
        """The same objects in the image resized to (height, width)."""
        factors = np.array([size[1] / self.size[1], size[0] / self.size[0]], np.float32)
        keypoints, semantic = self.keypoints, self.semantic
        if keypoints is not None:
            keypoints = keypoints * np.append(factors, np.float32(1))
        if semantic is not None:
            rows, columns = (
                ((np.arange(new) + 0.5) * old / new).astype(int)
                for new, old in zip(size, self.size, strict=True)
            )
            semantic = semantic[rows][:, columns]
        boxes = self.boxes * np.tile(factors, 2)
        return replace(self, size=size, boxes=boxes, keypoints=keypoints, semantic=semantic)

    def regions(self, threshold: float = 0.5) -> list[Region]:
        """The objects' pixels: where the probability at a pixel's centre reaches a threshold.

        "detectron2" (layers/mask_ops.py, ``paste_masks_in_image``): the grid's values lie at the
        centres of its cells, bilinear in between, zero beyond. "torchvision" and "detectron"
        (core/test.py, ``segm_results``) put a cell of zeros around the mask, enlarge the box
        likewise, cut its corners to whole pixels, which both belong to it, and resize the mask
        to that. `tfseg.ops.masks.paste` does the same for whole images in a graph.

        Args:
            threshold: above 0. The probability of "detectron2" may equal it, the others' must be
                above it.

        Raises:
            ValueError: for another threshold, or where there are no masks.
        """
        if self.masks is None:
            raise ValueError("these detections have no masks")
        if not threshold > 0:
            raise ValueError(f"a mask's threshold is above 0, not {threshold!r}")
        boxes = _pasted_boxes(self.boxes, self.masks.shape[-1], self.style)
        if self.style != "detectron2":
            threshold = np.nextafter(np.float32(threshold), np.float32(1))
        return [
            _region(mask, box, self.size, threshold)
            for mask, box in zip(self.masks, boxes, strict=True)
        ]

    def pasted(self, threshold: float = 0.5) -> np.ndarray:
        """The objects' masks, bool (N, H, W); see `regions`, which need far less memory."""
        masks = np.zeros((len(self), *self.size), bool)
        for mask, region in zip(masks, self.regions(threshold), strict=True):
            mask[region.place] = region.inside
        return masks

    def rle(self, threshold: float = 0.5) -> list[dict[str, Any]]:
        """The objects' masks in COCO's compressed encoding.

        Returns:
            Of each {"size": [H, W], "counts": str}; see `regions`.
        """
        return [encode_region(region, self.size) for region in self.regions(threshold)]

    def to_coco(
        self, image_id: int | str, category_ids: Sequence[int] | None = None
    ) -> list[dict[str, Any]]:
        """The objects in the format of COCO's results files.

        Args:
            image_id: the image's.
            category_ids: by class; None: the classes' own numbers.

        Returns:
            Of each "image_id", "category_id", "score", "bbox" (x, y, width, height), and, where
            there are such, "segmentation" and "keypoints" (x, y, score of each in one list; COCO
            has a pixel's index where its centre is half a pixel further).
        """
        segmentations = None if self.masks is None else self.rle()
        corners, sides = self.boxes[:, :2], self.boxes[:, 2:] - self.boxes[:, :2]
        results = []
        for index, box in enumerate(np.concatenate([corners, sides], axis=1).tolist()):
            class_id = int(self.classes[index])
            result = {
                "image_id": image_id,
                "category_id": class_id if category_ids is None else category_ids[class_id],
                "bbox": box,
                "score": float(self.scores[index]),
            }
            if segmentations is not None:
                result["segmentation"] = segmentations[index]
            if self.keypoints is not None:
                shifted = self.keypoints[index] - np.array([0.5, 0.5, 0], np.float32)
                result["keypoints"] = shifted.ravel().tolist()
            results.append(result)
        return results


def encode_region(region: Region, size: tuple[int, int]) -> dict[str, Any]:
    """A region of an image of (height, width) in COCO's compressed encoding.

    Returns:
        {"size": [H, W], "counts": str}, as JSON holds it.
    """
    canvas = np.zeros(size, np.uint8, order="F")
    canvas[region.place] = region.inside
    encoded = coco_mask.encode(canvas)
    return {"size": list(size), "counts": encoded["counts"].decode("ascii")}


def _pasted_boxes(boxes: np.ndarray, cells: int, style: Style) -> np.ndarray:
    """The boxes at which a style's masks are pasted by detectron2's rule; see `regions`.

    Args:
        boxes: float32 (N, 4).
        cells: of a mask's side.
        style: whose rule.

    Returns:
        float32 (N, 4).
    """
    if style == "detectron2":
        return boxes
    low, high = boxes[:, :2], boxes[:, 2:] - (style == "detectron")
    centre, half = (low + high) * 0.5, (high - low) * 0.5 * np.float32((cells + 2) / cells)
    low, high = np.trunc(centre - half), np.trunc(centre + half) + 1
    cell = (high - low) / (cells + 2)
    return np.concatenate([low + cell, high - cell], axis=1)


def _region(mask: np.ndarray, box: np.ndarray, size: tuple[int, int], threshold: float) -> Region:
    """One mask (M, M) at its box."""
    top, rows = _interpolation(box[1], box[3], mask.shape[0], size[0])
    left, columns = _interpolation(box[0], box[2], mask.shape[1], size[1])
    return Region(top, left, rows @ mask @ columns.T >= threshold)


def _interpolation(low: float, high: float, cells: int, pixels: int) -> tuple[int, np.ndarray]:
    """The weights of a box's cells at the pixels of a side that they reach.

    Args:
        low: where the box begins.
        high: where it ends.
        cells: that it is divided into.
        pixels: of the image's side.

    Returns:
        The first pixel reached, and float32 (pixels reached, cells). The outer cells fade out
        over half a cell beyond the box.
    """
    if not high > low:
        return 0, np.zeros((0, cells), np.float32)
    fade = (high - low) / cells / 2
    first = int(np.clip(np.floor(low - fade), 0, pixels))
    last = int(np.clip(np.ceil(high + fade), first, pixels))
    places = (np.arange(first, last, dtype=np.float32) + 0.5 - low) / (high - low) * cells - 0.5
    distances = np.abs(places[:, None] - np.arange(cells, dtype=np.float32))
    return first, np.maximum(1 - distances, 0).astype(np.float32)


#: of an answer, what has a row for each object
_OBJECT_PARTS = ("boxes", "scores", "classes", "masks", "keypoints")


def export_detections(
    answer: Mapping[str, np.ndarray], size: tuple[int, int], style: Any
) -> Detections:
    """What an export answers for one image of (height, width)."""
    count = int(answer["num_detections"])
    parts = {name: answer[name][:count] for name in _OBJECT_PARTS if name in answer}
    semantic = answer.get("semantic")
    if semantic is not None:
        semantic = semantic[: size[0], : size[1]]
    return Detections(size, **parts, semantic=semantic, style=style)
