"""PASCAL VOC's segmentation set, and sets in its layout of folders."""

from pathlib import Path

import numpy as np

from tfseg.data.readers.base import Pair, PairReader, register_reader
from tfseg.data.readers.files import check_pairs, complain, folder, list_lines

CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)
VOID = 255


def voc_palette(count: int) -> np.ndarray:
    """The first colours of the VOC palette, as VOCdevkit's VOClabelcolormap.m makes it.

    The bits of an id go in turn to red, green and blue, the lowest to the highest bit.

    Args:
        count: how many, at most 256.

    Returns:
        uint8 (count, 3).
    """
    ids = np.arange(count)
    colors = np.zeros((count, 3), np.uint8)
    for bit in range(8):
        for channel in range(3):
            colors[:, channel] |= ((ids >> channel & 1) << (7 - bit)).astype(np.uint8)
        ids = ids >> 3
    return colors


def voc_pairs(root: Path, split: str, masks: str) -> list[Pair]:
    """The files of a split; see `VocReader`.

    Raises:
        DataError: missing folders or files, an empty split.
    """
    folder(root)
    file = Path(split)
    if file.suffix != ".txt":
        file = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    pairs = []
    malformed = []
    for line in list_lines(file):
        match line.split():
            case [stem]:
                image = root / "JPEGImages" / f"{stem}.jpg"
                pairs.append(Pair(stem, image, root / masks / f"{stem}.png"))
            case [image_path, mask_path]:
                image, mask = (root / p.lstrip("/") for p in (image_path, mask_path))
                pairs.append(Pair(image.stem, image, mask))
            case _:
                malformed.append(repr(line))
    complain(malformed, "lines are neither NAME nor IMAGE MASK", str(file))
    check_pairs(pairs, str(file))
    return pairs


@register_reader("voc")
class VocReader(PairReader):
    """VOC 2012's 21 classes: ROOT/JPEGImages, ROOT/SegmentationClass and ROOT/ImageSets.

    Label 255, the void border, becomes the ignore label.
    """

    def __init__(
        self,
        *,
        root: Path,
        split: str = "train",
        masks: str = "SegmentationClass",
        ignore_label: int = 255,
    ) -> None:
        """Pairs the files and checks that none is missing.

        Args:
            root: the folder VOC2012 of the devkit.
            split: a list of ROOT/ImageSets/Segmentation, as in "train", or the path of a list
                file (one that ends in ".txt"), such as one of the images that SBD labels. Its
                lines are image names, or "IMAGE MASK" paths below ``root``, as in the lists of
                DeepLab and PSPNet.
            masks: the folder below ``root`` of masks: "SegmentationClassAug" for converted SBD.
            ignore_label: the label of pixels that are not scored.

        Raises:
            DataError: missing folders or files, an empty split.
        """
        pairs = voc_pairs(root, split, masks)
        colors = voc_palette(len(CLASSES))
        super().__init__(pairs, CLASSES, colors, ignore_label, void_labels=[VOID])
