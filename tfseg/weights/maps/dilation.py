"""The dilation networks: the names of the released prototxts and of the authors' network.py."""

import numpy as np

from tfseg.backbones.vgg import layer_names
from tfseg.weights.maps import vgg
from tfseg.weights.maps.common import Architecture, Map, Target

#: the released networks' names of the trunk's layers -> tfseg's
_TRUNK = {caffe: f"backbone.{name}" for name, caffe in layer_names().items()}
_TRUNK |= {name: f"backbone.{name}" for name in ("fc6", "fc7")}


def _grouped(array: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """A grouped deconvolution's kernel (C, 1, h, w) as (h, w, C)."""
    return array.reshape(array.shape[0], *array.shape[2:]).transpose(1, 2, 0)


def _caffe(name: str) -> str | Target:
    if name == "ctx_upsample":
        return Target(name, convert={"kernel": _grouped})
    return vgg.vgg16_caffe(name)


def _voc_caffe(name: str) -> str | Target:
    """dilation8_pascal_voc_deploy.prototxt, which is older than network.py."""
    if name == "final":
        return "fc-final"
    return "ct_" + name[len("ctx_") :] if name.startswith("ctx_") else _caffe(name)


def _tap(tap: str) -> str:
    """The layer of this name, before its rectification."""
    if tap == "fc-final":
        return "final"
    if tap.startswith("ct_"):
        return "ctx_" + tap[len("ct_") :]
    return _TRUNK.get(tap, tap)


ARCHITECTURE = Architecture(
    networks=(
        Map("dilated8_large_vgg16", "caffe", _voc_caffe),
        # A front end may come out of a file with a context module.
        Map("dilated_vgg16", "caffe", _caffe, ("ctx_",)),
        Map("dilated*_vgg16", "caffe", _caffe),
    ),
    trunks=vgg.trunks("dilated*_vgg16", torchvision=False),
    heads={"dilated*_vgg16": r"final|ctx_.*"},
    taps={"dilated*_vgg16": _tap},
)
