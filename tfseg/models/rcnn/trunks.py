"""The trunks of R-CNNs: images -> {level: map}."""

from collections.abc import Sequence
from typing import Any

import keras

from tfseg.backbones import (
    DEEP_SHUFFLENETS,
    SHUFFLENETS,
    mobilenet_v2,
    resnet,
    shufflenet_v2,
    shufflenet_v2_deep,
)
from tfseg.backbones.mobilenet_v2 import style_norm as mobilenet_norm
from tfseg.backbones.shufflenet_v2 import style_norm as shufflenet_norm
from tfseg.backbones.shufflenet_v2_large import deep_norm
from tfseg.layers.conv import batch_norm
from tfseg.layers.fpn import feature_pyramid
from tfseg.layers.resize import PadToMultiple
from tfseg.models.rcnn import heads
from tfseg.models.rcnn.semantic_guidance import guided_pyramid

#: trunks without a pyramid: the map that all is read from, its stride and its channels
SINGLE = {"c4": ("c4", 16, 1024), "c5": ("c5", 32, 2048)}
PYRAMID = ("p2", "p3", "p4", "p5", "p6")
_MOBILENET_STAGES = ((0,), range(1, 4), range(4, 7), range(7, 14), range(14, 18))


def split(trunk: str) -> tuple[str, str]:
    """ "resnet50_fpn" as ("resnet50", "fpn")."""
    layout, _, kind = trunk.rpartition("_")
    return layout, kind


def resnet_trunk(
    trunk: str, style: str, options: dict[str, Any]
) -> tuple[keras.Model, keras.Model | None]:
    """A ResNet or ResNeXt and what stands on it; and of a C4 network the fifth stage.

    Args:
        trunk: as in "resnet50_fpn".
        style: whose conventions.
        options: the builder's.
    """
    layout, kind = split(trunk)
    norm = batch_norm(options["norm"], epsilon=options["norm_epsilon"])
    # MSRA's ResNets, which Detectron and detectron2 start from, stride in the 1x1.
    in_1x1 = style != "torchvision" and not layout.startswith("resnext")
    stride_in = "1x1" if in_1x1 else "3x3"
    image = keras.Input((None, None, 3), name="image")
    features = resnet(
        image if kind in SINGLE else PadToMultiple(32, name="pad")(image),
        layout,
        stages=3 if kind == "c4" else 4,
        stride_in=stride_in,
        global_context=options.get("global_context", False),
        norm=norm,
        prefix="backbone.",
    )
    model = _finished(image, features, kind, options)
    frozen = ["conv1", "bn1"] if options["freeze_at"] > 0 else []
    _freeze(model, frozen + [f"layer{number}." for number in range(1, options["freeze_at"])])
    res5 = heads.fifth_stage(layout, 14, stride_in, norm) if kind == "c4" else None
    return model, res5


def mobilenet_trunk(trunk: str, options: dict[str, Any]) -> keras.Model:
    """A MobileNetV2 with a pyramid."""
    norm = mobilenet_norm(options["style"], options["norm"])
    image = keras.Input((None, None, 3), name="image")
    padded = PadToMultiple(32, name="pad")(image)
    features = mobilenet_v2(padded, style=options["style"], norm=norm, prefix="backbone.")
    model = _finished(image, features, split(trunk)[1], options)
    stages = _MOBILENET_STAGES[: options["freeze_at"]]
    _freeze(model, [f"features.{n}." for stage in stages for n in stage])
    return model


def shufflenet_trunk(trunk: str, options: dict[str, Any]) -> keras.Model:
    """A ShuffleNetV2 with a pyramid."""
    layout = options["layout"]
    image = keras.Input((None, None, 3), name="image")
    padded = PadToMultiple(32, name="pad")(image)
    settings: dict[str, Any] = {"global_context": options["global_context"], "prefix": "backbone."}
    if layout in DEEP_SHUFFLENETS:
        settings["norm"] = deep_norm(layout, options["norm"])
        features = shufflenet_v2_deep(padded, layout, **settings)
        stages = ["first_conv.", *(f"features.{stage}." for stage in range(4))]
    elif layout in SHUFFLENETS:
        settings["norm"] = shufflenet_norm(options["style"], options["norm"])
        features = shufflenet_v2(padded, layout, style=options["style"], **settings)
        # The stem strides as far as other trunks' first stage.
        stages = ["conv1.", "conv1.", "stage2.", "stage3.", "stage4."]
    else:
        known = sorted({**SHUFFLENETS, **DEEP_SHUFFLENETS})
        raise ValueError(f"layout must be one of {known}, not {layout!r}")
    model = _finished(image, features, split(trunk)[1], options)
    _freeze(model, stages[: options["freeze_at"]])
    return model


def _freeze(model: keras.Model, names: Sequence[str]) -> None:
    """Freezes the layers of the backbone whose names start so."""
    for layer in model.layers:
        if layer.name.startswith(tuple(f"backbone.{name}" for name in names)):
            layer.trainable = False


def _finished(
    image: Any, features: dict[str, Any], kind: str, options: dict[str, Any]
) -> keras.Model:
    if kind in SINGLE:
        level, _, _ = SINGLE[kind]
        return keras.Model(image, {level: features[level]}, name="trunk")
    pyramid = feature_pyramid(features)
    if kind == "sfpn":
        pyramid = guided_pyramid(pyramid, options["head_norm"])
    # Every other cell of p5 (FPN, footnote 1).
    pyramid["p6"] = keras.layers.MaxPooling2D(1, strides=2, name="p6")(pyramid["p5"])
    return keras.Model(image, pyramid, name="trunk")
