"""The one schema of a labelled image."""

from collections.abc import Collection
from typing import Any, NotRequired, Protocol, TypedDict

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
        crowd: bool (N,), True where a box is of a region with many objects, to be ignored.
        keypoints: float32 (N, K, 3): x, y in continuous pixels, visibility (0 not labelled,
            1 hidden, 2 visible).
        edges: float32 (N, E, 4), the objects' outlines as line segments x1, y1, x2, y2 in
            continuous pixels, filled by the even-odd rule; an object of fewer than E has segments
            of no length behind them, one without an outline only such. See `tfseg.data.outlines`.
        area: float32 (N,) pixels of the whole object as annotated, with what transforms cut off.
        ids: int64 (N,) annotation ids, unique within the split.
        proposals: float32 (P, 4) xyxy, boxes that objects may be in, the best first.
    """

    name: str
    image: np.ndarray
    mask: NotRequired[np.ndarray]
    weights: NotRequired[np.ndarray]
    instances: NotRequired[np.ndarray]
    boxes: NotRequired[np.ndarray]
    labels: NotRequired[np.ndarray]
    crowd: NotRequired[np.ndarray]
    keypoints: NotRequired[np.ndarray]
    edges: NotRequired[np.ndarray]
    area: NotRequired[np.ndarray]
    ids: NotRequired[np.ndarray]
    proposals: NotRequired[np.ndarray]


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


class ObjectReader(Reader, Protocol):
    """A split of labelled objects, which COCO's metrics can score.

    The classes are those of the objects alone: label 0 is the first one, not a background.

    Attributes:
        category_ids: of each class, its id in `truth` and in results files.
        keypoint_names: of the objects' keypoints; empty without keypoints.
        skeleton: pairs of keypoints (from 0) between which lines are drawn.
        flip_pairs: pairs of keypoints that change places in a left-right mirror.
    """

    category_ids: tuple[int, ...]
    keypoint_names: tuple[str, ...]
    skeleton: tuple[tuple[int, int], ...]
    flip_pairs: tuple[tuple[int, int], ...]

    @property
    def semantic_classes(self) -> tuple[str, ...]:
        """The names of the labels in "mask"; empty without masks."""
        ...

    def image_id(self, index: int) -> int:
        """The id that `truth` gives the image of sample ``index``."""
        ...

    def known_images(self) -> Collection[int]:
        """The ids of all images that the files list, those outside the split included."""
        ...

    def void_mask(self, index: int, size: tuple[int, int]) -> np.ndarray:
        """Where the objects of sample ``index`` do not tell the class: crowds, void borders.

        Args:
            index: of the sample.
            size: its image's (height, width).

        Returns:
            bool (H, W). Objects may lie upon it.
        """
        ...

    def truth(self) -> dict[str, Any]:
        """The split's ground truth as COCO's JSON: images, annotations and categories."""
        ...


class DataError(ValueError):
    """Data that cannot be used; the message names the file and what would be right."""
