"""Detection in images of any size: resized, padded, run through the network, mapped back."""

from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfseg.predict.detect_graph import DetectGraph, semantic_labels
from tfseg.predict.detections import Detections
from tfseg.predict.graph import frozen
from tfseg.predict.predictor import check_image
from tfseg.predict.views import batches
from tfseg.registry import Preprocessing


class DetectionPredictor:
    """Objects in images.

    An image is resized (the short side to 800 pixels, unless the long one would exceed 1333:
    Lin et al., Feature Pyramid Networks; He et al., Mask R-CNN, 3.1), preprocessed, padded on the
    lower right with zeros, and the boxes found are mapped back to its own pixels. The network
    runs in a `tf.function` that is traced once for all batch and image sizes. It reads the
    model's variables, so a model in training can be predicted with at any time.

    Attributes:
        graph: the model as a `DetectGraph`.
        batch_size: images that `predict` runs at once.
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
            buckets: (height, width) of padded inputs: an input gets the smallest that holds it,
                so that a GPU meets few sizes. What none of them holds is padded to multiples of
                ``divisor``, as all are without buckets.

        Raises:
            ValueError: sizes that cannot be; see `DetectGraph`.
        """
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, not {batch_size!r}")
        self.graph = DetectGraph(
            model, preprocessing, short_side=short_side, long_side=long_side, divisor=divisor
        )
        sides = [side for bucket in buckets or () for side in bucket]
        if any(side < 1 or side % self.graph.divisor for side in sides):
            raise ValueError(
                f"buckets' sides must be multiples of {self.graph.divisor}, not {buckets}"
            )
        self.batch_size = batch_size
        self._score_threshold = score_threshold
        self._buckets = sorted(buckets or (), key=lambda bucket: bucket[0] * bucket[1])
        self._prepare = tf.function(
            self.graph.prepare, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)]
        )
        shape = (None, None, None, preprocessing.num_channels)
        pairs = tf.TensorSpec((None, 2), tf.int32)
        self._detect: Any = tf.function(
            self.graph.detect, input_signature=[tf.TensorSpec(shape, tf.float32), pairs, pairs]
        )
        logits, pair = tf.TensorSpec((None, None, None), tf.float32), tf.TensorSpec((2,), tf.int32)
        self._semantic = tf.function(semantic_labels, input_signature=[logits, pair, pair])
        if freeze:
            self._detect = frozen(self._detect)

    def __call__(self, image: np.ndarray) -> Detections:
        """The objects in one image.

        Args:
            image: uint8 (H, W, 3) RGB or (H, W, 1) gray.

        Raises:
            ValueError: if the image has another dtype or shape.
        """
        return self.predict([image])[0]

    def predict(self, images: Sequence[np.ndarray]) -> list[Detections]:
        """The objects in each of some images, which may differ in size.

        Images of similar shape are put into one batch, as padding costs time.

        Args:
            images: each as `__call__` takes it.

        Raises:
            ValueError: if an image has another dtype or shape; nothing is computed then.
        """
        for image in images:
            check_image(image)
        by_shape = sorted(range(len(images)), key=lambda i: images[i].shape[1] / len(images[i]))
        found: dict[int, Detections] = {}
        for chosen in batches(by_shape, self.batch_size):
            answers = self._batch([images[index] for index in chosen])
            found.update(zip(chosen, answers, strict=True))
        return [found[index] for index in range(len(images))]

    def _batch(self, images: list[np.ndarray]) -> list[Detections]:
        prepared = [
            self._prepare(np.broadcast_to(image, (*image.shape[:2], 3))).numpy() for image in images
        ]
        sizes = np.array([p.shape[:2] for p in prepared], np.int32)
        originals = np.array([image.shape[:2] for image in images], np.int32)
        batch = np.zeros((len(images), *self._padded_size(sizes), prepared[0].shape[2]), np.float32)
        for place, image in zip(batch, prepared, strict=True):
            place[: image.shape[0], : image.shape[1]] = image
        answer = self._detect(tf.constant(batch), tf.constant(sizes), tf.constant(originals))
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

    def _padded_size(self, sizes: np.ndarray) -> tuple[int, int]:
        needed = sizes.max(0)
        for bucket in self._buckets:
            if (needed <= bucket).all():
                return bucket
        height, width = self.graph.padded_size(sizes).numpy().tolist()
        return height, width

    def _detections(
        self, answer: dict[str, np.ndarray], size: np.ndarray, semantic: np.ndarray | None
    ) -> Detections:
        count = int(answer.pop("num_detections"))
        arrays = {name: value[:count] for name, value in answer.items()}
        height, width = size.tolist()
        style: Any = self.graph.conventions.style
        found = Detections((height, width), **arrays, semantic=semantic, style=style)
        return found if self._score_threshold is None else found.above(self._score_threshold)
