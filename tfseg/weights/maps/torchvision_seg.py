"""torchvision's segmentation networks, whose names are tfseg's own."""

from tfseg.weights.maps.common import Architecture, Map, same

_NETWORKS = ("fcn_resnet*", "deeplabv3_resnet*")


def _tap(tap: str) -> str:
    # The last stage has three blocks in every ResNet.
    return "backbone.layer4.2.relu" if tap == "features" else tap


ARCHITECTURE = Architecture(
    # The released files have the auxiliary classifier, which a network need not have.
    networks=tuple(Map(name, "torchvision", same, ("aux_classifier.",)) for name in _NETWORKS),
    heads=dict.fromkeys(_NETWORKS, r"classifier\.4|aux_classifier\..*"),
    taps=dict.fromkeys(_NETWORKS, _tap),
)
