"""The ISBI 2012 challenge's training stack of electron microscopy slices."""

from pathlib import Path

import numpy as np

from tfseg.data.io import read_image, read_mask, read_stack
from tfseg.data.readers.base import BaseReader, Pair, register_reader
from tfseg.data.readers.files import check_pairs, complain, cut, image_files
from tfseg.data.sample import DataError, Sample

CLASSES = ("membrane", "inside")
STORED = (0, 255)  # what the files have for them
COLORS = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)

VOLUME = "train-volume.tif"
LABELS = "train-labels.tif"


@register_reader("isbi")
class IsbiReader(BaseReader):
    """Slices and masks from the challenge's TIFF stacks, or from folders of numbered images.

    The stacks are ROOT/train-volume.tif and ROOT/train-labels.tif; they are read on opening. The
    folders are ROOT/image and ROOT/label.
    """

    def __init__(
        self,
        *,
        root: Path,
        subset: tuple[int, int] | None = None,
        border_weights: bool = False,
        ignore_label: int = 255,
    ) -> None:
        """Reads the stacks, or finds the files and checks that none is missing.

        Args:
            root: the folder of the stacks or of the two folders.
            subset: [start, stop) of the slices, to hold some out; default: all.
            border_weights: samples also have "weights", U-Net's border weight map, whose objects
                are the connected (by pixel edges) regions of class "inside". A map takes much
                longer than reading does: cache the pipeline.
            ignore_label: the label of pixels that are not scored; none of these are.

        Raises:
            DataError: missing, damaged or unpaired files, a subset past the last slice.
        """
        super().__init__(CLASSES, COLORS, ignore_label)
        self._border_weights = border_weights
        self._slices: list[tuple[np.ndarray, np.ndarray]] = []
        self._pairs: list[Pair] = []
        stacks = (root / VOLUME).exists()
        names = self._open_stacks(root) if stacks else self._open_folders(root)
        self._indices = cut(list(range(len(names))), subset, str(root))
        self._names = names

    def _open_stacks(self, root: Path) -> list[str]:
        volume, labels = read_stack(root / VOLUME), read_stack(root / LABELS)
        if len(volume) != len(labels):
            raise DataError(f"{root}: {len(volume)} slices in {VOLUME}, {len(labels)} in {LABELS}")
        self._slices = [
            (image, label[..., 0].astype(np.int32))
            for image, label in zip(volume, labels, strict=True)
        ]
        return [f"{index:02d}" for index in range(len(volume))]

    def _open_folders(self, root: Path) -> list[str]:
        images, labels = image_files(root / "image"), image_files(root / "label")
        absent = [file.name for stem, file in images.items() if stem not in labels]
        complain(absent, f"slices of {root / 'image'} have no label", str(root / "label"))
        self._pairs = [Pair(stem, file, labels[stem]) for stem, file in images.items()]
        check_pairs(self._pairs, str(root))
        return list(images)

    def __len__(self) -> int:
        return len(self._indices)

    def __getitem__(self, index: int) -> Sample:
        """Reads and checks one slice.

        Raises:
            IndexError: past the end.
            DataError: a file that cannot be read, labels of another size than their slice, or
                other than 0 and 255.
        """
        place = self._indices[index]
        if self._pairs:
            pair = self._pairs[place]
            image, stored, origin = read_image(pair.image), read_mask(pair.mask), str(pair.mask)
        else:
            image, stored = self._slices[place]
            origin = f"{LABELS}, slice {place}"
        if image.shape[:2] != stored.shape:
            raise DataError(f"{origin} is {stored.shape}, its slice is {image.shape[:2]}")
        mask = (stored == STORED[1]).astype(np.int32)
        other = ~np.isin(stored, STORED)
        if other.any():
            raise DataError(
                f"{origin} has label {stored[other][0]} ({np.count_nonzero(other)} pixels have "
                f"neither {STORED[0]}, membrane, nor {STORED[1]}, inside)"
            )
        sample = Sample(name=self._names[place], image=image, mask=mask)
        if self._border_weights:
            # Here, because scipy takes longer to import than all the rest of the readers.
            from scipy import ndimage

            from tfseg.data.border_weights import unet_weight_map

            instances, _ = ndimage.label(mask)
            sample["weights"] = unet_weight_map(instances.astype(np.int32))
        return sample

    def keys(self) -> tuple[str, ...]:
        """The keys of every sample."""
        return ("name", "image", "mask", *(("weights",) if self._border_weights else ()))
