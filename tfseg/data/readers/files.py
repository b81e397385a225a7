"""Finding the files of a split, with errors that name all that is wrong at once."""

import errno
import json
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import TypeAdapter, ValidationError

from tfseg.data.readers.base import Pair
from tfseg.data.sample import DataError
from tfseg.registry import suggest

IMAGE_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")

T = TypeVar("T")


def folder(path: Path) -> Path:
    """The path, if it is a folder.

    Raises:
        DataError: if not; the nearest names of folders beside it are given.
    """
    if path.is_dir():
        return path
    beside = [p.name for p in path.parent.iterdir() if p.is_dir()] if path.parent.is_dir() else []
    hint = f"; {suggest(path.name, beside)}" if beside else ""
    raise DataError(f"the folder {path} {'is a file' if path.exists() else 'is missing'}{hint}")


def is_file(path: Path) -> bool:
    """Whether there is such a file; there is none of a name that is too long for one."""
    try:
        return path.is_file()
    except OSError as e:
        if e.errno != errno.ENAMETOOLONG:
            raise
        return False


def image_files(path: Path) -> dict[str, Path]:
    """The image files of a folder by stem, in natural order (9 before 10).

    Raises:
        DataError: a missing folder, or one with two files of one stem.
    """
    # Dot files: macOS leaves "._0001.png" beside 0001.png.
    files = [
        p
        for p in folder(path).iterdir()
        if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith(".")
    ]
    found: dict[str, Path] = {}
    for file in sorted(files, key=_natural):
        if file.stem in found:
            raise DataError(
                f"{path} has two images of one name: {found[file.stem].name} and {file.name}"
            )
        found[file.stem] = file
    return found


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name)
    # Odd places hold the digits. A number sorts by value, the text beside it by itself.
    return [(int(p), "") if i % 2 else (0, p) for i, p in enumerate(parts)], path.name


def list_lines(path: Path) -> list[str]:
    """The entries of a split list: its lines, without blank ones.

    Raises:
        DataError: a missing, unreadable or empty list, or an entry that is there twice.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except FileNotFoundError:
        near = [p.stem for p in path.parent.glob("*.txt")] if path.parent.is_dir() else []
        hint = f"; {suggest(path.stem, near)}" if near else ""
        raise DataError(f"the split list {path} is missing{hint}") from None
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"the split list {path} cannot be read: {e}") from e
    lines = [line for line in lines if line]
    if not lines:
        raise DataError(f"the split list {path} is empty")
    twice, count = Counter(lines).most_common(1)[0]
    if count > 1:
        raise DataError(f"the split list {path} has {twice!r} twice")
    return lines


def read_json(path: Path, adapter: TypeAdapter[T], what: str) -> T:
    """Reads a JSON file of a known structure; numbers are not taken from strings.

    Args:
        path: the file.
        adapter: of the structure's type.
        what: the file should be, as in "JSON of COCO's format".

    Raises:
        DataError: a file that is missing, unreadable or of another structure; the place is named.
    """
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"the label file {path} is missing") from None
    except OSError as e:
        raise DataError(f"the label file {path} cannot be read: {e}") from e
    try:
        return adapter.validate_json(text, strict=True)
    except ValidationError as e:
        first = e.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "the file"
        number = _id_at(text, first["loc"][:2])
        raise DataError(f"{path} is no {what}: {place}: {first['msg']}{number}") from None


def _id_at(text: bytes, place: tuple[int | str, ...]) -> str:
    """The id of the entry of a list at a place that an error names, for its message."""
    try:
        entry: Any = json.loads(text)
        for part in place:
            entry = entry[part]
        return f" (the entry of id {entry['id']})"
    except (ValueError, LookupError, TypeError, RecursionError):
        return ""


def check_pairs(pairs: Sequence[Pair], origin: str) -> None:
    """Checks that a split has samples and that their files are there and not empty.

    Raises:
        DataError: naming ``origin`` and the first of the files that are missing, or empty.
    """
    if not pairs:
        raise DataError(f"{origin} has no samples: the split is empty")
    for what, files in (
        ("image", [pair.image for pair in pairs]),
        ("mask", [pair.mask for pair in pairs]),
    ):
        sizes = [(file, file.stat().st_size if is_file(file) else None) for file in files]
        complain([file for file, size in sizes if size is None], f"{what}s are missing", origin)
        complain([file for file, size in sizes if size == 0], f"{what}s are 0-byte files", origin)


def complain(wrong: Sequence[object], what: str, origin: str) -> None:
    """Raises a DataError with the count of things that are wrong and the first few, if any are."""
    if wrong:
        first = ", ".join(str(w) for w in wrong[:5]) + (", ..." if len(wrong) > 5 else "")
        raise DataError(f"{origin}: {len(wrong)} {what}: {first}")


def cut(items: list[T], subset: tuple[int, int] | None, origin: str) -> list[T]:
    """The items ``subset[0] <= index < subset[1]``; None: all.

    Raises:
        DataError: if that is empty or reaches past the items.
    """
    if subset is None:
        return items
    start, stop = subset
    if not 0 <= start < stop <= len(items):
        raise DataError(
            f"{origin}: subset [{start}, {stop}) must be a non-empty part of its "
            f"{len(items)} samples, [0, {len(items)})"
        )
    return items[start:stop]


def listed(text: str) -> tuple[str, ...]:
    """The names in a text that has commas between them and any breaks of lines."""
    return tuple(" ".join(name.split()) for name in text.split(","))
