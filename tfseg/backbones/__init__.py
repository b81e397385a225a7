"""Trunks: functions from an image tensor to ``{"c2": ..., "c5": ...}``.

``cN`` is the last map of stride 2**N in the undilated trunk. Layers carry the names of
torchvision's modules, or of the released Caffe networks, behind ``prefix``.
"""

from tfseg.backbones.alexnet import alexnet, caffenet
from tfseg.backbones.googlenet import googlenet
from tfseg.backbones.mobilenet_v2 import mobilenet_v2
from tfseg.backbones.resnet import RESNETS, resnet
from tfseg.backbones.vgg import vgg16

__all__ = ["RESNETS", "alexnet", "caffenet", "googlenet", "mobilenet_v2", "resnet", "vgg16"]
