"""What the readers of weight files share: their error, their limits, bfloat16."""

import math
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

#: Upper limit of the bytes that a file may declare: twice the largest released checkpoint, with
#: its optimizer's state, stays below.
MAX_BYTES = 4 * 2**30


class WeightsError(ValueError):
    """Weights that cannot be used; the message names the file and what is wrong with it."""


def check_total(path: Path, sizes: Iterable[int]) -> None:
    """Refuses a file that unpacks to more than MAX_BYTES.

    Args:
        path: the file.
        sizes: the bytes that each of its arrays declares.

    Raises:
        WeightsError: if their sum is larger.
    """
    total = sum(sizes)
    if total > MAX_BYTES:
        raise WeightsError(f"{path} declares {total} bytes of arrays, the limit is {MAX_BYTES}")


def check_shape(path: Path, name: str, shape: tuple[int, ...], count: int) -> None:
    """Refuses an array whose shape and number of values disagree.

    Args:
        path: the file.
        name: the array's.
        shape: what the file declares.
        count: how many values the file holds for it.

    Raises:
        WeightsError: if they disagree, or an extent is negative or absurd.
    """
    # Extents of empty arrays are not bounded by the file's size.
    absurd = any(not 0 <= n <= MAX_BYTES for n in shape)
    if absurd or math.prod(shape) != count:
        raise WeightsError(
            f"{path}: {name} declares the shape {shape}, that is {math.prod(shape)} values, "
            f"but holds {count}"
        )


def from_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 values, given as the uint16 of their bits, as float32."""
    return (bits.astype("<u4") << 16).view("<f4")


@contextmanager
def open_zip(path: Path) -> Iterator[zipfile.ZipFile]:
    """A zip archive; whatever zipfile raises while it is open becomes a WeightsError.

    Raises:
        WeightsError: if the archive is cut off, corrupt, encrypted, no zip, or packed otherwise
            than stored or deflated.
    """
    try:
        with zipfile.ZipFile(path) as file:
            methods = {entry.compress_type for entry in file.infolist()}
            if not methods <= {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise WeightsError(f"{path} is packed with a method that NumPy and torch never use")
            # What zipfile asks of the file at once, and makes room for.
            if sum(entry.compress_size for entry in file.infolist()) > path.stat().st_size:
                raise WeightsError(f"{path}: its entries overlap or reach beyond its end")
            check_total(path, (entry.file_size for entry in file.infolist()))
            yield file
    except WeightsError:
        raise
    except (zipfile.BadZipFile, zlib.error, OSError, EOFError, RuntimeError, ValueError) as error:
        raise WeightsError(f"{path} is cut off or no zip archive: {error}") from error
