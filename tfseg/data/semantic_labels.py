"""What the semantic branch of a detector learns: labels of pixels beside the objects."""

from typing import Literal

import numpy as np

from tfseg.data.extension import ExtendedReader
from tfseg.data.outlines import outline_region
from tfseg.data.sample import ObjectReader, Sample

#: where the labels come from
Source = Literal["instances", "masks"]


def with_semantic_labels(reader: ObjectReader, source: Source) -> ObjectReader:
    """A reader whose samples have the "mask" that a semantic branch learns.

    Args:
        reader: the objects.
        source: "instances": the mask is flattened from the objects; see `flattened`. "masks": it
            is the reader's own, as `coco` has of panoptic files and of COCO-Stuff's pixel maps.

    Returns:
        A reader that tells the labels' names, ``semantic_classes``; all else is as it was.

    Raises:
        ValueError: no masks or outlines to take them from, or an ignore label that is a class.
    """
    if source == "instances":
        return InstanceLabels(reader)
    if not reader.semantic_classes:
        raise ValueError(
            "the reader has no masks; give 'coco' semantic_masks, or panoptic_masks and "
            "panoptic_annotations"
        )
    return reader


class InstanceLabels(ExtendedReader):
    """Samples whose mask is flattened from their objects: label 0 is the background, k + 1 class k.

    Attributes:
        semantic_classes: the names of the labels.
    """

    added = "mask"

    def __init__(self, reader: ObjectReader) -> None:
        """Checks that the mask can be made.

        Raises:
            ValueError: samples without outlines, or an ignore label that is a class.
        """
        super().__init__(reader)
        if "edges" not in reader.keys():  # noqa: SIM118 (not a mapping)
            raise ValueError("the objects have no outlines to make masks from (masks: true)")
        if 0 <= reader.ignore_label <= len(reader.classes):
            raise ValueError(
                f"ignore_label {reader.ignore_label} is a label of the "
                f"{len(reader.classes)} classes and the background; take one above, or -1"
            )
        self.semantic_classes = ("background", *reader.classes)

    def extend(self, sample: Sample, index: int) -> Sample:
        """The sample with its mask."""
        void = self._reader.void_mask(index, (sample["image"].shape[0], sample["image"].shape[1]))
        sample["mask"] = flattened(sample, void, self._reader.ignore_label)
        return sample


def flattened(sample: Sample, void: np.ndarray, ignore_label: int) -> np.ndarray:
    """One label for each pixel, from a sample's objects.

    Objects with more pixels are painted first, so that small ones stay visible; of two with as
    many, the later one is on top. Which is in front of which, no annotation tells: this is our
    reading. Crowds leave no label of their own.

    Args:
        sample: with "edges", "labels" and "crowd".
        void: bool (H, W), what lies below all objects and has no label.
        ignore_label: its label.

    Returns:
        int32 (H, W): 0 for the background, k + 1 for class k.
    """
    mask = np.where(void, np.int32(ignore_label), np.int32(0))
    objects = [
        (outline_region(edges, void.shape), int(label) + 1)
        for edges, label, crowd in zip(
            sample["edges"], sample["labels"], sample["crowd"], strict=True
        )
        if not crowd
    ]
    for region, label in sorted(objects, key=lambda found: -int(found[0].inside.sum())):
        mask[region.place][region.inside] = label
    return mask
