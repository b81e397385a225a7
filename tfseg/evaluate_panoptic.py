"""Scores of a panoptic network: of its objects and labels combined, and of its labels alone."""

from pathlib import Path
from typing import Any

from tabulate import tabulate

from tfseg.data.readers.coco_panoptic import PanopticMasks
from tfseg.data.sample import ObjectReader, Sample
from tfseg.metrics import ConfusionMatrix, PanopticQuality
from tfseg.predict.detections import Detections
from tfseg.predict.panoptic import Combiner
from tfseg.predict.panoptic_files import PanopticFiles


class PanopticScores:
    """Combines what was found in each image of a split, and scores it.

    The semantic branch is scored by itself, too, with all things as one class, as detectron2
    does. The images come in their order, each once.

    Args:
        reader: the split.
        masks: its panoptic files.
        combiner: how objects and labels are combined.
        files: takes the combined maps; None: they are not kept.
    """

    def __init__(
        self,
        reader: ObjectReader,
        masks: PanopticMasks,
        combiner: Combiner,
        files: PanopticFiles | None = None,
    ) -> None:
        self._reader, self._masks, self._combiner, self._files = reader, masks, combiner, files
        self._seen = 0
        categories = masks.categories
        self._quality = PanopticQuality(
            [category.id for category in categories],
            [category.name for category in categories],
            [bool(category.isthing) for category in categories],
        )
        self._semantic = ConfusionMatrix(len(masks.classes), reader.ignore_label)

    def __call__(self, sample: Sample, found: Detections) -> None:
        """Scores the next image.

        Args:
            sample: of the reader, with "mask".
            found: with masks and semantic labels.

        Raises:
            ValueError: detections without these.
            DataError: panoptic files that are damaged or do not belong to the image.
        """
        image_id = self._reader.image_id(self._seen)
        self._seen += 1
        ids, segments = self._combiner(found)
        height, width = sample["image"].shape[:2]
        truth, true_segments = self._masks.segments(image_id, (height, width))
        self._quality.update(truth, true_segments, ids, segments)
        assert found.semantic is not None
        self._semantic.update(sample["mask"], found.semantic)
        if self._files is not None:
            self._files.add(image_id, sample["name"], ids, segments)

    def result(self) -> dict[str, float]:
        """The figures of `PanopticQuality`, and ``semantic_mean_iou``; 0..1."""
        semantic = {"semantic_mean_iou": self._semantic.result()["mean_iou"]}
        return self._quality.result() | semantic

    def write(self) -> Path:
        """Writes the JSON of the combined maps, and says where.

        Raises:
            ValueError: if they were not kept.
        """
        if self._files is None:
            raise ValueError("the panoptic maps were not kept: no files were given")
        return self._files.write()

    def per_class(self) -> dict[str, list[dict[str, Any]]]:
        """``panoptic``, each category's scores, and ``semantic``, each label's."""
        semantic = self._semantic.to_dict(self._masks.classes)["per_class"]
        return {"panoptic": self._quality.per_class(), "semantic": semantic}

    def table(self) -> str:
        """The categories' panoptic quality in percent, and the means below."""
        mean = 100 * self.result()["semantic_mean_iou"]
        semantic = tabulate([("semantic_mean_iou", mean)], ("score", "%"), floatfmt=".2f")
        return f"{self._quality.table()}\n\n{semantic}"
