"""Losses as a sum over an explicit normaliser, so that a step can divide by the global one."""

from tfseg.losses.rcnn import RCNNLoss
from tfseg.losses.semantic import (
    LOSSES,
    Parts,
    Reduction,
    SemanticLoss,
    SparseCrossEntropy,
    mean_absolute_error,
    softmax_cross_entropy,
)

__all__ = [
    "LOSSES",
    "Parts",
    "RCNNLoss",
    "Reduction",
    "SemanticLoss",
    "SparseCrossEntropy",
    "mean_absolute_error",
    "softmax_cross_entropy",
]
