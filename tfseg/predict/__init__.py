"""Prediction: whole images, windows, tiles, proposals, augmentation at test time, CRF, objects."""

from tfseg.predict.augmented import AugmentedDetector
from tfseg.predict.boost import BoostedPredictor
from tfseg.predict.crf import DenseCRF, RefinedPredictor
from tfseg.predict.detect_views import DetectViews
from tfseg.predict.detection_files import detect_files, draw_detections
from tfseg.predict.detections import Detections
from tfseg.predict.detector import DetectionPredictor
from tfseg.predict.files import predict_files
from tfseg.predict.graph import WholeImage
from tfseg.predict.predictor import MODES, ImagePredictor, Predictor
from tfseg.predict.proposals import EDeconvNet, ProposalPredictor, edge_boxes, save_proposals
from tfseg.predict.results_file import ResultsFile

__all__ = [
    "MODES",
    "AugmentedDetector",
    "BoostedPredictor",
    "DenseCRF",
    "DetectViews",
    "DetectionPredictor",
    "Detections",
    "EDeconvNet",
    "ImagePredictor",
    "Predictor",
    "ProposalPredictor",
    "RefinedPredictor",
    "ResultsFile",
    "WholeImage",
    "detect_files",
    "draw_detections",
    "edge_boxes",
    "predict_files",
    "save_proposals",
]
