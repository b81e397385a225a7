"""Checkpoints: readers of foreign formats, name maps, and loading into models."""

from tfseg.weights.common import WeightsError
from tfseg.weights.files import read_weights
from tfseg.weights.load import load_weights, save_weights

__all__ = ["WeightsError", "load_weights", "read_weights", "save_weights"]
