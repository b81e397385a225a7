"""CamVid as released with SegNet."""

from pathlib import Path

import numpy as np

from tfseg.data.readers.base import Pair, PairReader, register_reader
from tfseg.data.readers.files import check_pairs, complain, image_files

# Names and colours: github.com/alexgkendall/SegNet-Tutorial,
# Scripts/test_segmentation_camvid.py.
CLASSES = {
    "sky": (128, 128, 128),
    "building": (128, 0, 0),
    "pole": (192, 192, 128),
    "road": (128, 64, 128),
    "pavement": (60, 40, 222),
    "tree": (128, 128, 0),
    "sign": (192, 128, 128),
    "fence": (64, 64, 128),
    "car": (64, 0, 128),
    "pedestrian": (64, 64, 0),
    "bicyclist": (0, 128, 192),
}
UNLABELLED = 11


@register_reader("camvid")
class CamvidReader(PairReader):
    """The 11-class CamVid of SegNet-Tutorial: ROOT/SPLIT and ROOT/SPLITannot.

    Label 11, unlabelled, becomes the ignore label.
    """

    def __init__(self, *, root: Path, split: str = "train", ignore_label: int = 255) -> None:
        """Pairs the files and checks that none is missing.

        Args:
            root: the folder of the splits.
            split: "train", "val" or "test".
            ignore_label: the label of pixels that are not scored.

        Raises:
            DataError: missing folders or files, an empty split.
        """
        images = image_files(root / split)
        masks = image_files(root / f"{split}annot")
        absent = [file.name for stem, file in images.items() if stem not in masks]
        complain(absent, f"images of {root / split} have no mask", str(root / f"{split}annot"))
        pairs = [Pair(stem, file, masks[stem]) for stem, file in images.items()]
        check_pairs(pairs, str(root / split))
        colors = np.array(list(CLASSES.values()), np.uint8)
        super().__init__(pairs, tuple(CLASSES), colors, ignore_label, void_labels=[UNLABELLED])
