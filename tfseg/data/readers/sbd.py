"""The Semantic Boundaries Dataset, alone and joined with PASCAL VOC."""

from pathlib import Path
from typing import Literal

import numpy as np

from tfseg.data.readers.base import Pair, PairReader, register_reader
from tfseg.data.readers.files import check_pairs, folder, list_lines
from tfseg.data.readers.mat import MatReader
from tfseg.data.readers.voc import CLASSES, VOID, voc_palette
from tfseg.data.sample import DataError

#: Bytes of a .mat file, ample for two compressed maps of a photograph. Deflate expands by at most
#: 1032, so that no file takes more memory than the largest image that is decoded.
MAX_MAT_BYTES = 1 << 19
#: images of VOC 2012's list val.txt; VOC 2011's has 1111
VOC2012_VAL = 1449
_MATS = MatReader()


class _SbdPairs(PairReader):
    """Samples of VOC's classes whose masks are .png files of VOC's or .mat files of SBD's."""

    def __init__(self, pairs: list[Pair], ignore_label: int, origin: str) -> None:
        check_pairs(pairs, origin)
        super().__init__(
            pairs, CLASSES, voc_palette(len(CLASSES)), ignore_label, void_labels=[VOID]
        )

    def read_stored(self, pair: Pair) -> np.ndarray:
        """The labels int32 (H, W) of one sample."""
        return read_sbd_mask(pair.mask) if pair.mask.suffix == ".mat" else super().read_stored(pair)


@register_reader("sbd")
class SbdReader(_SbdPairs):
    """SBD's 21 classes: ROOT/img/*.jpg and ROOT/cls/*.mat.

    Hariharan et al., Semantic Contours from Inverse Detectors. VOC's classes; the labels have no
    void border.
    """

    def __init__(self, *, root: Path, split: str = "train", ignore_label: int = 255) -> None:
        """Pairs the files and checks that none is missing.

        Args:
            root: the folder benchmark_RELEASE/dataset.
            split: a list ROOT/SPLIT.txt: "train" (8,498 images, which FCN is trained on) or "val"
                (2,857). Neither is VOC's of that name: SBD's train has images of VOC's val.
            ignore_label: the label of pixels that are not scored; none of these are.

        Raises:
            DataError: missing folders or files, an empty split.
        """
        file = folder(root) / f"{split}.txt"
        super().__init__([_sbd(root, name) for name in list_lines(file)], ignore_label, str(file))


@register_reader("voc_sbd")
class VocSbdReader(_SbdPairs):
    """VOC and SBD joined, split so that nothing is in training and in validation.

    Where both label an image the labels are VOC's, which are finer and have a void border.
    """

    def __init__(
        self,
        *,
        voc: Path,
        sbd: Path,
        split: Literal["train_aug", "seg11valid"] = "train_aug",
        ignore_label: int = 255,
    ) -> None:
        """Joins the lists, pairs the files and checks that none is missing.

        Args:
            voc: a year's folder of VOC's devkit.
            sbd: the folder benchmark_RELEASE/dataset.
            split: "train_aug": VOC's train, SBD's train and SBD's val without VOC's val; for VOC
                2012 the 10,582 images of DeepLab, PSPNet and others. "seg11valid": VOC's val
                without SBD's train; for VOC 2011 the 736 images of FCN's validation.
            ignore_label: the label of pixels that are not scored.

        Raises:
            DataError: missing folders or files, an empty split, seg11valid of VOC 2012.
        """
        lists = folder(voc) / "ImageSets" / "Segmentation"
        val = list_lines(lists / "val.txt")
        train = list_lines(folder(sbd) / "train.txt")
        if split == "seg11valid":
            if len(val) == VOC2012_VAL:
                raise DataError(f"{voc} is VOC 2012; seg11valid is a part of VOC 2011's val")
            pairs = [_voc(voc, name) for name in sorted(set(val) - set(train))]
        else:
            own = set(list_lines(lists / "train.txt"))
            names = (own | set(train) | set(list_lines(sbd / "val.txt"))) - set(val)
            pairs = [_voc(voc, n) if n in own else _sbd(sbd, n) for n in sorted(names)]
        super().__init__(pairs, ignore_label, f"{split} of {voc} and {sbd}")


def _voc(root: Path, name: str) -> Pair:
    image = root / "JPEGImages" / f"{name}.jpg"
    return Pair(name, image, root / "SegmentationClass" / f"{name}.png")


def _sbd(root: Path, name: str) -> Pair:
    return Pair(name, root / "img" / f"{name}.jpg", root / "cls" / f"{name}.mat")


def read_sbd_mask(path: Path) -> np.ndarray:
    """Reads the class labels of a .mat file of SBD: ``GTcls.Segmentation``.

    MATLAB's objects and functions are read as data; nothing in the file is run.

    Args:
        path: the file, of MATLAB 7.2 or before.

    Returns:
        int32 (H, W) class ids.

    Raises:
        DataError: a file that is too large, damaged, of MATLAB 7.3, or without such labels.
    """
    size = path.stat().st_size
    if size > MAX_MAT_BYTES:
        raise DataError(f"{path} has {size:,} bytes, the limit is {MAX_MAT_BYTES:,}")
    return _MATS.read(path).astype(np.int32)
