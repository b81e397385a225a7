"""DeconvNet's training data: windows of VOC images around objects and around proposals.

Noh, Hong, Han, Learning Deconvolution Network for Semantic Segmentation, ICCV 2015, sections 4.2
and 5.1; what lies outside the image is as in the authors' window_seg_data_layer.cpp.
"""

from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from tfseg.data.io import read_mask
from tfseg.data.readers.base import register_reader
from tfseg.data.readers.files import complain
from tfseg.data.readers.voc import VOID, VocReader
from tfseg.data.sample import DataError, Sample
from tfseg.data.windows import box_overlaps, context_windows, cut_window


class VocObject(NamedTuple):
    """An annotated object: its id, its class and its tight box, xyxy."""

    number: int
    label: int
    box: tuple[int, int, int, int]


@cache
def objects_of(mask: Path, instances: Path) -> tuple[VocObject, ...]:
    """The objects of an image, from its class and object masks.

    Raises:
        DataError: files that cannot be read, or differ in size.
    """
    labels, numbers = read_mask(mask), read_mask(instances)
    if labels.shape != numbers.shape:
        raise DataError(
            f"{mask} has {labels.shape[0]} rows x {labels.shape[1]} columns, but {instances} has "
            f"{numbers.shape[0]} x {numbers.shape[1]}"
        )
    found = []
    for number in sorted(set(np.unique(numbers).tolist()) - {0, VOID}):
        rows, columns = np.nonzero(numbers == number)
        classes = Counter(labels[rows, columns].tolist())
        for label in (0, VOID):
            del classes[label]
        if classes:
            low, high = (int(columns.min()), int(rows.min())), (columns.max() + 1, rows.max() + 1)
            box = (*low, int(high[0]), int(high[1]))
            found.append(VocObject(number, classes.most_common(1)[0][0], box))
    return tuple(found)


def _balanced(labels: np.ndarray) -> np.ndarray:
    """Indices of examples, those of rare classes repeated to the count of the most frequent."""
    groups = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    most = max(len(group) for group in groups)
    return np.concatenate([np.resize(group, most) for group in groups])


class _Windows(VocReader):
    """Samples that are windows of VOC images: black and ignored outside of them."""

    def __init__(
        self,
        root: Path,
        split: str,
        masks: str,
        objects: str,
        balance: bool,
        ignore_label: int,
    ) -> None:
        super().__init__(root=root, split=split, masks=masks, ignore_label=ignore_label)
        self._balance = balance
        self._instances = [root / objects / pair.mask.name for pair in self._pairs]
        missing = [file for file in self._instances if not file.is_file()]
        complain(missing, "object masks are missing", split)
        files = zip((pair.mask for pair in self._pairs), self._instances, strict=True)
        with ThreadPoolExecutor() as pool:
            self._found = list(pool.map(lambda pair: objects_of(*pair), files))

    def _keep(self, images: Sequence[int], windows: np.ndarray, labels: Sequence[int]) -> None:
        """Keeps the examples: an image's index, a window and the class that it counts for."""
        self._images, self._boxes = np.asarray(images), windows
        self._order = np.arange(len(images))
        if self._balance:
            self._order = _balanced(np.asarray(labels))

    def __len__(self) -> int:
        return len(self._order)

    def image_file(self, index: int) -> Path | None:
        """None: a window is part of its file."""
        del index
        return None

    def _cut(self, index: int) -> tuple[str, Sample, np.ndarray]:
        """A name for an example, its image's sample and its window."""
        example = int(self._order[index])
        whole = super().__getitem__(int(self._images[example]))
        return f"{whole['name']}:{index}", whole, self._boxes[example]

    def _sample(self, name: str, image: np.ndarray, mask: np.ndarray, window: np.ndarray) -> Sample:
        mask = cut_window(mask, window, self.ignore_label)
        return Sample(name=name, image=cut_window(image, window), mask=mask)


@register_reader("voc_objects")
class VocObjects(_Windows):
    """One sample an annotated object of VOC: DeconvNet's first stage.

    The window is a square around the object's tight box, 1.2 times its longer side. Only the
    object in its centre keeps its class; all other pixels are background, but the void border
    stays void.
    """

    def __init__(
        self,
        *,
        root: Path,
        split: str = "train",
        masks: str = "SegmentationClass",
        objects: str = "SegmentationObject",
        context: float = 1.2,
        balance: bool = True,
        ignore_label: int = 255,
    ) -> None:
        """Finds all objects, which reads all masks once.

        Args:
            root: the folder VOC2012 of the devkit.
            split: see `VocReader`.
            masks: the folder below ``root`` of class masks.
            objects: the folder below ``root`` of object masks of the same file names.
            context: the window's side over the longer side of the object's box.
            balance: repeat objects of rare classes until all classes have as many samples.
            ignore_label: the label of pixels that are not scored.

        Raises:
            DataError: missing folders or files, masks that do not belong together, no object.
        """
        super().__init__(root, split, masks, objects, balance, ignore_label)
        pairs = [(image, o) for image, found in enumerate(self._found) for o in found]
        if not pairs:
            raise DataError(f"{split}: the masks of {root / objects} have no objects")
        windows = context_windows(np.array([o.box for _, o in pairs]), context)
        self._numbers = [o.number for _, o in pairs]
        self._keep([image for image, _ in pairs], windows, [o.label for _, o in pairs])

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample; see `PairReader`."""
        name, whole, window = self._cut(index)
        example = int(self._order[index])
        instances = read_mask(self._instances[int(self._images[example])])
        outside = (instances != self._numbers[example]) & (whole["mask"] != self.ignore_label)
        mask = np.where(outside, 0, whole["mask"]).astype(np.int32)
        return self._sample(name, whole["image"], mask, window)


@register_reader("voc_proposals")
class VocProposals(_Windows):
    """One sample an object proposal that covers an object of VOC: DeconvNet's second stage.

    The window is a square around the proposal, 1.2 times its longer side, with all its labels.
    """

    def __init__(
        self,
        *,
        root: Path,
        proposals: Path,
        split: str = "train",
        masks: str = "SegmentationClass",
        objects: str = "SegmentationObject",
        overlap: float = 0.5,
        context: float = 1.2,
        balance: bool = True,
        ignore_label: int = 255,
    ) -> None:
        """Selects the proposals, which reads all masks once.

        Args:
            root: the folder VOC2012 of the devkit.
            proposals: an .npz file: image name -> float (N, 4) boxes xyxy in pixels.
            split: see `VocReader`.
            masks: the folder below ``root`` of class masks.
            objects: the folder below ``root`` of object masks of the same file names.
            overlap: the least intersection over union of a proposal with an object's tight box.
            context: the window's side over the longer side of the proposal.
            balance: repeat proposals of rare classes, those of the objects that they cover best,
                until all classes have as many samples.
            ignore_label: the label of pixels that are not scored.

        Raises:
            DataError: missing folders or files, masks that do not belong together, images
                without an entry in ``proposals``, no proposal that covers an object.
        """
        super().__init__(root, split, masks, objects, balance, ignore_label)
        images: list[int] = []
        windows: list[np.ndarray] = []
        labels: list[int] = []
        boxes_of = self._read(proposals)
        for image, (boxes, found) in enumerate(zip(boxes_of, self._found, strict=True)):
            if not len(boxes) or not found:
                continue
            overlaps = box_overlaps(boxes, np.array([o.box for o in found]))
            chosen = np.flatnonzero(overlaps.max(axis=1) >= overlap)
            windows.append(context_windows(boxes[chosen], context))
            labels += [found[best].label for best in overlaps[chosen].argmax(axis=1)]
            images += [image] * len(chosen)
        if not images:
            raise DataError(f"{proposals}: no proposal covers an object of {split}")
        self._keep(images, np.concatenate(windows), labels)

    def _read(self, path: Path) -> list[np.ndarray]:
        """Each image's boxes."""
        names = [pair.name for pair in self._pairs]
        try:
            with np.load(path, allow_pickle=False) as file:
                # Of an entry that is no array NumPy gives the bytes.
                arrays = {name: np.asarray(file[name]) for name in names if name in file}
        # NumPy and zipfile raise errors of many types on damaged files, and document few.
        except Exception as e:
            raise DataError(f"the proposals {path} are no .npz file: {e}") from e
        complain([n for n in names if n not in arrays], "images have no proposals", str(path))
        boxes = {n for n, a in arrays.items() if a.ndim == 2 and a.shape[1] == 4}
        wrong = [n for n, a in arrays.items() if n not in boxes or a.dtype.kind not in "iuf"]
        complain(wrong, "images have proposals that are no numbers (N, 4)", str(path))
        return [arrays[name] for name in names]

    def __getitem__(self, index: int) -> Sample:
        """Reads one sample; see `PairReader`."""
        name, whole, window = self._cut(index)
        return self._sample(name, whole["image"], whole["mask"], window)
