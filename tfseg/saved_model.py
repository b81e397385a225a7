"""A model's versions on disk: each a folder that appears when it is complete."""

import json
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.export import ExportArchive

from tfseg import registry
from tfseg.registry import Preprocessing
from tfseg.version import __version__
from tfseg.warmup import write_requests

INFO = "model_info.json"


def write_version(
    directory: str | Path, version: int | None, write: Callable[[Path], None]
) -> Path:
    """Writes ``directory/<version>/``, all of it or nothing.

    It is written as ``directory/.partial-...``, which TensorFlow Serving does not take for a
    version, and renamed when it is complete: a server that looks into the folder at any time
    finds whole versions. What a killed process leaves of ``.partial-...`` can be removed.

    Args:
        directory: the model's own folder.
        version: a positive integer; None: one more than the highest there.
        write: fills the folder that it is given.

    Returns:
        The folder written.

    Raises:
        FileExistsError: if that version exists.
        ValueError: for a version below 1.
    """
    directory = Path(directory)
    target = directory / str(_next_version(directory) if version is None else version)
    if version is not None and version < 1:
        raise ValueError(f"version must be a positive integer, not {version!r}")
    exists = FileExistsError(f"{target} exists; give another version or remove it first")
    if target.exists():
        raise exists
    directory.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=directory))
    try:
        write(partial)
        partial.chmod(0o755)  # mkdtemp's folder is its owner's alone
        try:
            partial.rename(target)
        except OSError as error:  # another export was sooner
            if not target.exists():
                raise
            raise exists from error
    except BaseException:
        shutil.rmtree(partial)
        raise
    return target


def _next_version(directory: Path) -> int:
    found = directory.iterdir() if directory.is_dir() else ()
    return max((int(p.name) for p in found if p.name.isdecimal()), default=0) + 1


class Signatures:
    """The signatures of a SavedModel, with a request to warm up each.

    Attributes:
        archive: what they are added to.
        described: their inputs and outputs, by name, as ``model_info.json`` tells them.
        requests: signatures and inputs, as `tfseg.warmup.write_requests` takes them.
    """

    def __init__(self) -> None:
        """An archive without signatures.

        With them come the variables that they read. Those of a model that it tracks it would save
        a second time, and a server would load them twice.
        """
        self.archive = ExportArchive()
        self.described: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, dict[str, Any]]] = []

    def add(
        self,
        name: str,
        function: Callable[..., dict[str, tf.Tensor]],
        inputs: Sequence[tf.TensorSpec],
        request: Sequence[Any],
    ) -> None:
        """Adds a signature.

        Args:
            name: the signature's.
            function: of the inputs, gives the outputs by name.
            inputs: each with its name.
            request: a value of each.
        """
        # add_endpoint gives back the function with its signature.
        traced = self.archive.add_endpoint(name, function, input_signature=list(inputs))
        outputs = traced.get_concrete_function().structured_outputs
        self.described[name] = {
            "inputs": {spec.name: describe(spec) for spec in inputs},
            "outputs": {key: describe(outputs[key]) for key in sorted(outputs)},
        }
        names = [spec.name for spec in inputs]
        self.requests.append((name, dict(zip(names, request, strict=True))))

    def write(self, folder: Path, model: str, info: Mapping[str, Any]) -> None:
        """Writes the SavedModel, its ``assets.extra/model_info.json`` and warmup requests.

        Args:
            folder: which exists.
            model: the name that it is served by.
            info: see `model_info`.
        """
        # Gradients of our own would be saved with what they capture, which constants cannot.
        options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
        self.archive.write_out(folder, options=options, verbose=False)
        extra = folder / "assets.extra"
        extra.mkdir()
        write_info(extra, model, dict(info) | {"signatures": self.described})
        write_requests(extra, model, self.requests)


def savedmodel_options(*, png: bool, xla: bool, freeze: bool) -> dict[str, Any]:
    """The entries of "export" in a SavedModel's ``model_info.json``.

    Raises:
        ValueError: for both ``xla`` and ``freeze``.
    """
    if xla and freeze:
        raise ValueError("xla and freeze do not go together: XLA packs weights by itself")
    return {"format": "savedmodel", "png": png, "xla": xla, "freeze": freeze}


def describe(tensor: Any) -> dict[str, Any]:
    """A tensor's or specification's dtype and shape, null where any size is taken."""
    shape = tensor.shape
    return {
        "dtype": tensor.dtype.name,
        "shape": None if shape.rank is None else shape.as_list(),
    }


def model_info(
    model: keras.Model,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None,
    further: Mapping[str, Any] | None,
    **how: Any,
) -> dict[str, Any]:
    """What `model_info.json` tells of every model.

    Args:
        model: with ``spec`` if it is a registered network.
        preprocessing: the model's.
        classes: names by class id.
        further: entries that are the caller's, as training scores.
        how: it is exported; together with the caller's "export".
    """
    further = further or {}
    spec = getattr(model, "spec", None)
    return {
        "task": None if spec is None else registry.entry(spec.name).task,
        "network": model.name,
        "options": None if spec is None else spec.options,
        "parameters": model.count_params(),
        "compute_dtype": model.compute_dtype,
        "classes": None if classes is None else list(classes),
        "preprocessing": asdict(preprocessing),
        **further,
        "export": how | further.get("export", {}),
    }


def write_info(folder: Path, model: str, info: Mapping[str, Any]) -> None:
    """Writes ``folder/model_info.json``, with the packages' versions.

    Args:
        folder: which exists.
        model: the name that it is served by.
        info: of entries that JSON has.
    """
    versions = {"tfseg": __version__, "tensorflow": tf.__version__, "keras": keras.__version__}
    text = json.dumps({"name": model, **info, "versions": versions}, indent=2)
    (folder / INFO).write_text(text + "\n", encoding="utf-8")


def answers(
    signatures: Mapping[str, Callable[..., dict[str, tf.Tensor]]], image: np.ndarray, channels: int
) -> list[dict[str, tf.Tensor]]:
    """What an export answers to one image, as a file and as a tensor.

    Args:
        signatures: of the SavedModel.
        image: uint8 (H, W, 3) or (H, W, 1).
        channels: of the network. One for gray images is given colours as a file alone.
    """
    found = [signatures["serving_default"](image_bytes=tf.io.encode_png(image)[None])]
    if image.shape[2] <= channels:
        batch = tf.broadcast_to(image, (1, *image.shape[:2], channels))
        found.append(signatures["tensor_uint8"](images=batch))
    return found
