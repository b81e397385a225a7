"""What all readers share: the registry, the checks of labels, and the base classes."""

import inspect
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, get_type_hints

import numpy as np
from pydantic import ValidationError, create_model

from tfseg.data.io import read_image, read_mask
from tfseg.data.sample import DataError, Reader, Sample
from tfseg.registry import suggest

V = TypeVar("V", bound=Hashable)


def twice(values: Iterable[V]) -> list[V]:
    """The values that are there more than once."""
    return [value for value, count in Counter(values).items() if count > 1]


class BaseReader:
    """A split of a data set; see `tfseg.data.sample.Reader`.

    Subclasses add ``__len__``, ``__getitem__`` (which raises IndexError past the end) and
    ``keys``. They take their options and ``ignore_label`` as keyword arguments with type hints.
    """

    def __init__(
        self, classes: Sequence[str], colors: np.ndarray | None, ignore_label: int
    ) -> None:
        """Checks and keeps what every reader has.

        Args:
            classes: the class names, by id.
            colors: uint8 (num_classes, 3), or None.
            ignore_label: the label of pixels that are not scored.

        Raises:
            ValueError: no class, a class named twice, or an ignore label that is a class id.
        """
        if not classes:
            raise ValueError("no classes")
        if again := sorted(twice(classes)):
            raise ValueError(f"classes named twice: {again}")
        if 0 <= ignore_label < len(classes):
            raise ValueError(
                f"ignore_label {ignore_label} is the id of class {classes[ignore_label]!r}; "
                f"it must be none of 0..{len(classes) - 1}"
            )
        self.classes = tuple(classes)
        self.colors = colors
        self.ignore_label = ignore_label

    def image_file(self, index: int) -> Path | None:
        """The file of the image of sample ``index``; None where it is part of one, or of none."""
        del index
        return None

    def check_labels(self, mask: np.ndarray, origin: str) -> None:
        """Checks that a mask (H, W) holds class ids and the ignore label only.

        Raises:
            DataError: naming ``origin``, the ids that are out of range, and their pixel counts.
        """
        count = len(self.classes)
        wrong = ((mask < 0) | (mask >= count)) & (mask != self.ignore_label)
        if wrong.any():
            raise DataError(
                f"{origin}: label {_counted(mask[wrong])} is out of range; "
                f"allowed are 0..{count - 1} and the ignore label {self.ignore_label}"
            )


def _counted(labels: np.ndarray) -> str:
    """The first few ids among labels, each with its number of pixels."""
    ids, pixels = np.unique(labels, return_counts=True)
    found = ", ".join(f"{i} ({n} pixels)" for i, n in zip(ids[:5], pixels, strict=False))
    return found + (", ..." if len(ids) > 5 else "")


def class_ids(labels: np.ndarray, stored: np.ndarray, void: np.ndarray, origin: str) -> np.ndarray:
    """The class ids int32 (H, W) of labels as files have them; any where they are void.

    Args:
        labels: int (H, W).
        stored: what the files have for each class, ascending.
        void: bool (H, W), what is no class.
        origin: of the labels.

    Raises:
        DataError: naming ``origin`` and labels of no class, with their pixel counts.
    """
    ids = np.searchsorted(stored, labels).clip(max=len(stored) - 1)
    wrong = (stored[ids] != labels) & ~void
    if wrong.any():
        raise DataError(f"{origin}: stored label {_counted(labels[wrong])} is no class")
    return ids.astype(np.int32)


_READERS: dict[str, type[BaseReader]] = {}

R = TypeVar("R", bound=type[BaseReader])


def register_reader(name: str) -> Callable[[R], R]:
    """Decorator: makes a reader class known as ``name``.

    Raises:
        ValueError: if the name is taken.
    """

    def add(reader: R) -> R:
        if name in _READERS:
            raise ValueError(f"reader {name!r} is registered twice")
        _READERS[name] = reader
        return reader

    return add


def list_readers() -> list[str]:
    """The names that `open_reader` takes, sorted."""
    return sorted(_READERS)


def open_reader(name: str, ignore_label: int = 255, **options: Any) -> Reader:
    """Opens a split of a data set.

    What needs no decoding is checked here: folders, split lists, missing or empty files.

    Args:
        name: one of `list_readers()`.
        ignore_label: the label that pixels without one get.
        options: the reader's own; see the class in tfseg/data/readers.

    Returns:
        The reader, a sequence of samples.

    Raises:
        ValueError: unknown name or option (the nearest is named), or an option of a wrong type.
        DataError: files or folders that are missing or do not belong together.
    """
    if name not in _READERS:
        raise ValueError(f"unknown reader {name!r}; {suggest(name, _READERS)}")
    reader: Any = _READERS[name]
    opened: Reader = reader(ignore_label=ignore_label, **_checked_options(name, reader, options))
    return opened


def _checked_options(name: str, reader: Any, options: dict[str, Any]) -> dict[str, Any]:
    """The options in the types that the constructor's hints ask for (a str becomes a Path)."""
    parameters = dict(inspect.signature(reader).parameters)
    parameters.pop("ignore_label")
    for option in options:
        if option not in parameters:
            raise ValueError(
                f"reader {name!r} has no option {option!r}; {suggest(option, parameters)}"
            )
    hints = get_type_hints(reader.__init__)
    fields: dict[str, Any] = {
        p: (hints[p], ... if parameter.default is parameter.empty else parameter.default)
        for p, parameter in parameters.items()
    }
    try:
        checked = create_model(name, **fields)(**options)
    except ValidationError as e:
        lines = [
            f"  {'.'.join(str(part) for part in error['loc'])}: {error['msg']}"
            + ("" if error["type"] == "missing" else f", got {error['input']!r}")
            for error in e.errors()
        ]
        raise ValueError(f"options of reader {name!r}:\n" + "\n".join(lines)) from None
    return {option: getattr(checked, option) for option in options}


class Pair(NamedTuple):
    """The files of one sample."""

    name: str
    image: Path
    mask: Path


class PairReader(BaseReader):
    """Samples that are an image file and a mask file each."""

    def __init__(
        self,
        pairs: Sequence[Pair],
        classes: Sequence[str],
        colors: np.ndarray | None,
        ignore_label: int,
        *,
        color_table: Mapping[tuple[int, int, int], int] | None = None,
        stored: Sequence[int] | None = None,
        void_labels: Sequence[int] = (),
        color: bool = False,
    ) -> None:
        """Keeps the files, which have been checked to exist.

        Args:
            pairs: the files.
            classes: the class names, by id.
            colors: uint8 (num_classes, 3), or None.
            ignore_label: the label of pixels that are not scored.
            color_table: class id by colour, for colour-coded masks.
            stored: what the files have for each class, ascending; None: its id.
            void_labels: stored labels that become the ignore label.
            color: a gray image gets three equal channels: for sets of colour photographs that
                have a few gray files among them.
        """
        super().__init__(classes, colors, ignore_label)
        self._pairs = list(pairs)
        self._color_table = color_table
        self._stored = None if stored is None else np.asarray(stored, np.int32)
        self._void_labels = list(void_labels)
        self._color = color

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        """Reads and checks one sample.

        Raises:
            IndexError: past the end.
            DataError: a file that cannot be read, a mask of another size than its image, or a
                label that is no class.
        """
        pair = self._pairs[index]
        image = read_image(pair.image)
        if self._color and image.shape[-1] == 1:
            image = np.repeat(image, 3, axis=-1)
        mask = self.read_stored(pair)
        if image.shape[:2] != mask.shape:
            raise DataError(
                f"{pair.image} has {image.shape[0]} rows x {image.shape[1]} columns, but its "
                f"mask {pair.mask} has {mask.shape[0]} x {mask.shape[1]}"
            )
        return Sample(name=pair.name, image=image, mask=self._class_ids(mask, str(pair.mask)))

    def image_file(self, index: int) -> Path | None:
        """The file of the image of sample ``index``."""
        return self._pairs[index].image

    def read_stored(self, pair: Pair) -> np.ndarray:
        """The labels int32 (H, W) as a sample's file has them."""
        return read_mask(pair.mask, self._color_table)

    def _class_ids(self, labels: np.ndarray, origin: str) -> np.ndarray:
        """Class ids and the ignore label for stored labels."""
        void = np.isin(labels, self._void_labels)
        if self._stored is not None:
            labels = class_ids(labels, self._stored, void, origin)
        labels[void] = self.ignore_label
        self.check_labels(labels, origin)
        return labels

    def keys(self) -> tuple[str, ...]:
        """The keys of every sample."""
        return ("name", "image", "mask")
