"""The pixels that boxes are in, and boxes brought from one frame into another."""

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Frame:
    """A view of each of a batch of images: resized, and maybe mirrored before.

    Attributes:
        sizes: (B, 2), height and width of the views.
        originals: (B, 2), those of the images.
        inclusive: boxes belong to a network that has learned of boxes that end with their last
            pixel (Detectron), of which the coordinates are scaled.
        mirrored: left and right have changed places.
    """

    sizes: np.ndarray
    originals: np.ndarray
    inclusive: bool = False
    mirrored: bool = False

    @property
    def extent(self) -> np.ndarray:
        """Width and height of the views, float32 (B, 1, 2)."""
        return self.sizes[:, None, ::-1].astype(np.float32)

    @property
    def scale(self) -> np.ndarray:
        """Pixels of the views to one of the image, across and down, float32 (B, 1, 2)."""
        return self.extent / self.originals[:, None, ::-1].astype(np.float32)


def moved(boxes: np.ndarray, source: Frame, target: Frame) -> np.ndarray:
    """Boxes of one frame in the pixels of another one of the same images, cut to it.

    This is Detectron's way through the image's own pixels (core/test.py), in one step, so that
    boxes that stay where they are keep every bit.

    Args:
        boxes: float32 (B, N, 4), in the pixels of the source.
        source: where they are.
        target: where they go.

    Returns:
        float32 (B, N, 4).
    """
    extent, scale = target.extent, target.scale
    factor = extent / source.extent
    last, new_last = np.float32(source.inclusive), np.float32(target.inclusive)
    low, high = boxes[..., :2] * factor, boxes[..., 2:] * factor
    if source.mirrored == target.mirrored:
        high = high + (new_last + (last - new_last) * scale - last * factor)
    else:
        left = extent - high + last * (factor - scale)
        right = extent - low + new_last * (1 - scale)
        high = high + (new_last + (last - new_last) * scale - last * factor)
        low = np.stack([left[..., 0], low[..., 1]], axis=-1)
        high = np.stack([right[..., 0], high[..., 1]], axis=-1)
    return np.concatenate([low, high], axis=-1).clip(0, np.tile(extent, 2))
