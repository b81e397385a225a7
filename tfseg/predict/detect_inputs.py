"""Images as a detector's batches: resized, preprocessed, padded."""

from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from tfseg.predict.detect_graph import DetectGraph


class DetectInputs:
    """Makes one batch of images of any sizes.

    Attributes:
        graph: what resizes and preprocesses them.
    """

    def __init__(self, graph: DetectGraph, buckets: Sequence[tuple[int, int]] | None = None):
        """Builds the graph's function; nothing is traced yet.

        Args:
            graph: the detector.
            buckets: (height, width) of padded batches: a batch gets the smallest that holds it.
                What none of them holds is padded to multiples of the graph's divisor, as all are
                without buckets.

        Raises:
            ValueError: buckets of other sides than multiples of the divisor.
        """
        self.graph = graph
        sides = [side for bucket in buckets or () for side in bucket]
        if any(side < 1 or side % graph.divisor for side in sides):
            raise ValueError(f"buckets' sides must be multiples of {graph.divisor}, not {buckets}")
        self._buckets = sorted(buckets or (), key=lambda bucket: bucket[0] * bucket[1])
        self._prepare = tf.function(
            graph.prepare, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)]
        )

    def __call__(self, images: Sequence[np.ndarray]) -> tuple[tf.Tensor, np.ndarray]:
        """A batch.

        Args:
            images: uint8 (H, W, 3) or (H, W, 1), at least one.

        Returns:
            float32 (B, H, W, C), padded with zeros on the lower right, and the sizes inside the
            padding, int32 (B, 2).
        """
        prepared = [
            self._prepare(np.broadcast_to(image, (*image.shape[:2], 3))).numpy() for image in images
        ]
        sizes = np.array([p.shape[:2] for p in prepared], np.int32)
        batch = np.zeros((len(images), *self.padded_size(sizes), prepared[0].shape[2]), np.float32)
        for place, image in zip(batch, prepared, strict=True):
            place[: image.shape[0], : image.shape[1]] = image
        return tf.constant(batch), sizes

    def padded_size(self, sizes: np.ndarray) -> tuple[int, int]:
        """The (height, width) of a batch of images of sizes (B, 2)."""
        needed = sizes.max(0)
        for bucket in self._buckets:
            if (needed <= bucket).all():
                return bucket
        height, width = self.graph.padded_size(sizes).numpy().tolist()
        return height, width
