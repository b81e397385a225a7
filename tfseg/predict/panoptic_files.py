"""Panoptic maps as files in COCO's format, and as pictures."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tfseg.data.regions import region_of
from tfseg.ops.panoptic import rgb_from_ids
from tfseg.predict.detections import Detections
from tfseg.predict.panoptic import Combiner
from tfseg.visualize import overlay, palette
from tfseg.visualize_instances import draw_instances

_KEYS = ("id", "category_id", "isthing", "area", "score")


class PanopticFiles:
    """COCO's panoptic results: FOLDER/NAME.png, whose colours are segment ids, and FOLDER.json.

    The JSON has "annotations", of each image "image_id", "file_name" and "segments_info" ("id",
    "category_id", "isthing", "area", of things "score"), and "categories"; with an image's PNG it
    is what panopticapi's evaluation takes.
    """

    def __init__(self, folder: Path, combiner: Combiner) -> None:
        """Makes the folder.

        Args:
            folder: of the PNGs; files of the same names are replaced.
            combiner: knows the categories.
        """
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        kinds = ((combiner.things, 1), (combiner.stuff, 0))
        self._categories = [
            {"id": number, "name": name, "isthing": isthing}
            for names, isthing in kinds
            for number, name in names.items()
        ]
        self._annotations: list[dict[str, Any]] = []

    def add(
        self,
        image_id: int | str,
        name: str,
        ids: np.ndarray,
        segments: Sequence[Mapping[str, Any]],
    ) -> None:
        """Writes one image's map and notes its segments.

        Args:
            image_id: the image's.
            name: of the PNG, without its suffix.
            ids: int (H, W), as `combine` gives it.
            segments: likewise.
        """
        Image.fromarray(rgb_from_ids(ids)).save(self._folder / f"{name}.png")
        entry = {"image_id": image_id, "file_name": f"{name}.png"}
        self._annotations.append({**entry, "segments_info": segments_info(segments)})

    def write(self) -> Path:
        """Writes the JSON of all images beside the folder, and says where."""
        path = self._folder.with_name(f"{self._folder.name}.json")
        content = {"annotations": self._annotations, "categories": self._categories}
        path.write_text(json.dumps(content) + "\n", encoding="utf-8")
        return path


def segments_info(segments: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """What COCO's files tell of the segments that `combine` gives."""
    return [{key: segment[key] for key in _KEYS if key in segment} for segment in segments]


def draw_panoptic(
    image: np.ndarray,
    found: Detections,
    ids: np.ndarray,
    segments: Sequence[Mapping[str, Any]],
    combiner: Combiner,
) -> np.ndarray:
    """A panoptic map on its image: stuff in the VOC palette's colours, things as objects.

    Args:
        image: uint8 (H, W, 3) RGB or (H, W, 1) gray.
        found: what was combined.
        ids: int (H, W), the combiner's answer.
        segments: likewise.
        combiner: knows the names.

    Returns:
        uint8 (H, W, 3). Stuff 1, 2, ... has the palette's colours 1, 2, ...
    """
    labels, places = np.zeros(ids.shape, np.int32), list(combiner.stuff)
    for segment in segments:
        if not segment["isthing"]:
            labels[ids == segment["id"]] = 1 + places.index(segment["category_id"])
    things = [segment for segment in segments if segment["isthing"]]
    return draw_instances(
        overlay(image, labels, palette(), alpha=0.3, ignore_label=0),
        found.boxes[[segment["instance"] for segment in things]],
        regions=[region_of(ids == segment["id"]) for segment in things],
        labels=[f"{combiner.things[s['category_id']]} {s['score']:.2f}" for s in things],
    )
