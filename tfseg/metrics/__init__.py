"""Scores: confusion-matrix scores of semantic segmentation, of EM segmentation, of objects."""

from tfseg.metrics.coco import CocoScores
from tfseg.metrics.cocostuff import stuff_scores
from tfseg.metrics.confusion import ConfusionMatrix
from tfseg.metrics.em import EMScores
from tfseg.metrics.panoptic import PanopticQuality
from tfseg.metrics.seg import SegScore

__all__ = [
    "CocoScores",
    "ConfusionMatrix",
    "EMScores",
    "PanopticQuality",
    "SegScore",
    "stuff_scores",
]
