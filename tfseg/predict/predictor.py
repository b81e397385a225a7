"""Prediction of one image at a time: whole, in sliding windows or in overlapping tiles."""

import math
from collections.abc import Callable, Sequence
from itertools import product
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf

from tfseg.predict import views
from tfseg.predict.graph import WholeImage
from tfseg.predict.tiles import tilings
from tfseg.registry import Preprocessing, suggest

MODES = ("whole", "sliding", "overlap_tile")
#: called with the windows done and the windows that the image has in all
Progress = Callable[[int, int], None]


class ImagePredictor(Protocol):
    """What predicts images: a `Predictor`, or what is called like one."""

    network: WholeImage
    num_classes: int

    def __call__(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The class probabilities of one image; see `Predictor.__call__`."""
        ...


class Predictor:
    """Class probabilities of images of any size, with test-time augmentation.

    Modes:
        whole: the image in one piece.
        sliding: overlapping windows, probabilities averaged where they overlap (Zhao et al.,
            Pyramid Scene Parsing Network; the released evaluation/{eval_sub,scale_process,
            caffe_process}.m). Windows larger than the image are filled with the mean: zeros
            after preprocessing (the release rounds the mean to 8 bits first).
        overlap_tile: for networks of valid convolutions: tiles whose inputs extend beyond their
            outputs, mirrored at the image's border (Ronneberger et al., U-Net, figure 2; the
            release's mycaffe_tiled_forward5_cpu.m). The result is what the network gives for
            the whole mirrored image; the release places its tiles regardless of the pooling
            grid, so that its seams show. Probabilities of a lower resolution are put together
            and then interpolated (Yu and Koltun's dilation networks; their predict.py), whose
            context module does not see beyond its tile.

    Augmentation: scales and orientations are predicted separately, mapped back and their
    probabilities averaged. In sliding windows ``flip`` instead *adds* the logits of the window
    and of its mirror image before the softmax, which sharpens it: so does caffe_process.m.

    Attributes:
        network: the model as a `WholeImage`.
        num_classes: channels of the result.
    """

    def __init__(
        self,
        model: keras.Model,
        preprocessing: Preprocessing,
        *,
        mode: str = "whole",
        scales: Sequence[float] = (1.0,),
        flip: bool = False,
        rotations: bool = False,
        base_size: int | None = None,
        crop_size: tuple[int, int] | None = None,
        stride_rate: float = 2 / 3,
        tile_size: tuple[int, int] | None = None,
        batch_size: int = 1,
        freeze: bool = False,
    ):
        """Checks that the model and the mode fit.

        Args:
            model: a semantic model; see `WholeImage`.
            preprocessing: the model's.
            mode: one of MODES.
            scales: factors of the image's size, whose predictions are averaged.
            flip: also the mirrored image.
            rotations: the eight orientations: four rotations, each mirrored too.
            base_size: None: scales are of the image's own size; else its long side becomes
                ``base_size * scale + 1``, as PSPNet's (512 for VOC and ADE20K, 2048 Cityscapes).
            crop_size: (height, width) of the sliding windows.
            stride_rate: their step as a fraction of the crop, rounded up to pixels.
            tile_size: (height, width) of what an overlap tile's output covers, in pixels.
            batch_size: windows or tiles predicted at once.
            freeze: see `WholeImage.freeze`; worth it for many images on a CPU.

        Raises:
            ValueError: an unknown mode, a size that the mode needs or does not use, or a model
                that the mode does not fit.
        """
        _check_mode(mode, crop_size=crop_size, tile_size=tile_size)
        if not scales or min(scales) <= 0:
            raise ValueError(f"scales must be one or more positive factors, not {scales!r}")
        if not 0 < stride_rate <= 1:
            raise ValueError(f"stride_rate must be above 0 and at most 1, not {stride_rate!r}")
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size!r}")
        if flip and rotations:
            raise ValueError("rotations hold the mirrored images: switch flip off")
        self.network = WholeImage(model, preprocessing)
        self.num_classes = self.network.num_classes
        self._mode, self._scales, self._base_size = mode, tuple(scales), base_size
        self._batch_size = batch_size
        self._add_logits = flip and mode == "sliding"
        self._orientations: tuple[views.Orientation, ...] = (views.UPRIGHT,)
        if rotations:
            self._orientations = views.EIGHT
        elif flip and not self._add_logits:
            self._orientations = (views.UPRIGHT, views.MIRRORED)
        if tile_size is not None:
            self._tilings = tilings(self.network, tile_size)
            return
        if crop_size is not None:
            self._crop = (crop_size[0], crop_size[1])
            self._step = tuple(math.ceil(side * stride_rate) for side in crop_size)
        self._check_same_size(None if crop_size is None else self._crop)

    def _check_same_size(self, crop_size: tuple[int, int] | None) -> None:
        name, fixed = self.network.model.name, self.network.input_size
        if fixed != (None, None) and fixed != crop_size:
            raise ValueError(
                f"model {name!r} takes images of {fixed} alone: use mode 'sliding' with crop_size "
                f"{fixed}"
            )
        size = crop_size or (512, 512)
        try:
            given = str(self.network.output_size(*size))
        except ValueError:  # Keras': smaller than the border that the network loses
            given = "nothing"
        if given != str(size):
            raise ValueError(
                f"model {name!r} gives {given} for an input of {size}, "
                f"so mode {self._mode!r} cannot use it: use mode 'overlap_tile'"
            )

    def __call__(self, image: np.ndarray, progress: Progress | None = None) -> np.ndarray:
        """The class probabilities of one image.

        Args:
            image: uint8 (H, W, 3) RGB or (H, W, 1) gray.
            progress: called after each batch of windows, tiles or whole images.

        Returns:
            float32 (H, W, num_classes), summing to 1 over the classes.

        Raises:
            ValueError: if the image has another dtype or shape.
        """
        check_image(image)
        height, width = image.shape[:2]
        sizes = [views.scaled_size(height, width, s, self._base_size) for s in self._scales]
        report = _Count(progress, sum(self._count(size) for size in sizes))
        total = self._at_size(image, sizes[0], report)
        for size in sizes[1:]:
            total += self._at_size(image, size, report)
        if len(sizes) > 1:
            total /= len(sizes)
        return total

    def _at_size(self, image: np.ndarray, size: tuple[int, int], report: "_Count") -> np.ndarray:
        """The prediction on the image resized to ``size``, at the image's own size again."""
        scaled = self._all_orientations(views.resize_bilinear(image, size), report)
        return views.resize_bilinear(scaled, image.shape[:2])

    def _all_orientations(self, image: np.ndarray, report: "_Count") -> np.ndarray:
        if self._orientations == (views.UPRIGHT,):
            return self._predict(image, report)
        total = np.zeros((*image.shape[:2], self.num_classes), np.float32)
        for orientation in self._orientations:
            total += orientation.undo(self._predict(orientation.apply(image), report))
        total /= len(self._orientations)
        return total

    def _predict(self, image: np.ndarray, report: "_Count") -> np.ndarray:
        if self._mode == "sliding":
            return self._sliding(image, report)
        if self._mode == "overlap_tile":
            return self._overlap_tile(image, report)
        result: np.ndarray = self.network.probabilities(image[None]).numpy()[0]
        report(1)
        return result

    def _sliding(self, image: np.ndarray, report: "_Count") -> np.ndarray:
        height, width = image.shape[:2]
        rows, columns = self._window_starts(height, width)
        high, wide = min(height, self._crop[0]), min(width, self._crop[1])
        total = np.zeros((height, width, self.num_classes), np.float32)
        for corners in views.batches(product(rows, columns), self._batch_size):
            windows = np.stack([image[y : y + high, x : x + wide] for y, x in corners])
            for (y, x), window in zip(corners, self._windows(windows), strict=True):
                total[y : y + high, x : x + wide] += window
            report(len(corners))
        total /= views.coverage(rows, high, height)[:, None, None]
        total /= views.coverage(columns, wide, width)[None, :, None]
        return total

    def _windows(self, windows: np.ndarray) -> np.ndarray:
        """Probabilities of windows uint8 (B, h, w, C) at most as large as the crop."""
        high, wide = windows.shape[1:3]
        below, right = self._crop[0] - high, self._crop[1] - wide
        prepared = tf.pad(self.network.prepare(windows), ((0, 0), (0, below), (0, right), (0, 0)))
        logits = self.network.forward(prepared)
        if self._add_logits:
            logits += self.network.forward(prepared[:, :, ::-1])[:, :, ::-1]
        probabilities: np.ndarray = tf.nn.softmax(logits[:, :high, :wide]).numpy()
        return probabilities

    def _overlap_tile(self, image: np.ndarray, report: "_Count") -> np.ndarray:
        height, width = image.shape[:2]
        down, across = self._tilings
        cells = (down.cells(height), across.cells(width))
        result = np.empty((*cells, self.num_classes), np.float32)
        corners = product(down.starts(height), across.starts(width))
        for batch in views.batches(corners, self._batch_size):
            # Each tile gathers its own mirrored surroundings: no enlarged copy of the image.
            inputs = [
                image[np.ix_(down.input(y, height), across.input(x, width))] for y, x in batch
            ]
            outputs = self.network.probabilities(np.stack(inputs)).numpy()
            for (y, x), output in zip(batch, outputs, strict=True):
                place = result[y // down.stride :, x // across.stride :]
                place = place[: output.shape[0], : output.shape[1]]
                place[:] = output[: place.shape[0], : place.shape[1]]
            report(len(batch))
        if down.stride > 1:
            result = views.interpolate_cells(result, down.stride, (height, width))
        return result

    def _window_starts(self, height: int, width: int) -> tuple[list[int], list[int]]:
        return (
            views.window_starts(height, self._crop[0], self._step[0]),
            views.window_starts(width, self._crop[1], self._step[1]),
        )

    def _count(self, size: tuple[int, int]) -> int:
        """The windows, tiles or whole images predicted for an image of this size."""

        def upright(height: int, width: int) -> int:
            if self._mode == "whole":
                return 1
            if self._mode == "sliding":
                rows, columns = self._window_starts(height, width)
            else:
                down, across = self._tilings
                rows, columns = down.starts(height), across.starts(width)
            return len(rows) * len(columns)

        return sum(upright(*(size[::-1] if o.quarters % 2 else size)) for o in self._orientations)


class _Count:
    """Adds up the windows done and passes them on."""

    def __init__(self, progress: Progress | None, total: int):
        self.progress, self.total, self.done = progress, total, 0

    def __call__(self, windows: int) -> None:
        self.done += windows
        if self.progress is not None:
            self.progress(self.done, self.total)


def check_image(image: np.ndarray) -> None:
    """Raises ValueError unless an image is uint8 (H, W, 3) or (H, W, 1) and has pixels."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] not in (1, 3):
        raise ValueError(
            "an image to predict is uint8 (H, W, 3) or (H, W, 1), this one "
            f"{image.dtype} {image.shape}"
        )
    if not image.size:
        raise ValueError(f"an image to predict has pixels, this one is {image.shape}")


def _check_mode(mode: str, **sizes: tuple[int, int] | None) -> None:
    """Raises unless the mode is known and has exactly the size that it uses."""
    if mode not in MODES:
        raise ValueError(f"unknown mode {mode!r}; {suggest(mode, MODES)}")
    needed = {"sliding": "crop_size", "overlap_tile": "tile_size"}.get(mode)
    for name, size in sizes.items():
        if (size is not None) != (name == needed):
            verb = "needs" if name == needed else "takes no"
            raise ValueError(f"mode {mode!r} {verb} {name} (height, width)")
        if size is not None and (len(size) != 2 or min(size) < 1):
            raise ValueError(f"{name} must be (height, width), positive, not {size!r}")
