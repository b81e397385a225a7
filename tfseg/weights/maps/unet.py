"""U-Net: the released phseg_v5.prototxt's names are tfseg's own."""

import re

from tfseg.weights.maps.common import Architecture, Map, same


def _tap(tap: str) -> str:
    if match := re.match(r"([du]\d)([cd])$", tap):
        return f"conv_{match[1]}{chr(ord(match[2]) - 1)}-{match[2]}.relu"
    return tap


ARCHITECTURE = Architecture(
    networks=(Map("unet_release", "caffe", same),),
    heads={"unet*": "conv_u0d-score"},
    taps={"unet_release": _tap},
)
