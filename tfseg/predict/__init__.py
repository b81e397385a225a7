"""Prediction: whole images, sliding windows, overlap tiles, test-time augmentation, dense CRF."""

from tfseg.predict.boost import BoostedPredictor
from tfseg.predict.crf import DenseCRF, RefinedPredictor
from tfseg.predict.files import predict_files
from tfseg.predict.graph import WholeImage
from tfseg.predict.predictor import MODES, ImagePredictor, Predictor

__all__ = [
    "MODES",
    "BoostedPredictor",
    "DenseCRF",
    "ImagePredictor",
    "Predictor",
    "RefinedPredictor",
    "WholeImage",
    "predict_files",
]
