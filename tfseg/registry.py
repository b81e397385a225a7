"""Every network by name: its builder, task, paper and preprocessing."""

import difflib
import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

#: of the networks that find objects
DETECTION_TASKS = ("detection", "instance", "keypoint", "panoptic")
TASKS = ("classification", "semantic", *DETECTION_TASKS)


@dataclass(frozen=True)
class Preprocessing:
    """What a network's input is made of: ``(channels(image) - mean) / std``.

    Attributes:
        channels: "rgb", "bgr" or "gray".
        mean: one value a channel, in that channel order, on the scale 0..255.
        std: one value a channel.
    """

    channels: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.channels not in ("rgb", "bgr", "gray"):
            raise ValueError(f"channels must be rgb, bgr or gray, not {self.channels!r}")
        count = 1 if self.channels == "gray" else 3
        if len(self.mean) != count or len(self.std) != count:
            raise ValueError(f"{self.channels} needs {count} values in mean and in std")

    @property
    def num_channels(self) -> int:
        """Channels of the network's input."""
        return len(self.mean)


@dataclass(frozen=True)
class Spec:
    """How a model was built; attached to it as ``model.spec``.

    Attributes:
        name: the registered name.
        num_classes: classes of the output.
        options: every option of the builder, defaults included.
        preprocessing: what the model's input is made of.
    """

    name: str
    num_classes: int
    options: dict[str, Any] = field(default_factory=dict)
    preprocessing: Preprocessing = field(kw_only=True)


@dataclass(frozen=True)
class Entry:
    """One registered network.

    Attributes:
        name: the name it is built by.
        builder: ``builder(num_classes, **options) -> keras.Model``.
        task: one of TASKS.
        paper: where it is described.
        num_classes: the count that the published weights have.
        preprocess: gives the preprocessing of the network built with these options.
    """

    name: str
    builder: Callable[..., Any]
    task: str
    paper: str
    num_classes: int
    preprocess: Callable[[dict[str, Any]], Preprocessing]

    def options(self) -> dict[str, Any]:
        """The builder's options and their defaults."""
        parameters = list(inspect.signature(self.builder).parameters.values())[1:]
        return {p.name: p.default for p in parameters}


_ENTRIES: dict[str, Entry] = {}


def register(
    name: str,
    *,
    task: str,
    paper: str,
    num_classes: int,
    preprocessing: Preprocessing | Callable[[dict[str, Any]], Preprocessing],
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator: makes ``builder(num_classes, **options)`` known as ``name``.

    Raises:
        ValueError: if the name is taken or the task is not one of TASKS.
    """
    if task not in TASKS:
        raise ValueError(f"model {name!r}: unknown task {task!r}, expected one of {TASKS}")

    def add(builder: Callable[..., Any]) -> Callable[..., Any]:
        if name in _ENTRIES:
            raise ValueError(f"model {name!r} is registered twice")
        preprocess = preprocessing if callable(preprocessing) else lambda options: preprocessing
        _ENTRIES[name] = Entry(name, builder, task, paper, num_classes, preprocess)
        return builder

    return add


def suggest(word: str, known: Iterable[str]) -> str:
    """The end of an error message: the nearest known names, or all of them."""
    known = sorted(known)
    near = difflib.get_close_matches(word, known, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(n) for n in near) + "?"
    return "known: " + (", ".join(known) if known else "none")


def entry(name: str) -> Entry:
    """The entry of a registered network.

    Raises:
        ValueError: if there is none of that name; the message names the nearest.
    """
    if name not in _ENTRIES:
        raise ValueError(f"unknown model {name!r}; {suggest(name, _ENTRIES)}")
    return _ENTRIES[name]


def entries() -> list[Entry]:
    """All registered networks, by name."""
    return [_ENTRIES[name] for name in sorted(_ENTRIES)]


def build(name: str, num_classes: int | None = None, **options: Any) -> Any:
    """Builds a registered network with fresh weights.

    Args:
        name: a registered name.
        num_classes: classes of the output; None: those of the published weights.
        options: the builder's own options.

    Returns:
        A ``keras.Model`` with ``model.spec`` set.

    Raises:
        ValueError: for an unknown name, an unknown option, or fewer than one class.
    """
    found = entry(name)
    known = found.options()
    for option in options:
        if option not in known:
            raise ValueError(f"model {name!r} has no option {option!r}; {suggest(option, known)}")
    if num_classes is None:
        num_classes = found.num_classes
    if isinstance(num_classes, bool) or not isinstance(num_classes, int) or num_classes < 1:
        raise ValueError(f"num_classes must be a positive integer, not {num_classes!r}")
    resolved = {**known, **options}
    # Before the network, which can take seconds: it refuses options that it depends on.
    preprocessing = found.preprocess(resolved)
    model = found.builder(num_classes, **resolved)
    model.name = name
    model.spec = Spec(name, num_classes, resolved, preprocessing=preprocessing)
    return model
