"""U-Net's pixel weights, which teach the borders between touching cells."""

import numpy as np
from scipy import ndimage


def unet_weight_map(instances: np.ndarray, w0: float = 10.0, sigma: float = 5.0) -> np.ndarray:
    """The weight map of equation 2 of the U-Net paper.

    ``w(x) = w_c(x) + w0 exp(-(d1(x) + d2(x))^2 / (2 sigma^2))``, where d1 and d2 are the distances
    to the nearest and the second nearest cell. The border term is that of background pixels;
    with fewer than two cells there is none. The paper leaves w_c, which balances the classes, open:
    here it is the inverse frequency of foreground and background, scaled to a mean of 1.

    Args:
        instances: int (H, W), 0 background, one id a cell.
        w0: weight of a border of no width.
        sigma: in pixels.

    Returns:
        float32 (H, W).
    """
    foreground = instances > 0
    share = foreground.mean()
    weights = np.ones(instances.shape, np.float32)
    if 0 < share < 1:
        weights = np.where(foreground, 0.5 / share, 0.5 / (1 - share)).astype(np.float32)
    ids = np.unique(instances[foreground])
    if len(ids) < 2:
        return weights
    nearest = np.full(instances.shape, np.inf, np.float32)
    second = nearest.copy()
    # Beyond this distance the border term is below 1e-6 of w0: cells are looked at nearby only.
    reach = int(np.ceil(6 * sigma))
    # By consecutive numbers, since the memory for the boxes grows with the largest.
    cells = np.where(foreground, np.searchsorted(ids, instances) + 1, 0)
    for index, box in enumerate(ndimage.find_objects(cells), start=1):
        near = tuple(slice(max(s.start - reach, 0), s.stop + reach) for s in box)
        distance = ndimage.distance_transform_edt(cells[near] != index).astype(np.float32)
        further = np.maximum(nearest[near], distance)
        nearest[near] = np.minimum(nearest[near], distance)
        second[near] = np.minimum(second[near], further)
    border = w0 * np.exp(-((nearest + second) ** 2) / (2 * sigma**2))
    return np.where(foreground, weights, weights + border).astype(np.float32)


def separated(instances: np.ndarray) -> np.ndarray:
    """The cells without the pixels at which two of them touch, by a side or a corner.

    Section 3 of the U-Net paper introduces such borders "using morphological operations", which
    it does not name: here each of two cells gives up one pixel. What is left of them is not
    connected, by corners either.

    Args:
        instances: int32 (H, W), 0 background, one id a cell.

    Returns:
        int32 (H, W), 0 on background and borders.
    """
    cells = instances > 0
    largest = ndimage.maximum_filter(instances, 3)
    smallest = ndimage.minimum_filter(np.where(cells, instances, np.iinfo(np.int32).max), 3)
    return np.where(cells & (smallest == largest), instances, 0).astype(np.int32)
