"""The VGG16 trunk in the ImageNet classifiers and in the released Caffe networks."""

import re

import numpy as np

from tfseg.backbones.vgg import layer_names
from tfseg.weights.maps.common import Map, Target

_CAFFE = layer_names()
_FC = re.compile(r"fc([67])(?:_\d)?$")
_POOLS = {"pool1": 4, "pool2": 9, "pool3": 16, "pool4": 23, "pool5": 30}
#: the released networks' names of the trunk's convolutions and pools -> tfseg's layers
LAYERS = {caffe: f"backbone.{name}" for name, caffe in _CAFFE.items()}
LAYERS |= {pool: f"backbone.features.{index}" for pool, index in _POOLS.items()}


def vgg16_caffe(name: str) -> str:
    """A released network's name: VGG's of the trunk, the prototxt's own of all else."""
    short = name.removeprefix("backbone.")
    return _CAFFE.get(short, short)


def _spread(count: int, wanted: int) -> np.ndarray:
    return np.round(np.linspace(0, count - 1, wanted)).astype(int)


def decimated_fc(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A fully connected layer, or a convolution, as one with fewer taps and channels.

    DeepLab's surgery (Chen et al., arXiv 1412.7062, section 3.1): the 7x7 of fc6 is "simply
    decimated" to 4x4 or 3x3, and filters are subsampled. Taps are spread from edge to edge, as
    SSD's release does; of k times as many channels every k-th is kept.

    Args:
        array: (out, in) with in = C H W, or (out, C, H, W).
        shape: (h, w, c, out) wanted.
    """
    height, width, channels, out = shape
    if array.ndim == 2:
        # VGG16's map before its fully connected layers is 7x7; fc7's is one pixel.
        side = 7 if height > 1 else 1
        array = array.reshape(len(array), -1, side, side)
    if array.shape[0] % out or array.shape[1] % channels:
        raise ValueError(f"{array.shape} cannot be decimated to {shape}")
    array = array[:: array.shape[0] // out, :: array.shape[1] // channels]
    rows, columns = _spread(array.shape[2], height), _spread(array.shape[3], width)
    return array[:, :, rows][:, :, :, columns].transpose(2, 3, 1, 0)


def decimated_bias(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The biases of the filters that `decimated_fc` keeps."""
    return array[:: array.size // shape[0]]


def _decimated(name: str) -> Target:
    return Target(name, convert={"kernel": decimated_fc, "bias": decimated_bias})


def _trunk_caffe(name: str) -> str | Target:
    match = _FC.match(name)
    return _decimated(f"fc{match[1]}") if match else vgg16_caffe(name)


def _trunk_torchvision(name: str) -> str | Target:
    match = _FC.match(name)
    return _decimated({"6": "classifier.0", "7": "classifier.3"}[match[1]]) if match else name


def trunks(networks: str, *, torchvision: bool = True) -> tuple[Map, ...]:
    """The maps of VGG16's classifiers for networks whose trunk it is, with fc6 and fc7 or not.

    Args:
        networks: shell pattern of registered names.
        torchvision: they can be built with the preprocessing of torchvision's weights too.
    """
    caffe = Map(networks, "caffe", _trunk_caffe, ("fc",))
    other = Map(networks, "torchvision", _trunk_torchvision, ("classifier.",))
    return (caffe, other) if torchvision else (caffe,)
