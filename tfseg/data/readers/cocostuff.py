"""COCO-Stuff: the pixel maps of stuff and things, and the stuff challenge of 2017."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from pydantic import Field, PositiveInt, TypeAdapter

from tfseg.data.io import MAX_PIXELS, read_mask
from tfseg.data.readers.base import Pair, PairReader, class_ids, register_reader, twice
from tfseg.data.readers.cocostuff_labels import (
    CHALLENGE,
    CHALLENGE_COLORS,
    CHALLENGE_START,
    REMOVED,
    STUFF,
    THINGS,
)
from tfseg.data.readers.files import check_pairs, complain, folder, image_files, read_json
from tfseg.data.rle import decode_rle
from tfseg.data.sample import DataError

VOID = 255


# What is read of the challenge's JSON; as slots, because there are a million regions.
@dataclass(frozen=True, slots=True)
class _Image:
    id: int
    file_name: str
    height: PositiveInt
    width: PositiveInt


@dataclass(frozen=True, slots=True)
class _Category:
    id: int
    name: str


@dataclass(frozen=True, slots=True)
class _Region:
    id: int
    image_id: int
    category_id: Annotated[int, Field(ge=0, lt=2**31)]
    segmentation: dict[str, Any]
    iscrowd: int = 0


@dataclass(frozen=True, slots=True)
class _Challenge:
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Region]


@register_reader("cocostuff")
class CocoStuffReader(PairReader):
    """COCO-Stuff (Caesar et al., COCO-Stuff: Thing and Stuff Classes in Context).

    labels.txt numbers 0 "unlabeled", 1..91 things and 92..182 stuff. The pixel maps store one
    less, 0..181, and 255 for unlabeled, which becomes the ignore label. Formats:

    - "stuffthingmaps": the 172 labels as 171 classes, in the order of labels.txt, and unlabeled;
      the 11 things that COCO never labelled are no classes.
    - "stuffthingmaps182": the stored ids are the class ids, with those 11 among them. So are the
      outputs of the DeepLab networks released with COCO-Stuff.
    - "challenge2017": the 91 stuff classes and "other", all things in one, from the challenge's
      JSON of run-length encoded regions. Pixels outside all regions get the ignore label, and
      crowd regions are left out, as in its evaluation (cocostuffapi, cocostuffeval.py).
    """

    def __init__(
        self,
        *,
        root: Path,
        images: Path = Path("images/train2017"),
        labels: Path = Path("annotations/train2017"),
        format: Literal["stuffthingmaps", "stuffthingmaps182", "challenge2017"] = "stuffthingmaps",
        ignore_label: int = 255,
    ) -> None:
        """Pairs the files and checks that none is missing; the challenge's JSON is read.

        Args:
            root: the folder that the next two are relative to.
            images: folder of the images.
            labels: folder of pixel maps (unpacked stuffthingmaps_trainval2017.zip), or the file
                stuff_train2017.json.
            format: which of the three the labels are.
            ignore_label: the label of pixels that are not scored.

        Raises:
            DataError: missing folders or files, an empty split, a file of another format.
        """
        self._ids: dict[Pair, int] = {}
        self._sizes: dict[int, tuple[int, int]] = {}
        self._regions: dict[int, list[_Region]] = {}
        stored: Sequence[int] | None = None
        if format == "challenge2017":
            pairs = self._challenge(root / images, root / labels)
            classes, colors = CHALLENGE, CHALLENGE_COLORS
            stored = range(CHALLENGE_START, CHALLENGE_START + len(CHALLENGE))
            void = 0
        else:
            pairs = _maps(root / images, root / labels)
            classes, colors, void = (*THINGS, *STUFF), None, VOID
            if format == "stuffthingmaps":
                classes, stored = _labelled_classes()
        super().__init__(
            pairs, classes, colors, ignore_label, stored=stored, void_labels=[void], color=True
        )

    def _challenge(self, images: Path, file: Path) -> list[Pair]:
        """The images that the challenge's JSON lists; keeps their sizes and regions."""
        folder(images)
        tree = _read_challenge(file)
        names = {image.id: Path(image.file_name).name for image in tree.images}
        complain(twice(names.values()), "images are listed twice", str(file))
        self._sizes = {image.id: (image.height, image.width) for image in tree.images}
        self._regions = {image: [] for image in names}
        for region in tree.annotations:
            if region.image_id not in names:
                raise DataError(f"{file}: region {region.id} is of an image that is not listed")
            if not region.iscrowd:
                self._regions[region.image_id].append(region)
        pairs = [Pair(Path(name).stem, images / name, file) for name in names.values()]
        self._ids = dict(zip(pairs, names, strict=True))
        check_pairs(pairs, str(file))
        return pairs

    def read_stored(self, pair: Pair) -> np.ndarray:
        """The labels int32 (H, W) of one sample as its file has them."""
        if pair not in self._ids:
            return super().read_stored(pair)
        image = self._ids[pair]
        mask = np.zeros(self._sizes[image], np.int32)
        for region in self._regions[image]:
            origin = f"{pair.mask}: region {region.id} of image {image}"
            try:
                inside = decode_rle(region.segmentation, mask.shape)
            except ValueError as e:
                raise DataError(f"{origin}: {e}") from e
            if mask[inside].any():
                raise DataError(f"{origin} covers pixels of another region")
            mask[inside] = region.category_id
        return mask


def _labelled_classes() -> tuple[tuple[str, ...], list[int]]:
    """The 171 classes that COCO has labelled, and what pixel maps have for each."""
    names = (*THINGS, *STUFF)
    stored = [i for i, name in enumerate(names) if name not in REMOVED]
    return tuple(names[i] for i in stored), stored


class PixelMaps:
    """COCO-Stuff's pixel maps beside COCO's objects, as far as there are any.

    The classes are the 171 of `CocoStuffReader`'s "stuffthingmaps".

    Attributes:
        classes: their names.
    """

    def __init__(self, masks: Path, stems: Mapping[int, str], ignore_label: int) -> None:
        """Finds the maps.

        Args:
            masks: folder of the pixel maps, PNGs.
            stems: of each image's id, the name that its map has, without suffix.
            ignore_label: the label of unlabelled pixels, and of all pixels of images without map.

        Raises:
            ValueError: an ignore label that is a class.
            DataError: a missing folder, or one with a map of none of the images.
        """
        self.classes, stored = _labelled_classes()
        self._stored, self._ignore_label = np.array(stored, np.int32), ignore_label
        if 0 <= ignore_label < len(self.classes):
            raise ValueError(
                f"ignore_label {ignore_label} is a semantic class, one of {len(self.classes)}"
            )
        files = image_files(masks)
        self._files = {number: files[stem] for number, stem in stems.items() if stem in files}
        if not self._files:
            first = next(iter(stems.values()))
            raise DataError(
                f"{masks} has a pixel map of none of the {len(stems)} images: there is no "
                f"{first}.png, nor any other"
            )

    def read(self, image: int, size: tuple[int, int]) -> np.ndarray:
        """The semantic mask int32 (H, W) of an image of this id and (height, width).

        Raises:
            DataError: a damaged file, one of another size, or a label that is no class.
        """
        if image not in self._files:
            return np.full(size, self._ignore_label, np.int32)
        path = self._files[image]
        labels = read_mask(path)
        if labels.shape != size:
            raise DataError(f"{path} is {labels.shape}, its image {size}")
        void = labels == VOID
        ids = class_ids(labels, self._stored, void, str(path))
        ids[void] = self._ignore_label
        return ids


def _maps(images: Path, labels: Path) -> list[Pair]:
    found, masks = image_files(images), image_files(labels)
    absent = [file.name for stem, file in found.items() if stem not in masks]
    complain(absent, f"images of {images} have no pixel map", str(labels))
    pairs = [Pair(stem, file, masks[stem]) for stem, file in found.items()]
    check_pairs(pairs, str(images))
    return pairs


def _read_challenge(file: Path) -> _Challenge:
    tree = read_json(file, TypeAdapter(_Challenge), "JSON of the challenge")
    names = {category.id: category.name for category in tree.categories}
    if names != dict(enumerate(CHALLENGE, CHALLENGE_START)):
        raise DataError(
            f"{file}: its categories are not the challenge's {len(CHALLENGE)}, "
            f"{CHALLENGE_START} 'banner' to {CHALLENGE_START + len(STUFF)} 'other'"
        )
    for image in tree.images:
        if image.height * image.width > MAX_PIXELS:
            raise DataError(
                f"{file}: image {image.id} has {image.height} x {image.width} pixels, the limit "
                f"is {MAX_PIXELS:,}"
            )
    return tree
