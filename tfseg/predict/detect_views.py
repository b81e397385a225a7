"""A detector that looks at images at several sizes, and at their mirror images."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfseg.predict.detect_graph import DetectGraph
from tfseg.predict.detect_inputs import DetectInputs
from tfseg.predict.frames import Frame
from tfseg.predict.graph import frozen
from tfseg.registry import Preprocessing


@dataclass(frozen=True)
class Sight:
    """What a detector has seen in one view of a batch of images.

    Attributes:
        frame: the view.
        features: the network's, by level.
        found: "boxes" (B, N, 4), "scores", "classes" and "valid" (B, N), before any suppresses
            another; see `tfseg.models.rcnn.selection.candidates`. Empty if it was not to search.
    """

    frame: Frame
    features: dict[str, tf.Tensor]
    found: dict[str, np.ndarray]


class DetectViews:
    """A detector with the views that it takes of an image.

    The first is the image as `DetectionPredictor` shows it to the network; the others are further
    sizes, and each size mirrored (Detectron, core/test.py, ``im_detect_bbox_aug``). The image is
    mirrored before it is resized. The network's parts run in `tf.function`s that are traced once.

    Attributes:
        model: the detector.
        graph: the first view as a `DetectGraph`.
    """

    def __init__(
        self,
        model: keras.Model,
        preprocessing: Preprocessing,
        *,
        short_side: int = 800,
        long_side: int = 1333,
        scales: Sequence[int] = (),
        scales_long_side: int | None = None,
        flip: bool = False,
        divisor: int | None = None,
        searches: bool = True,
        freeze: bool = False,
    ):
        """Builds the graph's functions; nothing is traced yet unless the weights are frozen.

        Args:
            model: a detector; see `tfseg.models.rcnn`.
            preprocessing: the model's.
            short_side: of the first view; see `DetectGraph`.
            long_side: see there.
            scales: short sides of further views.
            scales_long_side: their ``long_side``; None: that of the first.
            flip: also take each view of the mirrored image.
            divisor: see `DetectGraph`.
            searches: whether boxes are looked for, or only features made for given ones.
            freeze: makes the weights constants; see `tfseg.predict.WholeImage.freeze`.

        Raises:
            ValueError: sizes that cannot be (see `DetectGraph`), or one that is there twice.
        """
        if len({short_side, *scales}) != 1 + len(scales):
            raise ValueError(
                f"scales are further ones than the short side {short_side}, each once, not "
                f"{list(scales)}"
            )
        further = long_side if scales_long_side is None else scales_long_side
        sides = [(short_side, long_side), *((scale, further) for scale in scales)]
        graphs = [
            DetectGraph(model, preprocessing, short_side=short, long_side=long, divisor=divisor)
            for short, long in sides
        ]
        self.model, self.graph = model, graphs[0]
        inputs = [DetectInputs(graph) for graph in graphs]
        self._views = [
            (view, mirrored) for view in inputs for mirrored in (False, True)[: 1 + flip]
        ]
        images = tf.TensorSpec((None, None, None, preprocessing.num_channels), tf.float32)
        self._run: Any = tf.function(
            self._search if searches else self._look,
            input_signature=[images, tf.TensorSpec((None, 2), tf.int32)],
        )
        self._described: Any = None
        self._freeze = freeze
        if freeze:
            self._describe_function()
            self._run = frozen(self._run)

    def _search(self, images: tf.Tensor, sizes: tf.Tensor) -> tuple[Any, Any]:
        return self.model.search(images, tf.cast(sizes, tf.float32))

    def _look(self, images: tf.Tensor, sizes: tf.Tensor) -> tuple[Any, Any]:
        del sizes
        return self.model.features(images), {}

    @property
    def describes(self) -> bool:
        """Whether the model has more to say of a box than its class."""
        return self.model.mask_head is not None or self.model.keypoint_head is not None

    def first_frame(self, originals: np.ndarray) -> Frame:
        """The first view of images of sizes (B, 2)."""
        sizes = np.array([self.graph.resized_size(tf.constant(size)).numpy() for size in originals])
        return Frame(sizes, originals, self.graph.conventions.inclusive)

    def sights(self, images: Sequence[np.ndarray]) -> list[Sight]:
        """What the model sees in each view of images, which may differ in size.

        Args:
            images: uint8 (H, W, 3) or (H, W, 1).
        """
        originals = np.array([image.shape[:2] for image in images], np.int32)
        inclusive, sights = self.graph.conventions.inclusive, []
        for view, mirrored in self._views:
            batch, sizes = view([image[:, ::-1] if mirrored else image for image in images])
            features, found = self._run(batch, tf.constant(sizes))
            frame = Frame(sizes, originals, inclusive, mirrored)
            arrays = {name: value.numpy() for name, value in found.items()}
            sights.append(Sight(frame, features, arrays))
        return sights

    def describe(
        self, features: dict[str, tf.Tensor], boxes: np.ndarray, classes: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The mask probabilities and keypoint heat maps of boxes in a view.

        Args:
            features: see `Sight`.
            boxes: float32 (B, R, 4), in the view's pixels.
            classes: int32 (B, R).

        Returns:
            Of a model that has such "masks", float32 (B, R, M, M), and "heatmaps", float32
            (B, R, S, S, K).
        """
        found: dict[str, tf.Tensor] = self._describe_function()(
            features, tf.constant(boxes), classes
        )
        return found

    def _describe_function(self) -> Any:
        if self._described is None:
            features, _ = self._run.get_concrete_function().structured_outputs
            specs = {name: tf.TensorSpec(v.shape, v.dtype) for name, v in features.items()}
            boxes = tf.TensorSpec((None, None, 4), tf.float32)
            classes = tf.TensorSpec((None, None), tf.int32)
            self._described = tf.function(self._describe, input_signature=[specs, boxes, classes])
            if self._freeze:
                self._described = frozen(self._described)
        return self._described

    def _describe(
        self, features: dict[str, tf.Tensor], boxes: tf.Tensor, classes: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        described = {}
        if self.model.mask_head is not None:
            masks = self.model.mask_probabilities(features, boxes, classes)
            described["masks"] = tf.cast(masks, tf.float32)
        if self.model.keypoint_head is not None:
            heatmaps = self.model.keypoint_outputs(features, boxes)
            described["heatmaps"] = tf.cast(heatmaps, tf.float32)
        return described
