"""Turns released files into tfseg's own."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras

from tfseg import models, registry
from tfseg.weights import released
from tfseg.weights.load import load_weights, save_weights


def _network(file: str, model: str | None) -> tuple[str, int | None, Mapping[str, Any]]:
    """The network that a file fills: its name, its classes if known, and its options."""
    try:
        release = released.find(file, model)
    except ValueError as error:
        if model is not None:
            return model, None, {}
        raise ValueError(f"{error}; or name the network that the file fills (model)") from None
    if release.part == "backbone":
        raise ValueError(
            f"{file} fills the trunk of {release.model} and no whole network: give it to training "
            "as model.backbone_weights, or to load_weights with part='backbone'"
        )
    return release.model, release.num_classes, release.options


def convert(
    source: str | Path,
    out: str | Path | None = None,
    *,
    model: str | None = None,
    num_classes: int | None = None,
    options: Mapping[str, Any] | None = None,
) -> tuple[keras.Model, Path]:
    """Loads a file of any known format into its network and saves it as tfseg's .safetensors.

    Args:
        source: the file; all of the network's weights must be in it.
        out: the file to write; None: beside ``source``, with its name. None that exists.
        model: the network's registered name; None: that of the released file of this name.
        num_classes: of the network; None: the released file's, or the network's default.
        options: of the network, beside or in place of the released file's.

    Returns:
        The network with the weights, and the file that was written.

    Raises:
        ValueError: if the network or one of its options is unknown, or the file is of no known
            name and ``model`` is None.
        WeightsError: if the file is unreadable or does not fit the network.
        FileExistsError: if ``out`` exists.
    """
    source = Path(source)
    out = source.with_suffix(".safetensors") if out is None else Path(out)
    if out.suffix != ".safetensors":
        raise ValueError(f"weights are saved as .safetensors, not as {out.name!r}")
    if out.exists():
        raise FileExistsError(f"{out} exists: remove it, or name another file to write")
    name, known_classes, known_options = _network(source.name, model)
    models.register_all()
    network = registry.build(
        name,
        known_classes if num_classes is None else num_classes,
        **{**known_options, **(options or {})},
    )
    load_weights(network, source)
    out.parent.mkdir(parents=True, exist_ok=True)
    save_weights(network, out)
    return network, out
