"""From foreground to objects, as U-Net's release makes cells of its labels."""

import numpy as np
from scipy import ndimage


def instance_labels(foreground: np.ndarray, *, min_area: int = 0) -> np.ndarray:
    """The 8-connected components of the foreground.

    The release's trackCells2.m calls ``bwconncomp``, which joins pixels by their corners too,
    and drops what is small: PhC-U373's cells have more than 500 pixels there.

    Args:
        foreground: bool (H, W).
        min_area: components of so many pixels or fewer are dropped.

    Returns:
        int32 (H, W): 1, 2, ... on objects, 0 elsewhere.

    Raises:
        ValueError: for anything but a boolean (H, W).
    """
    if foreground.ndim != 2 or foreground.dtype != bool:
        raise ValueError(
            f"foreground must be bool (H, W), not {foreground.dtype} {foreground.shape}"
        )
    labels, _ = ndimage.label(foreground, np.ones((3, 3)))
    kept = np.bincount(labels.ravel()) > min_area
    kept[0] = False
    numbers = np.where(kept, np.cumsum(kept), 0).astype(np.int32)
    objects: np.ndarray = numbers[labels]
    return objects
