"""Augmentation in tf.data: every transform takes a sample and a seed, and nothing else."""

from typing import Any

from pydantic import TypeAdapter, ValidationError

from tfseg.data.transforms.base import Transform
from tfseg.data.transforms.elastic import Elastic
from tfseg.data.transforms.geometry import (
    Crop,
    CropFraction,
    CropLabels,
    Flip,
    MirrorPad,
    Rotate,
    Rotate90,
    SubsampleLabels,
)
from tfseg.data.transforms.photometry import Blur, ColorDistortion, GrayValue, Noise
from tfseg.data.transforms.resizing import Resize, ResizeShortSide, Scale
from tfseg.registry import suggest

__all__ = ["TRANSFORMS", "Transform", "make_transforms"]

#: the names that experiment files use
TRANSFORMS: dict[str, type] = {
    "blur": Blur,
    "color_distortion": ColorDistortion,
    "crop": Crop,
    "crop_fraction": CropFraction,
    "crop_labels": CropLabels,
    "elastic": Elastic,
    "flip": Flip,
    "gray_value": GrayValue,
    "mirror_pad": MirrorPad,
    "noise": Noise,
    "resize": Resize,
    "resize_short_side": ResizeShortSide,
    "rotate": Rotate,
    "rotate90": Rotate90,
    "scale": Scale,
    "subsample_labels": SubsampleLabels,
}


def make_transforms(specs: list[dict[str, dict[str, Any]]]) -> list[Transform]:
    """Transforms from an experiment file's list.

    Args:
        specs: one-key mappings ``{name: {option: value}}``, in the order of application.

    Raises:
        ValueError: for an unknown name or option (the nearest is named) or a value that is of a
            wrong type or out of range.
    """
    made = []
    for place, spec in enumerate(specs):
        ((name, options),) = spec.items()
        where = f"data.transforms.{place}"
        if name not in TRANSFORMS:
            raise ValueError(f"{where}: unknown transform {name!r}; {suggest(name, TRANSFORMS)}")
        cls = TRANSFORMS[name]
        known = list(getattr(cls, "__dataclass_fields__", {}))
        for option in options:
            if option not in known:
                raise ValueError(
                    f"{where}: {name} has no option {option!r}; {suggest(option, known)}"
                )
        try:
            made.append(TypeAdapter(cls).validate_python(options))
        except ValidationError as e:
            lines = [
                f"{where}: {name} {'.'.join(map(str, error['loc']))}: {error['msg']}".rstrip()
                for error in e.errors()
            ]
            raise ValueError("\n".join(lines)) from None
    return made
