"""Detection in images of any size: resized, padded, run through the network, mapped back."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfseg.predict.detect_graph import DetectGraph, semantic_labels
from tfseg.predict.detect_inputs import DetectInputs
from tfseg.predict.detections import Detections, Style
from tfseg.predict.graph import frozen
from tfseg.predict.predictor import check_image
from tfseg.predict.views import batches
from tfseg.registry import Preprocessing


class Detector(ABC):
    """What finds objects in images, one at a time or in batches.

    Attributes:
        batch_size: images that `predict` looks at together.
    """

    def __init__(self, style: Style, batch_size: int, score_threshold: float | None):
        """Keeps what all detectors share.

        Args:
            style: whose rule brings masks into the image; see `Detections`.
            batch_size: images run at once by `predict`; the smaller ones of a batch are padded.
            score_threshold: only detections with a higher score are given; None: all.

        Raises:
            ValueError: for a batch size below 1.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size!r}")
        self.batch_size = batch_size
        self._style: Style = style
        self._score_threshold = score_threshold

    def __call__(self, image: np.ndarray, key: int | str | None = None) -> Detections:
        """The objects in one image.

        Args:
            image: uint8 (H, W, 3) RGB or (H, W, 1) gray.
            key: see `predict`.

        Raises:
            ValueError: if the image has another dtype or shape.
        """
        return self.predict([image], None if key is None else [key])[0]

    def predict(
        self, images: Sequence[np.ndarray], keys: Sequence[int | str] | None = None
    ) -> list[Detections]:
        """The objects in each of some images, which may differ in size.

        Images of similar shape are put into one batch, as padding costs time.

        Args:
            images: each as `__call__` takes it.
            keys: of each image its id, by which boxes are found that come from a file.

        Raises:
            ValueError: if an image has another dtype or shape, or keys are missing that are
                needed; nothing is computed then.
        """
        for image in images:
            check_image(image)
        by_shape = sorted(range(len(images)), key=lambda i: images[i].shape[1] / len(images[i]))
        found: dict[int, Detections] = {}
        for chosen in batches(by_shape, self.batch_size):
            answers = self._batch(
                [images[index] for index in chosen],
                None if keys is None else [keys[index] for index in chosen],
            )
            found.update(zip(chosen, answers, strict=True))
        return [found[index] for index in range(len(images))]

    @abstractmethod
    def _batch(
        self, images: list[np.ndarray], keys: list[int | str] | None
    ) -> list[Detections]: ...

    def _detections(
        self, answer: dict[str, np.ndarray], size: np.ndarray, semantic: np.ndarray | None = None
    ) -> Detections:
        """What `tfseg.predict.detect_graph.in_original_pixels` answers for one image."""
        count = int(answer["num_detections"])
        arrays = {name: v[:count] for name, v in answer.items() if name != "num_detections"}
        height, width = size.tolist()
        found = Detections((height, width), **arrays, semantic=semantic, style=self._style)
        return found if self._score_threshold is None else found.above(self._score_threshold)


class DetectionPredictor(Detector):
    """Objects in images.

    An image is resized (the short side to 800 pixels, unless the long one would exceed 1333:
    Lin et al., Feature Pyramid Networks; He et al., Mask R-CNN, 3.1), preprocessed, padded on the
    lower right with zeros, and the boxes found are mapped back to its own pixels. The network
    runs in a `tf.function` that is traced once for all batch and image sizes. It reads the
    model's variables, so a model in training can be predicted with at any time.

    Attributes:
        graph: the model as a `DetectGraph`.
    """

    def __init__(
        self,
        model: keras.Model,
        preprocessing: Preprocessing,
        *,
        short_side: int = 800,
        long_side: int = 1333,
        divisor: int | None = None,
        score_threshold: float | None = None,
        batch_size: int = 1,
        freeze: bool = False,
        buckets: Sequence[tuple[int, int]] | None = None,
    ):
        """Builds the graph's functions; nothing is traced yet unless the weights are frozen.

        Args:
            model: a detector; see `tfseg.models.rcnn`.
            preprocessing: the model's.
            short_side: see `DetectGraph`.
            long_side: see `DetectGraph`.
            divisor: see `DetectGraph`.
            score_threshold: only detections with a higher score are given; None: all that the
                model returns, which has a threshold of its own.
            batch_size: images run at once by `predict`; the smaller ones of a batch are padded.
            freeze: makes the weights constants; see `tfseg.predict.WholeImage.freeze`.
            buckets: see `DetectInputs`; a GPU meets few sizes with them.

        Raises:
            ValueError: sizes that cannot be; see `DetectGraph`.
        """
        style: Any = model.conventions.style
        super().__init__(style, batch_size, score_threshold)
        self.graph = DetectGraph(
            model, preprocessing, short_side=short_side, long_side=long_side, divisor=divisor
        )
        self._inputs = DetectInputs(self.graph, buckets)
        shape = (None, None, None, preprocessing.num_channels)
        pairs = tf.TensorSpec((None, 2), tf.int32)
        self._detect: Any = tf.function(
            self.graph.detect, input_signature=[tf.TensorSpec(shape, tf.float32), pairs, pairs]
        )
        logits, pair = tf.TensorSpec((None, None, None), tf.float32), tf.TensorSpec((2,), tf.int32)
        self._semantic = tf.function(semantic_labels, input_signature=[logits, pair, pair])
        if freeze:
            self._detect = frozen(self._detect)

    def _batch(self, images: list[np.ndarray], keys: list[int | str] | None) -> list[Detections]:
        del keys
        batch, sizes = self._inputs(images)
        originals = np.array([image.shape[:2] for image in images], np.int32)
        answer = self._detect(batch, tf.constant(sizes), tf.constant(originals))
        semantic = answer.pop("semantic", None)
        arrays = {name: value.numpy() for name, value in answer.items()}
        return [
            self._detections(
                {name: value[index] for name, value in arrays.items()},
                originals[index],
                None
                if semantic is None
                else self._semantic(semantic[index], sizes[index], originals[index]).numpy(),
            )
            for index in range(len(images))
        ]
