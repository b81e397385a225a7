"""FCN: the names of the released voc-fcn* networks."""

import re

from tfseg.weights.maps import vgg
from tfseg.weights.maps.common import Architecture, Map


def _without_prefix(name: str) -> str:
    return name.removeprefix("backbone.")


def _vgg_tap(tap: str) -> str:
    return f"backbone.{tap}" if re.match(r"relu[67]$", tap) else vgg.LAYERS.get(tap, tap)


def _alexnet_tap(tap: str) -> str:
    return tap if tap.startswith(("score", "up")) else f"backbone.{tap}"


ARCHITECTURE = Architecture(
    networks=(
        # The at-once network's frozen scales, 0.01 and 0.0001, are constants here.
        Map("fcn*s_*vgg16", "caffe", vgg.vgg16_caffe, ("scale_pool",)),
        Map("fcn32s_alexnet", "caffe", _without_prefix),
    ),
    trunks=vgg.trunks("fcn*s_*vgg16"),
    heads={"fcn*s_*": r"score_.*|upscore.*"},
    taps={"fcn*s_*vgg16": _vgg_tap, "fcn32s_alexnet": _alexnet_tap},
)
