"""Image sequences of the Cell Tracking Challenge (celltrackingchallenge.net)."""

import re
from pathlib import Path
from typing import Literal

import numpy as np

from tfseg.data.io import read_image, read_mask
from tfseg.data.readers.base import BaseReader, Pair, register_reader
from tfseg.data.readers.files import check_pairs, complain, cut, folder, image_files
from tfseg.data.sample import DataError, Sample

CLASSES = ("background", "cell")
COLORS = np.array([[0, 0, 0], [255, 255, 255]], np.uint8)


@register_reader("cell_tracking")
class CellTrackingReader(BaseReader):
    """The annotated frames of two-dimensional sequences.

    ROOT/01/t000.tif is a frame, ROOT/01_GT/SEG/man_seg000.tif holds its cells' ids; numbers have
    any count of digits. Frames without such a file are left out. Where a file annotates some of
    the frame's cells only, the others are background, and SEG does not count them.
    """

    def __init__(
        self,
        *,
        root: Path,
        sequences: list[str] | None = None,
        annotations: Literal["GT", "ST"] = "GT",
        subset: tuple[int, int] | None = None,
        border_weights: bool = False,
        ignore_label: int = 255,
    ) -> None:
        """Finds the files and checks that none is missing.

        Args:
            root: the data set's folder, as PhC-C2DH-U373.
            sequences: names of folders, as ["01"]; default: all that have annotations.
            annotations: "GT", the gold truth, or "ST", the silver truth.
            subset: [start, stop) of the annotated frames, to hold some out; default: all.
            border_weights: samples also have "weights", U-Net's border weight map. It takes much
                longer than reading does: cache the pipeline.
            ignore_label: the label of pixels that are not scored; none of these are.

        Raises:
            DataError: missing or empty folders and files, annotations of no frame, of frames
                that are absent or of three-dimensional data, a subset past the last frame.
        """
        super().__init__(CLASSES, COLORS, ignore_label)
        self._border_weights = border_weights
        suffix = f"_{annotations}"
        if sequences is None:
            found = folder(root).glob(f"*{suffix}/SEG")
            sequences = sorted(p.parent.name.removesuffix(suffix) for p in found)
        pairs = [p for name in sequences for p in _annotated(root, name, f"{name}{suffix}")]
        check_pairs(pairs, f"{root} ({', '.join(sequences) or f'no folder *{suffix}/SEG'})")
        self._pairs = cut(pairs, subset, str(root))

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        """Reads and checks one frame.

        The mask has class 1 on cells, but for a border where two touch (`separated`);
        "instances" has the annotated cells whole.

        Raises:
            IndexError: past the end.
            DataError: a file that cannot be read, or annotations of another size than the frame.
        """
        # Here, because scipy takes longer to import than all the rest of the readers.
        from tfseg.data.border_weights import separated, unet_weight_map

        pair = self._pairs[index]
        image, instances = read_image(pair.image), read_mask(pair.mask)
        if image.shape[:2] != instances.shape:
            raise DataError(f"{pair.mask} is {instances.shape}, its frame is {image.shape[:2]}")
        apart = separated(instances)
        mask = (apart > 0).astype(np.int32)
        sample = Sample(name=pair.name, image=image, mask=mask, instances=instances)
        if self._border_weights:
            sample["weights"] = unet_weight_map(apart)
        return sample

    def image_file(self, index: int) -> Path | None:
        """The file of the image of sample ``index``."""
        return self._pairs[index].image

    def keys(self) -> tuple[str, ...]:
        """The keys of every sample."""
        weights = ("weights",) if self._border_weights else ()
        return ("name", "image", "mask", "instances", *weights)


def _annotated(root: Path, sequence: str, annotations: str) -> list[Pair]:
    """The annotated frames of a sequence, in order."""
    masks = root / annotations / "SEG"
    frames, labels = _numbered(root / sequence, "t"), _numbered(masks, "man_seg")
    absent = [file.name for number, file in labels.items() if number not in frames]
    complain(absent, "annotations have no frame", str(root / sequence))
    return [Pair(f"{sequence}_{n:03d}", frames[n], labels[n]) for n in sorted(labels)]


def _numbered(path: Path, prefix: str) -> dict[int, Path]:
    """The TIFF files PREFIX000.tif of a folder by number."""
    files = {stem: f for stem, f in image_files(path).items() if stem.startswith(prefix)}
    matches = {stem: re.fullmatch(prefix + r"(\d+)", stem) for stem in files}
    odd = [files[stem].name for stem, match in matches.items() if match is None]
    # man_seg_012_003.tif annotates slice 3 of a volume.
    complain(odd, f"files are not named {prefix}NUMBER.tif, as those of 2D data are", str(path))
    return {int(match[1]): files[stem] for stem, match in matches.items() if match}
