"""Prediction: whole images, sliding windows, overlap tiles, test-time augmentation."""

from tfseg.predict.files import predict_files
from tfseg.predict.graph import WholeImage
from tfseg.predict.predictor import MODES, Predictor

__all__ = ["MODES", "Predictor", "WholeImage", "predict_files"]
