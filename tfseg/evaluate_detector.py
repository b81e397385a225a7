"""Scores and pictures of a detector's work on labelled images."""

from collections.abc import Callable, Sequence

import numpy as np
from PIL import Image
from tqdm import tqdm

from tfseg.data.outlines import fill_outline
from tfseg.data.regions import region_of
from tfseg.data.sample import ObjectReader, Sample
from tfseg.evaluation import prefetched
from tfseg.metrics.coco import CocoScores
from tfseg.ops.boxes import iou
from tfseg.predict.detection_files import draw_detections
from tfseg.predict.detections import Detections
from tfseg.predict.detector import Detector
from tfseg.predict.views import batches
from tfseg.visualize import contact_sheet, overlay, palette
from tfseg.visualize_instances import GRAY, draw_instances, instance_colors

_CELL = 480


def evaluate_detector(
    predictor: Detector,
    reader: ObjectReader,
    scores: CocoScores,
    *,
    progress: bool = True,
    on_prediction: Callable[[Sample, Detections], None] | None = None,
) -> None:
    """Runs a detector on all images of a split, at their original sizes.

    Args:
        predictor: what predicts. Its score threshold is best left to the model, whose own is low:
            average precision needs the weak detections.
        reader: the labelled images.
        scores: made from the reader's truth; takes the detections.
        progress: show a progress bar.
        on_prediction: called with each sample and what was found in it, in order.

    Raises:
        ValueError: if the scores are of other images, or lack what they need.
    """
    with tqdm(total=len(reader), unit="image", disable=not progress, leave=False) as bar:
        for batch in batches(enumerate(prefetched(reader)), predictor.batch_size):
            ids = [reader.image_id(index) for index, _ in batch]
            found = predictor.predict([sample["image"] for _, sample in batch], ids)
            for (_, sample), image_id, detections in zip(batch, ids, found, strict=True):
                scores.update(image_id, detections.to_coco(image_id, reader.category_ids))
                if on_prediction is not None:
                    on_prediction(sample, detections)
            bar.update(len(batch))


class InstancePictures:
    """Collects (image, ground truth, prediction) rows of images spread over a split.

    All are drawn at the size that they have on the sheet, so that names stay readable and
    outlines crisp. A predicted object has the colour of the labelled one that it fits.
    """

    def __init__(
        self,
        reader: ObjectReader,
        count: int,
        score_threshold: float = 0.5,
        semantic_classes: Sequence[str] = (),
    ):
        """Chooses the images.

        Args:
            reader: the labelled images.
            count: how many rows.
            score_threshold: detections that score less are not drawn.
            semantic_classes: of a panoptic split, names by semantic label, for the legend.
        """
        wanted = np.linspace(0, len(reader) - 1, min(count, len(reader))).round()
        self.wanted = {int(index) for index in wanted}
        self._seen, self._threshold = 0, score_threshold
        self._classes, self._skeleton = reader.classes, reader.skeleton
        self._ignore_label = reader.ignore_label
        self._semantic_classes, self._shown = tuple(semantic_classes), set[int]()
        self._rows: list[list[np.ndarray]] = []

    def __call__(self, sample: Sample, detections: Detections) -> None:
        """Takes the next image's prediction; those not wanted are left out."""
        if self._seen in self.wanted:
            self.add(sample, detections)
        self._seen += 1

    def add(self, sample: Sample, detections: Detections) -> None:
        """Takes this prediction."""
        height, width = sample["image"].shape[:2]
        size = (max(1, round(height * _CELL / width)), _CELL)
        wide = Image.fromarray(np.broadcast_to(sample["image"], (height, width, 3)))
        image = np.array(wide.resize(size[::-1], Image.Resampling.LANCZOS))
        boxes = sample["boxes"] * _factors(sample, size)
        colors = instance_colors(boxes)
        if "crowd" in sample:
            colors[sample["crowd"]] = GRAY
        # Labels that only a branch in training learns are not compared with anything.
        mask = None if detections.semantic is None else sample.get("mask")
        truth = self._truth(sample, mask, image, boxes, colors)
        found = detections.above(self._threshold).at_size(size)
        shown = draw_detections(
            image,
            found,
            self._classes,
            skeleton=self._skeleton,
            colors=matching_colors(found.boxes, boxes, colors),
        )
        self._rows.append([image, truth, shown])
        for labels in (mask, found.semantic):
            self._shown |= set() if labels is None else set(np.unique(labels).tolist())

    def _truth(
        self,
        sample: Sample,
        mask: np.ndarray | None,
        image: np.ndarray,
        boxes: np.ndarray,
        colors: np.ndarray,
    ) -> np.ndarray:
        """The labelled objects, on the semantic labels of a panoptic split."""
        size = image.shape[:2]
        if mask is not None:
            labels = np.array(Image.fromarray(mask).resize(size[::-1], Image.Resampling.NEAREST))
            labels[labels == self._ignore_label] = 0
            image = overlay(image, labels, palette(), alpha=0.3, ignore_label=0)
        regions, keypoints = None, None
        if "edges" in sample:
            outlines = sample["edges"] * _factors(sample, size)
            regions = [region_of(fill_outline(edges, size)) for edges in outlines]
        if "keypoints" in sample:
            keypoints = sample["keypoints"] * np.append(_factors(sample, size)[:2], np.float32(1))
        crowd = sample.get("crowd", np.zeros(len(boxes), bool))
        return draw_instances(
            image,
            boxes,
            regions=regions,
            keypoints=keypoints,
            labels=[
                f"{self._classes[label]}{' (crowd)' if many else ''}"
                for label, many in zip(sample["labels"], crowd, strict=True)
            ],
            skeleton=self._skeleton,
            colors=colors,
        )

    def sheet(self) -> np.ndarray:
        """All rows as one uint8 (H, W, 3) picture with captions, and a legend of stuff."""
        captions = ("image", "ground truth", f"prediction (score above {self._threshold:g})")
        stuff = [i for i in range(1, len(self._semantic_classes)) if i in self._shown]
        return contact_sheet(
            self._rows,
            captions,
            classes=[self._semantic_classes[i] for i in stuff],
            colors=palette()[stuff] if stuff else None,
            cell_width=_CELL,
        )


def _factors(sample: Sample, size: tuple[int, int]) -> np.ndarray:
    """What x, y, x, y are multiplied by when a sample's image is resized."""
    height, width = sample["image"].shape[:2]
    return np.tile(np.array([size[1] / width, size[0] / height], np.float32), 2)


def matching_colors(boxes: np.ndarray, others: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Colours of boxes: those of other boxes that they fit, else some of their own.

    Args:
        boxes: (N, 4), by falling score. Each takes the free one of the others whose IoU with it
            is highest and at least 0.5.
        others: (M, 4).
        colors: uint8 (M, 3), the others'.

    Returns:
        uint8 (N, 3).
    """
    chosen = instance_colors(boxes)
    free = np.ones(len(others), bool)
    overlaps = np.asarray(iou(boxes, others))
    for index in range(len(boxes)):
        fits = np.where(free, overlaps[index], 0.0)
        if len(others) and fits.max() >= 0.5:
            chosen[index] = colors[fits.argmax()]
            free[fits.argmax()] = False
    return chosen
