"""A folder of images and a folder of masks."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from tfseg.data.readers.base import Pair, PairReader, register_reader
from tfseg.data.readers.files import check_pairs, complain, cut, image_files, list_lines
from tfseg.registry import suggest

Color = tuple[int, int, int]


@register_reader("folder")
class FolderReader(PairReader):
    """Images and masks that are paired by their names without suffix."""

    def __init__(
        self,
        *,
        images: Path,
        masks: Path,
        classes: list[str] | None = None,
        num_classes: int | None = None,
        color_table: dict[str, Color] | None = None,
        void_labels: list[int | str] | None = None,
        mask_suffix: str = "",
        split_list: Path | None = None,
        subset: tuple[int, int] | None = None,
        ignore_label: int = 255,
    ) -> None:
        """Pairs the files and checks that none is missing.

        Args:
            images: folder of images.
            masks: folder of masks: class ids in 8- or 16-bit gray or palette images, or colours.
            classes: the class names, by id. Default: those of ``color_table`` in its order, or
                the numbers below ``num_classes``.
            num_classes: the count of classes, where names are not given.
            color_table: [red, green, blue] of each class and each void label, by name; the masks
                are then colour-coded.
            void_labels: what becomes the ignore label: stored ids, or names in ``color_table``.
            mask_suffix: what a mask's name has after the image's: "_L" for 0001_L.png.
            split_list: text file with the names (without suffix) to take, one a line; default: all.
            subset: [start, stop) of these in natural order or that of the list.
            ignore_label: the label of pixels that are not scored.

        Raises:
            ValueError: classes not told, or told in ways that do not agree.
            DataError: missing folders or files, an empty split.
        """
        voids = void_labels or []
        names = _class_names(classes, num_classes, color_table, voids)
        lookup = None
        if color_table is not None:
            lookup = {
                _color(color, name): ignore_label if name in voids else names.index(name)
                for name, color in color_table.items()
            }
            if len(lookup) < len(color_table):
                raise ValueError("color_table gives one colour to two names")
        colors = np.array([color_table[n] for n in names], np.uint8) if color_table else None
        pairs = _pairs(images, masks, mask_suffix, split_list)
        super().__init__(
            cut(pairs, subset, str(images)),
            names,
            colors,
            ignore_label,
            color_table=lookup,
            void_labels=[v for v in voids if isinstance(v, int)],
        )


def _pairs(images: Path, masks: Path, mask_suffix: str, split_list: Path | None) -> list[Pair]:
    found = image_files(images)
    stems = list(found)
    if split_list is not None:
        stems = list_lines(split_list)
        absent = [stem for stem in stems if stem not in found]
        complain(absent, f"names of {split_list} have no image", str(images))
    mask_files = image_files(masks)
    absent = [found[stem].name for stem in stems if stem + mask_suffix not in mask_files]
    complain(absent, f"images of {images} have no mask NAME{mask_suffix}.png", str(masks))
    pairs = [Pair(stem, found[stem], mask_files[stem + mask_suffix]) for stem in stems]
    check_pairs(pairs, str(images))
    return pairs


def _class_names(
    classes: list[str] | None,
    num_classes: int | None,
    color_table: Mapping[str, Color] | None,
    voids: list[int | str],
) -> list[str]:
    names = classes
    if names is None and color_table is not None:
        names = [name for name in color_table if name not in voids]
    if names is None and num_classes is not None:
        names = [str(i) for i in range(num_classes)]
    if names is None:
        raise ValueError("give classes (names), num_classes, or a color_table")
    if num_classes not in (None, len(names)):
        raise ValueError(f"num_classes is {num_classes}, but there are {len(names)} classes")
    for void in voids:
        if isinstance(void, str) and void not in (color_table or {}):
            raise ValueError(
                f"void label {void!r} is not in color_table; {suggest(void, color_table or {})}"
            )
    if color_table is not None:
        for name in names:
            if name not in color_table:
                raise ValueError(f"class {name!r} has no colour; {suggest(name, color_table)}")
        for name in color_table:
            if name not in names and name not in voids:
                raise ValueError(
                    f"color_table has {name!r}, which is neither in classes nor in void_labels"
                )
    return names


def _color(color: Color, name: str) -> Color:
    red, green, blue = color
    if not all(0 <= c <= 255 for c in color):
        raise ValueError(f"the colour of {name!r} must be in 0..255, is {list(color)}")
    return red, green, blue
