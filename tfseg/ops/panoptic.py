"""Segment ids as colours: cocodataset.org/#format-data, panopticapi/utils.py."""

import numpy as np

MAX_ID = 256**3 - 1


def ids_from_rgb(colors: np.ndarray) -> np.ndarray:
    """The segment ids R + 256 G + 65536 B of a panoptic PNG.

    Args:
        colors: uint8 (H, W, 3).

    Returns:
        int32 (H, W), 0 where no segment is.

    Raises:
        ValueError: for anything but a uint8 (H, W, 3).
    """
    if colors.dtype != np.uint8 or colors.ndim != 3 or colors.shape[-1] != 3:
        raise ValueError(f"colours must be uint8 (H, W, 3), not {colors.dtype} {colors.shape}")
    ids: np.ndarray = colors.astype(np.int32) @ np.array([1, 256, 256**2], np.int32)
    return ids


def rgb_from_ids(ids: np.ndarray) -> np.ndarray:
    """The colours of segment ids; `ids_from_rgb` reads them back.

    Args:
        ids: int (H, W).

    Returns:
        uint8 (H, W, 3).

    Raises:
        ValueError: for an id that has no colour.
    """
    if ids.size and (ids.min() < 0 or ids.max() > MAX_ID):
        raise ValueError(f"segment ids must be 0..{MAX_ID}, not {ids.min()}..{ids.max()}")
    return np.stack([ids % 256, ids // 256 % 256, ids // 256**2], axis=-1).astype(np.uint8)
