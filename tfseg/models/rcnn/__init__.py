"""Faster, Mask and Keypoint R-CNN and Panoptic FPN."""

from tfseg.models.rcnn import networks as networks
from tfseg.models.rcnn.model import RCNN

__all__ = ["RCNN"]
