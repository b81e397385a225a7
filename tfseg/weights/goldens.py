"""Golden files: a network beside what the original implementation computed.

A golden holds activations of the original on a *synthetic* checkpoint, every array of which is
a pure function of a seed, its name and its shape. Made anew here under the original's names, the
checkpoint goes through the importer, so that one comparison proves architecture, numerics and
importer. The file format and the arrays' rules are described beside the goldens.
"""

import fnmatch
import json
import re
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfseg import models, registry
from tfseg.models.classification import CAFFE_BGR_MEAN, IMAGENET_RGB
from tfseg.models.rcnn import RCNN
from tfseg.ops.preprocess import preprocess
from tfseg.registry import Preprocessing
from tfseg.weights import detector_goldens, maps
from tfseg.weights.load import load_weights

#: the largest error over the tap's standard deviation that passes
TOLERANCE = 1e-3

_ORIGINS = (("torchvision", "torchvision"), ("detectron2", "detectron2"), ("", "caffe"))
#: shell patterns of the parameters that have as many values as the network has classes; the first
#: that fits counts
_CLASSIFIER = (
    "fc.bias",
    "classifier.6.bias",
    "classifier.4.bias",
    "classifier.1.bias",
    "fc8*/1",
    "fc1_*_c0/1",
    "conv6/1",
    "conv_u0d-score/1",
    "score_fr/1",
    "seg-score-voc/1",
    "sem_seg_head.predictor.bias",
    "final/1",
    "fc-final/1",
)
#: a parameter that only another network than the one the golden names has
_TELLTALE = {"ct_conv1_1/0": "dilated8_large_vgg16"}
#: networks whose reference's "output" is behind a softmax
_SOFTMAX = "dilated*_vgg16"
#: where the reference was not run with the preprocessing of its published weights
_PREPROCESSING = {
    "googlenet": IMAGENET_RGB,
    "deeplab_largefov_vgg16": CAFFE_BGR_MEAN,
    "unet_release": Preprocessing("gray", (127.5,), (255.0,)),
}
#: families whose checkpoints hold another of our networks: its family, and the taps that are its
_BRANCHES = {
    "panoptic_fpn": ("semantic_fpn", ("p2", "p3", "p4", "p5", "sem_seg_logits_stride4")),
}


class Unsupported(Exception):
    """A golden of a network that is not registered."""


def _random(seed: int, name: str) -> np.random.RandomState:
    return np.random.RandomState(zlib.crc32(f"{seed}:{name}".encode()))


def synthetic_array(name: str, shape: tuple[int, ...], seed: int, gain: float) -> np.ndarray:
    """The synthetic checkpoint's array of this name: float32, or int64 zeros for counters.

    Args:
        name: in the reference's checkpoint; its last part tells what the array is.
        shape: in the reference's layout, output channels first.
        gain: variance gain of kernels.
    """
    random, leaf = _random(seed, name), re.split(r"[./]", name)[-1]
    if leaf == "num_batches_tracked":
        return np.zeros(shape, np.int64)
    if leaf in ("running_var", "var"):
        array = random.uniform(0.5, 1.5, shape)
    elif leaf in ("running_mean", "mean"):
        array = 0.1 * random.standard_normal(shape)
    elif len(shape) >= 2:
        array = random.standard_normal(shape) * np.sqrt(gain / np.prod(shape[1:]))
    elif leaf in ("weight", "gamma"):
        array = random.uniform(0.8, 1.2, shape)
    else:
        array = 0.05 * random.standard_normal(shape)
    return np.asarray(array, np.float32)


def synthetic_image(shape: tuple[int, int, int, int], seed: int) -> np.ndarray:
    """The golden image: a coarse random grid, interpolated, plus noise; float32 0..255."""
    batch, height, width, channels = shape
    random = _random(seed, "image")
    grid = random.uniform(0, 1, (batch, height // 16 + 2, width // 16 + 2, channels))

    def weights(cells: int, size: int) -> np.ndarray:
        place = np.linspace(0, cells - 1.001, size)
        near = place.astype(int)
        out = np.zeros((size, cells))
        out[np.arange(size), near] = 1 - (place - near)
        out[np.arange(size), near + 1] = place - near
        return out

    rows, columns = weights(grid.shape[1], height), weights(grid.shape[2], width)
    smooth = np.einsum("hy,byxc,wx->bhwc", rows, grid, columns, optimize=True)
    noise = random.uniform(-0.1, 0.1, shape)
    return np.asarray(255 * np.clip(smooth + noise, 0, 1), np.float32)


@dataclass(frozen=True)
class Result:
    """A golden's outcome: the largest error and the tap that has it."""

    error: float
    tap: str

    @property
    def passed(self) -> bool:
        """Whether the error is finite and within TOLERANCE."""
        return self.error <= TOLERANCE


def _networks(meta: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The registered networks that a golden is of, and the options that it tells."""
    name = meta["model"].split(" ")[0]
    name = next((n for key, n in _TELLTALE.items() if key in meta["params"]), name)
    found = [detector_goldens.network(name) or (name, {})]
    found += [
        (found[0][0].replace(family, branch), {})
        for family, (branch, _) in _BRANCHES.items()
        if found[0][0].startswith(family)
    ]
    return found


def _build(name: str, options: dict[str, Any], meta: dict[str, Any]) -> keras.Model:
    models.register_all()
    if name not in {e.name for e in registry.entries()}:
        raise Unsupported(name)
    params = meta["params"]
    if registry.entry(name).task in registry.DETECTION_TASKS:
        classes, own = detector_goldens.counts(params)
        return registry.build(name, classes, **options, **own)
    found = (n[0] for p in _CLASSIFIER for k, n in params.items() if fnmatch.fnmatchcase(k, p))
    if any(key.startswith("aux_classifier.") for key in params):
        options = options | {"aux_head": True}
    if match := re.search(r"\(fc6 (\dx\d) rate (\d+)\)", meta["model"]):
        options = options | {"fc6": f"{match[1]}r{match[2]}"}
    return registry.build(name, next(found, None), **options)


def _activations(model: keras.Model, taps: list[str], inputs: np.ndarray) -> dict[str, np.ndarray]:
    """The outputs of the taps' layers; "output" and "aux" are the model's own."""
    own = model.output if isinstance(model.output, dict) else {"logits": model.output}
    outputs = {}
    for tap in taps:
        if tap == "output":
            softmax = fnmatch.fnmatchcase(model.name, _SOFTMAX)
            outputs[tap] = keras.ops.softmax(own["logits"]) if softmax else own["logits"]
        elif tap in own:
            outputs[tap] = own[tap]
        else:
            outputs[tap] = model.get_layer(maps.layer_of_tap(model, tap)).output
    values = keras.Model(model.input, outputs)(inputs, training=False)
    return {tap: keras.ops.convert_to_numpy(value) for tap, value in values.items()}


def _inputs(model: keras.Model, meta: dict[str, Any]) -> np.ndarray:
    """The golden image, preprocessed for the model."""
    image = synthetic_image(tuple(meta["image"]), meta["image_seed"])
    if model.spec.preprocessing.channels == "gray":
        image = image[..., :1]
    preprocessing = _PREPROCESSING.get(model.spec.name, model.spec.preprocessing)
    return np.asarray(preprocess(image, preprocessing), np.float32)


def _tap_error(tap: str, value: np.ndarray, arrays: dict[str, np.ndarray]) -> float:
    """The largest difference at the golden's samples, over their standard deviation."""
    shape = tuple(arrays[f"{tap}/shape"].tolist())
    if value.shape != shape:
        raise ValueError(f"{tap} has shape {value.shape}, the reference {shape}")
    reference = arrays[f"{tap}/value"]
    difference = np.abs(value.reshape(-1)[arrays[f"{tap}/index"]] - reference)
    return float(np.max(difference) / (reference.std() + 1e-12))


def _errors(
    model: keras.Model, meta: dict[str, Any], arrays: dict[str, np.ndarray]
) -> dict[str, float]:
    """The error of each of the golden's taps that the model has."""
    taps = sorted(key[: -len("/shape")] for key in arrays if key.endswith("/shape"))
    inputs, sets = _inputs(model, meta), dict[str, float]()
    if isinstance(model, RCNN):
        values = detector_goldens.activations(model, inputs, arrays["boxes"])
        if missing := [tap for tap in taps if tap not in values]:
            raise ValueError(f"{model.spec.name} has no {', '.join(missing)}")
        sets = detector_goldens.set_errors(model, inputs, arrays)
    else:
        branches = [taps for family, taps in _BRANCHES.values() if model.name.startswith(family)]
        taps = [tap for tap in taps if all(tap in own for own in branches)]
        values = _activations(model, taps, inputs)
    return {tap: _tap_error(tap, values[tap], arrays) for tap in taps} | sets


def check(path: Path) -> Result:
    """Compares a network with a golden file.

    Args:
        path: an .npz file named ``reference__model``.

    Raises:
        Unsupported: if no such network is registered.
        ValueError: if a tap's shape or the parameters' names differ, or the file is no golden.
    """
    with np.load(path, allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    if "meta" not in arrays:
        raise ValueError(f"{path} is no golden file: it has no 'meta'")
    meta = json.loads(str(arrays["meta"]))
    origin = next(o for text, o in _ORIGINS if text in meta["reference"])
    results = []
    for name, options in _networks(meta):
        model = _build(name, options, meta)
        params = meta["params"].items()
        checkpoint = {
            k: synthetic_array(k, tuple(s), meta["seed"], meta["gain"]) for k, s in params
        }
        load_weights(model, checkpoint, origin)
        try:
            errors = _errors(model, meta, arrays)
        except ValueError as error:
            raise ValueError(f"{path.stem}: {error}") from error
        results += [Result(error, tap) for tap, error in errors.items()]
    # A nan is the worst error there is.
    return max(results, key=lambda result: np.nan_to_num(result.error, nan=np.inf))
