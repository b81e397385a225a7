"""Puts a checkpoint into a model: strict, and nothing is assigned unless everything fits."""

import logging
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np

from tfseg.registry import suggest
from tfseg.weights import maps, tensors
from tfseg.weights.common import WeightsError
from tfseg.weights.files import guess_origin, read_weights
from tfseg.weights.maps.common import Convert

_LOG = logging.getLogger(__name__)
_LISTED = 10
_PARTS = ("model", "backbone")

#: a variable's name in Keras -> what it may be called behind its layer's name
_Suffixes = dict[str, tuple[str, ...]]
_TORCH: _Suffixes = {
    "kernel": (".weight",),
    "bias": (".bias",),
    "gamma": (".weight",),
    "beta": (".bias",),
    "moving_mean": (".running_mean",),
    "moving_variance": (".running_var",),
}
_CAFFE: _Suffixes = {
    "kernel": ("/0",),
    "bias": ("/1",),
    "gamma": ("/gamma",),
    "beta": ("/beta",),
    "moving_mean": ("/mean",),
    "moving_variance": ("/var",),
}
#: of Caffe2's own norms, "riv" is a variance too; the second of MSRA's, as detectron2 has them
_DETECTRON: _Suffixes = {
    "kernel": ("_w",),
    "bias": ("_b",),
    "gamma": ("_s", "_gamma"),
    "beta": ("_b", "_beta"),
    "moving_mean": ("_rm", "_running_mean"),
    "moving_variance": ("_riv", "_running_var"),
}
#: of each origin; the others use Keras' own names
_SUFFIXES = {
    "torchvision": _TORCH,
    "detectron2": _TORCH,
    "caffe": _CAFFE,
    "detectron": _DETECTRON,
    "megvii": _TORCH,
}
_STATISTICS = ("moving_mean", "moving_variance")


@dataclass(frozen=True)
class _Slot:
    """A variable and where a checkpoint has it.

    Attributes:
        variable: of the model.
        names: what the checkpoint may call it.
        shape: in the checkpoint's layout; None where only ``convert`` knows it.
        convert: turns the checkpoint's array into Keras' layout.
        constant: the value of a variable that such checkpoints do not have.
    """

    variable: Any
    names: tuple[str, ...]
    shape: tuple[int, ...] | None
    convert: Callable[[np.ndarray], np.ndarray]
    constant: float | None = None


@dataclass
class _Report:
    """What does not fit, by kind, and the names that were found."""

    missing: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    wrong_shape: list[str] = field(default_factory=list)
    unusable: list[str] = field(default_factory=list)
    used: set[str] = field(default_factory=set)

    def lines(self) -> list[str]:
        kinds = ("missing", "unexpected", "wrong_shape", "unusable")
        lines = []
        for kind in kinds:
            found = getattr(self, kind)
            shown = ", ".join(found[:_LISTED])
            more = f", ... {len(found) - _LISTED} more" if len(found) > _LISTED else ""
            if found:
                lines.append(f"  {kind.replace('_', ' ')} ({len(found)}): {shown}{more}")
        return lines


def _as_is(array: np.ndarray) -> np.ndarray:
    return array


def _channels_first(
    layer: keras.layers.Layer, shape: tuple[int, ...]
) -> tuple[tuple[int, ...], Callable[[np.ndarray], np.ndarray]]:
    """A kernel's shape in Caffe's and torch's layout, and what turns that into Keras' layout."""
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        height, width, channels, multiplier = shape

        def from_depthwise(array: np.ndarray) -> np.ndarray:
            return array.reshape(channels, multiplier, height, width).transpose(2, 3, 0, 1)

        return (channels * multiplier, 1, height, width), from_depthwise
    if len(shape) == 4:
        # (out, in, h, w) of convolutions, (in, out, h, w) of transposed ones: Keras has both
        # pairs swapped.
        return (shape[3], shape[2], *shape[:2]), lambda array: array.transpose(2, 3, 1, 0)
    return shape[::-1], np.transpose


def _keras_slot(layer: keras.layers.Layer, index: int, target: maps.Target) -> _Slot:
    """Where a checkpoint of Keras or tfseg has a layer's variable."""
    variable = layer.weights[index]
    # Keras 2 has another name for depthwise kernels, and Keras 3's files number variables of
    # classes that their reader does not know.
    leaves = [variable.name, str(index)]
    if isinstance(layer, keras.layers.DepthwiseConv2D) and variable.name == "kernel":
        leaves.append("depthwise_kernel")
    bases = [base for base in (target.name, target.alternative) if base is not None]
    names = tuple(f"{base}/{leaf}" for base in bases for leaf in leaves)
    return _Slot(variable, names, tuple(variable.shape), _as_is)


def _bound(convert: Convert, shape: tuple[int, ...]) -> Callable[[np.ndarray], np.ndarray]:
    return lambda array: convert(array, shape)


def _constant(layer: keras.layers.Layer, leaf: str) -> float | None:
    """What a norm's statistics are where they are folded into its scale and offset."""
    if leaf not in _STATISTICS:
        return None
    # The layer adds its epsilon: the sum is 1.
    return 0.0 if leaf == "moving_mean" else 1.0 - float(layer.epsilon)


def _slots(
    layer: keras.layers.Layer, target: maps.Target, origin: str, statistics: bool
) -> list[_Slot]:
    """Where a checkpoint of this origin has each of a layer's variables.

    Args:
        statistics: whether the checkpoint has norms' statistics.
    """
    suffixes = _SUFFIXES.get(origin)
    if suffixes is None:
        return [_keras_slot(layer, index, target) for index in range(len(layer.weights))]
    slots = []
    for variable in layer.weights:
        leaf, own = variable.name, tuple(variable.shape)
        shape: tuple[int, ...] | None = own
        convert: Callable[[np.ndarray], np.ndarray] = _as_is
        if leaf not in suffixes:
            raise ValueError(
                f"layer {layer.name!r} has a variable {leaf!r}, for which checkpoints of "
                f"origin {origin!r} have no name; {suggest(leaf, suffixes)}"
            )
        if leaf in target.convert:
            shape, convert = None, _bound(target.convert[leaf], own)
        elif leaf == "kernel":
            shape, convert = _channels_first(layer, own)
        base = target.norm if target.norm and leaf in ("gamma", "beta") else target.name
        bases = (base,) if target.alternative is None else (base, target.alternative)
        names = tuple(name + suffix for name in bases for suffix in suffixes[leaf])
        constant = _constant(layer, leaf) if target.folded and not statistics else None
        slots.append(_Slot(variable, names, shape, convert, constant))
    return slots


def _fit(slot: _Slot, arrays: Mapping[str, np.ndarray], report: _Report) -> np.ndarray | None:
    """The variable's new value, or None and what is wrong in the report."""
    if slot.constant is not None:
        return np.full(slot.variable.shape, slot.constant, np.float32)
    name = next((n for n in slot.names if n in arrays), None)
    if name is None:
        report.missing.append(slot.names[0])
        return None
    report.used.add(name)
    array, wanted = np.asarray(arrays[name]), tuple(slot.variable.shape)
    if slot.shape is not None and array.shape != slot.shape:
        report.wrong_shape.append(f"{name} is {array.shape}, the model's is {slot.shape}")
        return None
    if array.dtype.kind != "f" and array.dtype.name != "bfloat16":
        report.unusable.append(f"{name} is {array.dtype}, not floating point")
        return None
    try:
        value = slot.convert(array)
    except (ValueError, IndexError):
        value = array
    if value.shape != wanted:
        size = math.prod(wanted)
        report.wrong_shape.append(
            f"{name} is {array.shape}, {array.size} values for a kernel {wanted} of {size}"
        )
        return None
    with np.errstate(over="ignore"):
        # Mapped files are not aligned, and transposed views not contiguous.
        value = np.require(value, np.float32, ["C", "A"])
    if not np.isfinite(value).all():
        report.unusable.append(f"{name} has values that are not finite")
        return None
    return value


def _is_bookkeeping(name: str, origin: str, unused: tuple[str, ...]) -> bool:
    """Names that no layer of this part takes: other parts', and torch's counters of batches."""
    counter = _SUFFIXES.get(origin) is _TORCH and name.endswith(".num_batches_tracked")
    return counter or name.startswith(unused)


def _native(model: keras.Model) -> dict[str, Any]:
    """The model's variables under tfseg's own names, "<layer>/<variable>"."""
    named: dict[str, Any] = {}
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name}/{variable.name}"
            if name in named:
                raise ValueError(f"{model.name} has two variables called {name}")
            named[name] = variable
    return named


def _origin(model: keras.Model, arrays: Mapping[str, np.ndarray], guess: str | None) -> str:
    # tfseg's own names look like Keras', but are this very model's.
    if guess in (None, "keras") and not arrays.keys().isdisjoint(_native(model)):
        return "tfseg"
    if guess is None:
        raise WeightsError(
            "the checkpoint's names do not tell where it is from: pass origin=, one of "
            f"{', '.join((*_SUFFIXES, 'keras', 'tfseg'))}"
        )
    return guess


def _resolved(target: str | maps.Target, layers: set[str]) -> maps.Target:
    """The target, with the name that its layer has among a checkpoint's."""
    target = maps.Target(target) if isinstance(target, str) else target
    if target.pattern is None or target.name in layers:
        return target
    found = sorted(name for name in layers if re.fullmatch(target.pattern, name))
    return replace(target, name=found[0]) if found else target


def _fit_all(
    model: keras.Model,
    targets: Mapping[str, str | maps.Target],
    arrays: Mapping[str, np.ndarray],
    origin: str,
    skip_heads: bool,
    partial: bool,
) -> tuple[list[tuple[Any, np.ndarray]], list[str], _Report]:
    """New values of variables, the heads that have another shape, and what does not fit."""
    report, values, misfits = _Report(), list[tuple[Any, np.ndarray]](), list[str]()
    ends = [end for leaf in _STATISTICS for end in _SUFFIXES.get(origin, {}).get(leaf, ())]
    statistics = any(name.endswith(tuple(ends)) for name in arrays)
    by_name = {layer.name: layer for layer in model.layers}
    heads, layers = maps.heads(model), {name.rpartition("/")[0] for name in arrays}
    for name, target in targets.items():
        own = _Report()
        target = _resolved(target, layers)
        slots = _slots(by_name[name], target, origin, statistics)
        fitted = [(slot.variable, _fit(slot, arrays, own)) for slot in slots]
        report.used |= own.used
        absent = partial and len(own.missing) == len([s for s in slots if s.constant is None])
        if absent or (name in heads and (own.missing or own.wrong_shape)):
            misfits.append(name)
            if skip_heads or absent:
                continue
        values += [(variable, value) for variable, value in fitted if value is not None]
        report.missing += own.missing
        report.wrong_shape += own.wrong_shape
        report.unusable += own.unusable
    return values, misfits, report


def _targets(
    model: keras.Model, origin: str, part: str
) -> tuple[dict[str, str | maps.Target], tuple[str, ...]]:
    """The part's layers in the checkpoint, and prefixes of what the checkpoint has beside them."""
    if part == "model":
        return maps.layer_names(model, origin), maps.unused(model, origin)
    targets, unused = maps.backbone_layer_names(model, origin)
    if not targets:
        raise ValueError(f"{model.name} has no layers whose name starts with 'backbone.'")
    return targets, unused


def load_weights(
    model: keras.Model,
    source: str | Path | Mapping[str, np.ndarray],
    origin: str | None = None,
    *,
    skip_heads: bool = False,
    partial: bool = False,
    part: str = "model",
) -> None:
    """Loads a checkpoint of the network's authors, of torchvision, Keras or tfseg itself.

    Args:
        model: built by `tfseg.build`.
        source: a file (see `tfseg.weights.read_weights`), or {name: array} in the reference's
            own names and layout.
        origin: "caffe", "torchvision", "detectron2", "detectron" (the first), "megvii", "keras"
            or "tfseg"; None: what the names look like.
        skip_heads: layers whose shape depends on the number of classes, or that deployed files
            lack, stay at their initialisation where the checkpoint's differ; a warning names
            them.
        partial: layers that the checkpoint lacks altogether stay at their initialisation, and
            what it has beside the model's layers is left, as when FCN-16s starts from FCN-32s;
            a warning names the layers. Shapes must fit, and one layer at least.
        part: "model", or "backbone": only the trunk, from a classification checkpoint.

    Raises:
        WeightsError: if the file is unreadable, or names or shapes differ or values are not
            finite: all are listed together, and the model is left as it was.
        ValueError: if the model takes no checkpoints of this origin.
    """
    if part not in _PARTS:
        raise ValueError(f"part must be one of {_PARTS}, not {part!r}")
    if isinstance(source, Mapping):
        (arrays, guess), label = (source, guess_origin(source)), "the given arrays"
    else:
        (arrays, guess), label = read_weights(source), str(source)
    origin = origin or _origin(model, arrays, guess)
    targets, unused = _targets(model, origin, part)
    maps.check(model, origin, part, arrays)
    values, misfits, report = _fit_all(model, targets, arrays, origin, skip_heads, partial)
    rest = (n for n in arrays if n not in report.used)
    if not partial or not values:
        report.unexpected = [n for n in rest if not _is_bookkeeping(n, origin, unused)]
    if lines := report.lines():
        if misfits and not skip_heads:
            lines.append(f"  (skip_heads=True leaves {', '.join(misfits)} as initialised)")
        lines.insert(0, f"{label}, read as of origin {origin!r}, does not fit {model.name}:")
        raise WeightsError("\n".join(lines))
    for variable, value in values:
        variable.assign(value)
    if misfits:
        _LOG.warning("%s: left at their initialisation: %s", label, ", ".join(misfits))


def save_weights(model: keras.Model, path: str | Path) -> None:
    """Saves a model's weights as .safetensors under tfseg's own names, "<layer>/<variable>".

    Args:
        model: any model of named layers.
        path: ends in .safetensors; an older file stays whole until the new one is complete.

    Raises:
        ValueError: for another extension, or if two variables would have the same name.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"weights are saved as .safetensors, not as {path.name!r}")
    values = {
        name: keras.ops.convert_to_numpy(variable) for name, variable in _native(model).items()
    }
    tensors.write_safetensors(path, values)
