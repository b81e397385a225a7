"""Scores: confusion-matrix scores of semantic segmentation, and those of EM segmentation."""

from tfseg.metrics.confusion import ConfusionMatrix
from tfseg.metrics.em import EMScores

__all__ = ["ConfusionMatrix", "EMScores"]
