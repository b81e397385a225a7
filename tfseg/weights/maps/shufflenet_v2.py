"""ShuffleNetV2: the names of torchvision and of Megvii's released networks."""

import re

from tfseg.backbones import DEEP_SHUFFLENETS, SHUFFLENETS
from tfseg.backbones.shufflenet_v2 import BLOCKS
from tfseg.weights.maps.common import Architecture, Map, Target, same

#: torch.nn.DataParallel's, in the released files
_PARALLEL = "module."
_BRANCHES = {"branch1": "branch_proj", "branch2": "branch_main"}
_HEADS = {"conv1": "first_conv", "conv5": "conv_last"}


def _either(*names: str) -> tuple[str, ...]:
    return (*names, *(_PARALLEL + name for name in names))


def _released(name: str) -> Target:
    return Target(name, alternative=_PARALLEL + name)


def _megvii(name: str) -> Target:
    """Megvii counts blocks through all stages, and convolutions in branches as torchvision."""
    if match := re.match(r"stage(\d)\.(\d)\.(branch\d)\.(\d)$", name):
        block = sum(BLOCKS[: int(match[1]) - 2]) + int(match[2])
        return _released(f"features.{block}.{_BRANCHES[match[3]]}.{match[4]}")
    first, _, rest = name.partition(".")
    if first in _HEADS:
        return _released(f"{_HEADS[first]}.{rest}")
    return _released("classifier.0" if name == "fc" else name)


def _deep_unused(layout: str) -> tuple[str, ...]:
    """The training's auxiliary classifiers; and squeeze-and-excitation, which is listed twice."""
    net = DEEP_SHUFFLENETS[layout]
    blocks = (
        f"features.{stage}.{net.block(stage, index)}.se_block."
        for stage, count in enumerate(net.blocks)
        for index in range(count)
    )
    return _either("predict_", *blocks)


_ANY_UNUSED = (
    *(name for layout in DEEP_SHUFFLENETS for name in _deep_unused(layout)),
    *_either("conv_last.", "classifier.", "fc."),
)


def _tap(name: str) -> str:
    """torchvision's stages end with the shuffle."""
    if match := re.match(r"stage(\d)$", name):
        return f"{name}.{BLOCKS[int(match[1]) - 2] - 1}.shuffle"
    return "conv5.2" if name == "conv5" else name


ARCHITECTURE = Architecture(
    networks=(
        Map("shufflenet_v2_x*", "torchvision", same),
        Map("shufflenet_v2_x*", "megvii", _megvii),
        *(Map(layout, "megvii", _released, _deep_unused(layout)) for layout in DEEP_SHUFFLENETS),
    ),
    trunks=(
        Map("*_shufflenet_v2_x*", "torchvision", same, ("conv5.", "fc.")),
        Map("*_shufflenet_v2_x*", "megvii", _megvii, _either("conv_last.", "classifier.")),
        *(
            Map(
                f"*_{layout}*",
                "megvii",
                _released,
                (*_deep_unused(layout), *_either("conv_last.", "fc.")),
            )
            for layout in DEEP_SHUFFLENETS
        ),
        # Detectors, in which the layout is an option; the names tell it.
        Map("*_shufflenet_v2_gap_fpn", "torchvision", same, ("conv5.", "fc.")),
        Map("*_shufflenet_v2_gap_fpn", "megvii", _megvii, _ANY_UNUSED),
    ),
    heads={
        "shufflenet_v2_x*": "fc",
        "shufflenet_v2_large": "fc",
        "shufflenet_v2_exlarge": r"fc\.fc",
    },
    taps=dict.fromkeys(SHUFFLENETS, _tap),
)
