"""Trunks: functions from an image tensor to ``{"c2": ..., "c5": ...}``.

``cN`` is the last map of stride 2**N in the undilated trunk. Layers carry the names of
torchvision's modules, or of the released Caffe networks, behind ``prefix``.
"""

from tfseg.backbones.alexnet import alexnet, caffenet
from tfseg.backbones.googlenet import googlenet
from tfseg.backbones.mobilenet_v2 import mobilenet_v2
from tfseg.backbones.resnet import RESNETS, resnet
from tfseg.backbones.shufflenet_v2 import SHUFFLENETS, shufflenet_v2
from tfseg.backbones.shufflenet_v2_large import DEEP_SHUFFLENETS, shufflenet_v2_deep
from tfseg.backbones.vgg import vgg16

__all__ = [
    "DEEP_SHUFFLENETS",
    "RESNETS",
    "SHUFFLENETS",
    "alexnet",
    "caffenet",
    "googlenet",
    "mobilenet_v2",
    "resnet",
    "shufflenet_v2",
    "shufflenet_v2_deep",
    "vgg16",
]
