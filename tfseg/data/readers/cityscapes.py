"""Cityscapes' finely labelled images."""

from pathlib import Path

import numpy as np

from tfseg.data.readers.base import Pair, PairReader, register_reader
from tfseg.data.readers.files import check_pairs, complain, folder, image_files

#: label id and colour of the classes that are evaluated, by their trainId
#: (github.com/mcordts/cityscapesScripts, cityscapesscripts/helpers/labels.py)
CLASSES = {
    "road": (7, (128, 64, 128)),
    "sidewalk": (8, (244, 35, 232)),
    "building": (11, (70, 70, 70)),
    "wall": (12, (102, 102, 156)),
    "fence": (13, (190, 153, 153)),
    "pole": (17, (153, 153, 153)),
    "traffic light": (19, (250, 170, 30)),
    "traffic sign": (20, (220, 220, 0)),
    "vegetation": (21, (107, 142, 35)),
    "terrain": (22, (152, 251, 152)),
    "sky": (23, (70, 130, 180)),
    "person": (24, (220, 20, 60)),
    "rider": (25, (255, 0, 0)),
    "car": (26, (0, 0, 142)),
    "truck": (27, (0, 0, 70)),
    "bus": (28, (0, 60, 100)),
    "train": (31, (0, 80, 100)),
    "motorcycle": (32, (0, 0, 230)),
    "bicycle": (33, (119, 11, 32)),
}
STORED = tuple(label for label, _ in CLASSES.values())
#: the other ones of the 34: unlabeled, ego vehicle, ..., caravan, trailer
VOID = tuple(label for label in range(34) if label not in STORED)
IMAGE_END, LABEL_END = "_leftImg8bit", "_gtFine_labelIds"


@register_reader("cityscapes")
class CityscapesReader(PairReader):
    """The 19 evaluated classes: ROOT/leftImg8bit/SPLIT/CITY and ROOT/gtFine/SPLIT/CITY.

    Of the files *_gtFine_labelIds.png the 34 label ids become the 19 trainIds; those that have
    none become the ignore label.
    """

    def __init__(self, *, root: Path, split: str = "train", ignore_label: int = 255) -> None:
        """Pairs the files and checks that none is missing.

        Args:
            root: the folder of leftImg8bit and gtFine.
            split: "train" or "val"; the labels of "test" are not public.
            ignore_label: the label of pixels that are not scored.

        Raises:
            DataError: missing folders or files, an empty split.
        """
        images = folder(root / "leftImg8bit" / split)
        labels = folder(root / "gtFine" / split)
        pairs = []
        for city in sorted(path for path in images.iterdir() if path.is_dir()):
            found = image_files(city)
            odd = [file.name for stem, file in found.items() if not stem.endswith(IMAGE_END)]
            complain(odd, f"images are not called *{IMAGE_END}.png", str(city))
            for stem, image in found.items():
                name = stem.removesuffix(IMAGE_END)
                pairs.append(Pair(name, image, labels / city.name / f"{name}{LABEL_END}.png"))
        check_pairs(pairs, str(images))
        colors = np.array([color for _, color in CLASSES.values()], np.uint8)
        super().__init__(
            pairs, tuple(CLASSES), colors, ignore_label, stored=STORED, void_labels=VOID
        )
