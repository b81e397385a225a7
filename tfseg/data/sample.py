"""The one schema of a labelled image."""

from typing import NotRequired, Protocol, TypedDict

import numpy as np


class Sample(TypedDict):
    """A labelled image, as readers give it and transforms change it.

    Attributes:
        name: what error messages and output files call it; unique within its split.
        image: uint8 (H, W, 3) RGB or (H, W, 1) gray.
        mask: int32 (H, W) class ids; the ignore label where nothing is scored.
        weights: float32 (H, W) weight of each pixel in the loss.
        instances: int32 (H, W) instance ids, 0 none.
        boxes: float32 (N, 4) xyxy in absolute continuous pixels.
        labels: int32 (N,) class ids of the boxes.
        keypoints: float32 (N, K, 3): x, y, visibility (0 not labelled, 1 hidden, 2 visible).
    """

    name: str
    image: np.ndarray
    mask: NotRequired[np.ndarray]
    weights: NotRequired[np.ndarray]
    instances: NotRequired[np.ndarray]
    boxes: NotRequired[np.ndarray]
    labels: NotRequired[np.ndarray]
    keypoints: NotRequired[np.ndarray]


class Reader(Protocol):
    """A split of a data set: a sequence of samples with class names.

    Attributes:
        classes: the class names, by id.
        colors: (num_classes, 3) uint8 colours to draw them in, or None.
        ignore_label: the label of pixels that are not scored.
    """

    classes: tuple[str, ...]
    colors: np.ndarray | None
    ignore_label: int

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Sample: ...

    def keys(self) -> tuple[str, ...]:
        """The keys that every sample has, ``name`` included."""
        ...


class DataError(ValueError):
    """Data that cannot be used; the message names the file and what would be right."""
