"""The procedural data set."""

import numpy as np

from tfseg.data import shapes
from tfseg.data.readers.base import BaseReader, register_reader
from tfseg.data.sample import Sample

COLORS = np.array(
    [[0, 0, 0], [220, 60, 50], [70, 170, 60], [60, 110, 220], [230, 180, 40]], np.uint8
)


@register_reader("shapes")
class ShapesReader(BaseReader):
    """Pictures of circles, diamonds, triangles and crosses; see `tfseg.data.shapes.draw`.

    A sample is a pure function of seed, index and size, and is drawn when it is asked for.
    """

    def __init__(
        self,
        *,
        count: int = 1000,
        size: int | tuple[int, int] = 96,
        seed: int = 0,
        ignore_label: int = 255,
    ) -> None:
        """Nothing is drawn yet.

        Args:
            count: how many samples.
            size: (height, width) of the pictures in pixels, or the edge of square ones.
            seed: another seed gives other pictures: use one for each split.
            ignore_label: the label of pixels that are not scored; none of these are.

        Raises:
            ValueError: no samples, a negative seed, or a size below 32 pixels.
        """
        names = ("background", *(shape.name for shape in shapes.SHAPES))
        super().__init__(names, COLORS, ignore_label)
        self._height, self._width = (size, size) if isinstance(size, int) else size
        if min(self._height, self._width) < shapes.MIN_EDGE:
            raise ValueError(f"size must be at least {shapes.MIN_EDGE} pixels, is {size}")
        if count < 1:
            raise ValueError(f"count must be positive, is {count}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, is {seed}")
        self._count, self._seed = count, seed

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> Sample:
        """Draws one sample.

        Raises:
            IndexError: past the end.
        """
        index = range(self._count)[index]
        rng = np.random.default_rng((self._seed, index))
        drawn = shapes.draw(rng, self._height, self._width)
        return Sample(
            name=f"shapes_{self._seed}_{index:06d}",
            image=drawn["image"],
            mask=drawn["mask"],
            instances=drawn["instances"],
            boxes=drawn["boxes"],
            labels=drawn["labels"],
            keypoints=drawn["keypoints"],
        )

    def keys(self) -> tuple[str, ...]:
        """The keys of every sample."""
        return ("name", "image", "mask", "instances", "boxes", "labels", "keypoints")
