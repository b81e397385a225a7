"""tfseg: segmentation networks for TensorFlow and Keras 3, faithful to their papers.

model = tfseg.build("psp_resnet101", num_classes=21, weights="pspnet101_VOC2012.caffemodel")
"""

from __future__ import annotations

import fnmatch
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tfseg.version import __version__

if TYPE_CHECKING:
    import keras
    import numpy as np

__all__ = ["__version__", "build", "list_models", "load_weights"]

# Keras takes seconds to import: what needs it is imported when it is first used.
_SUBMODULES = ("data", "export", "losses", "metrics", "predict", "train", "visualize", "weights")


def __getattr__(name: str) -> Any:
    """The submodules, as in ``tfseg.losses.SparseCrossEntropy``."""
    if name in _SUBMODULES:
        return importlib.import_module(f"tfseg.{name}")
    raise AttributeError(f"module 'tfseg' has no attribute {name!r}")


def build(
    name: str,
    num_classes: int | None = None,
    weights: str | Path | None = None,
    **options: Any,
) -> keras.Model:
    """Builds a network by name.

    Args:
        name: one of `list_models()`.
        num_classes: classes of the output; None: those of the published weights.
        weights: a checkpoint to load, as in `load_weights`; None: the paper's initialisation.
        options: the network's own options; see the builder's docstring.

    Returns:
        A ``keras.Model`` that takes float32 (batch, height, width, channels), already
        preprocessed as ``model.spec.preprocessing`` says.

    Raises:
        ValueError: unknown name or option (the nearest is named), or unfitting weights.
    """
    from tfseg import models, registry

    models.register_all()
    model = registry.build(name, num_classes, **options)
    if weights is not None:
        load_weights(model, weights)
    return model


def list_models(task: str | None = None, match: str | None = None) -> list[str]:
    """The names that `build` takes, sorted.

    Args:
        task: only networks of this task: "classification", "semantic", ...
        match: only names that fit this shell pattern, as in "psp_*".

    Raises:
        ValueError: for an unknown task.
    """
    from tfseg import models, registry

    models.register_all()
    if task is not None and task not in registry.TASKS:
        raise ValueError(f"unknown task {task!r}; {registry.suggest(task, registry.TASKS)}")
    return [
        e.name
        for e in registry.entries()
        if task in (None, e.task) and (match is None or fnmatch.fnmatchcase(e.name, match))
    ]


def load_weights(
    model: keras.Model,
    source: str | Path | Mapping[str, np.ndarray],
    origin: str | None = None,
    *,
    skip_heads: bool = False,
) -> None:
    """Loads a checkpoint of the network's authors, of torchvision, Keras or tfseg itself.

    See `tfseg.weights.load_weights`.
    """
    from tfseg import weights

    weights.load_weights(model, source, origin, skip_heads=skip_heads)
