"""DeconvNet: the names of the released DeconvNet_inference_deploy.prototxt."""

import re

from tfseg.backbones.vgg import layer_names
from tfseg.weights.maps import vgg
from tfseg.weights.maps.common import Architecture, Map, Target, Translate

_NETWORKS = "deconvnet_vgg16"
_CAFFE = layer_names(norms=True)
#: torchvision's index of each convolution in VGG16 without norms
_PLAIN = {caffe: ours for ours, caffe in layer_names().items()}
#: the trunk's layers by the prototxt's names
_TRUNK = {caffe: f"backbone.{ours}" for ours, caffe in _CAFFE.items()}
_TRUNK |= {f"pool{i}": f"backbone.features.{n}" for i, n in enumerate((6, 13, 23, 33, 43), 1)}


def _caffe(name: str) -> str | Target:
    """The statistics of the released norms are folded into their scale and offset."""
    short = name.removeprefix("backbone.")
    released = _CAFFE.get(short, short)
    is_norm = re.match(r"(de)?bn|fc6-deconv-bn", released)
    return Target(released, folded=True) if is_norm else released


def _plain(translate: Translate) -> Translate:
    """Of VGG16's classifiers, which have no norms: load with ``partial``."""

    def renumbered(name: str) -> str | Target:
        released = _CAFFE.get(name, name)
        return translate(_PLAIN.get(released, released))

    return renumbered


def _tap(tap: str) -> str:
    return f"backbone.{tap}" if re.match(r"(bn)?fc[67]$|relu[67]$", tap) else _TRUNK.get(tap, tap)


ARCHITECTURE = Architecture(
    networks=(Map(_NETWORKS, "caffe", _caffe),),
    trunks=tuple(
        Map(m.networks, m.origin, _plain(m.translate), m.unused) for m in vgg.trunks(_NETWORKS)
    ),
    heads={_NETWORKS: "seg-score-voc"},
    taps={_NETWORKS: _tap},
)
