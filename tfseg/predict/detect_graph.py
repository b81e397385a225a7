"""From images to detections in their own pixels: what prediction and export of detectors share."""

from collections.abc import Mapping
from typing import Any

import keras
import tensorflow as tf

from tfseg.models.rcnn.conventions import Conventions
from tfseg.ops.preprocess import preprocess
from tfseg.predict.decode import decode_all
from tfseg.predict.graph import frozen
from tfseg.registry import Preprocessing


class DetectGraph:
    """A detector with resizing and preprocessing in front, and the way back behind.

    The parts are functions of tensors, to be called in a `tf.function`; none has state but the
    model's variables.

    Attributes:
        model: the Keras model: ``model(images, sizes=sizes, training=False)`` gives a dict.
        preprocessing: what its input is made of.
        divisor: what the sides of its input are multiples of.
        conventions: the model's.
        has_masks: whether it gives masks.
    """

    def __init__(
        self,
        model: keras.Model,
        preprocessing: Preprocessing,
        *,
        short_side: int = 800,
        long_side: int = 1333,
        divisor: int | None = None,
        xla: bool = False,
    ):
        """Keeps the model and the sizes.

        Args:
            model: a detector; see `tfseg.models.rcnn`.
            preprocessing: the model's.
            short_side: what the image's short side is resized to, in pixels,
            long_side: unless its long side would be longer than this.
            divisor: sides are padded to multiples of it; None: what the model's own are, 32 with
                a pyramid, 1 without.
            xla: compile the model, for every size of its input anew.

        Raises:
            ValueError: for sides below 1, or a long side below the short one.
        """
        divisor = model.size_divisor if divisor is None else divisor
        if short_side < 1 or divisor < 1 or long_side < short_side:
            raise ValueError(
                "short_side and divisor must be at least 1 and long_side no less than short_side, "
                f"not {short_side}, {divisor} and {long_side}"
            )
        self.model = model
        self.preprocessing = preprocessing
        self.divisor = divisor
        self.conventions: Conventions = model.conventions
        self.has_masks: bool = model.mask_head is not None
        self._short_side, self._long_side = short_side, long_side
        shape = (None, None, None, preprocessing.num_channels)
        inputs = [tf.TensorSpec(shape, tf.float32), tf.TensorSpec((None, 2), tf.float32)]
        # One function for all signatures of an export, which are traced twice each.
        self._model: Any = tf.function(
            self._run, input_signature=inputs, jit_compile=True if xla else None
        )

    def freeze(self) -> None:
        """Makes the weights constants of the graph; see `WholeImage.freeze`."""
        self._model = frozen(self._model)

    def resized_size(self, size: tf.Tensor) -> tf.Tensor:
        """The size that an image is resized to, int32 (2,), as detectron2's ResizeShortestEdge.

        Args:
            size: the image's (height, width), int32 (2,).
        """
        # In Python's float64 and the released order of operations, which decide about halves.
        size = tf.cast(size, tf.float64)
        short = tf.reduce_min(size)
        target = tf.constant(self._short_side, tf.float64)
        scaled = tf.where(size == short, target, size * (target / short))
        longest = tf.reduce_max(scaled)
        limited = scaled * (self._long_side / longest)
        scaled = tf.where(longest > self._long_side, limited, scaled)
        return tf.maximum(tf.cast(tf.floor(scaled + 0.5), tf.int32), 1)

    def prepare(self, image: tf.Tensor) -> tf.Tensor:
        """An image resized and preprocessed.

        Bilinear, with the triangle widened to average what it covers where the image shrinks, and
        rounded to integers: Pillow's, which detectron2's resizing uses.

        Args:
            image: uint8 or float (H, W, 3) RGB, 0..255.

        Returns:
            float32 (h, w, preprocessing.num_channels).
        """
        with tf.device("CPU"):  # the antialiasing kernel has no other
            image = tf.image.resize(image, self.resized_size(tf.shape(image)[:2]), antialias=True)
        return preprocess(tf.floor(image + 0.5), self.preprocessing)

    def padded_size(self, sizes: tf.Tensor) -> tf.Tensor:
        """The smallest (height, width), int32 (2,), that images of int32 (B, 2) fit into."""
        return -(-tf.reduce_max(sizes, axis=0) // self.divisor) * self.divisor

    def prepare_files(self, files: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Encoded images of any sizes as one batch.

        Args:
            files: string (B,), JPEG or PNG files; at least one.

        Returns:
            The images float32 (B, H, W, C), prepared and padded with zeros on the lower right,
            their sizes int32 (B, 2) inside the padding, and their original sizes int32 (B, 2).
        """
        decoded, originals = decode_all(files)
        count = tf.shape(originals)[0]
        shape = (None, None, self.preprocessing.num_channels)
        # Of changing size, so that they are written in one loop and padded in a second one.
        images = tf.TensorArray(tf.float32, count, element_shape=shape, infer_shape=False)
        sizes = tf.TensorArray(tf.int32, count, element_shape=(2,))

        def add(index: tf.Tensor, images: tf.TensorArray, sizes: tf.TensorArray) -> tuple[Any, ...]:
            image = self.prepare(decoded.read(index))
            return index + 1, images.write(index, image), sizes.write(index, tf.shape(image)[:2])

        _, images, sizes = tf.while_loop(lambda index, *_: index < count, add, (0, images, sizes))
        sizes = sizes.stack()
        padded = self.padded_size(sizes)
        batch = tf.map_fn(
            lambda index: pad_to(images.read(index), padded),
            tf.range(count),
            fn_output_signature=tf.TensorSpec(shape, tf.float32),
        )
        return batch, sizes, originals

    def prepare_batch(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Images of one size as a batch.

        Args:
            images: uint8 or float (B, H, W, 3) RGB, 0..255.

        Returns:
            As `prepare_files`.
        """
        count, original = tf.shape(images)[0], tf.shape(images)[1:3]
        size = self.resized_size(original)
        padded = self.padded_size(size[None])
        batch = tf.map_fn(
            lambda image: pad_to(self.prepare(image), padded),
            images,
            fn_output_signature=tf.TensorSpec(
                (None, None, self.preprocessing.num_channels), tf.float32
            ),
        )
        return batch, tf.tile(size[None], (count, 1)), tf.tile(original[None], (count, 1))

    def network(self, images: tf.Tensor, sizes: tf.Tensor) -> dict[str, tf.Tensor]:
        """The model's own answer, in pixels of its input.

        Args:
            images: float32 (B, H, W, C), prepared and padded.
            sizes: int32 or float32 (B, 2), height and width inside the padding.
        """
        found: dict[str, tf.Tensor] = self._model(images, tf.cast(sizes, tf.float32))
        return found

    def _run(self, images: tf.Tensor, sizes: tf.Tensor) -> Any:
        return self.model(images, sizes=sizes, training=False)

    def detect(
        self, images: tf.Tensor, sizes: tf.Tensor, originals: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """The objects in original pixels, and "semantic" logits of the padded input.

        Args:
            images: see `network`.
            sizes: see `network`.
            originals: int32 (B, 2), height and width of the images at first.

        Returns:
            See `in_original_pixels`.
        """
        found = self.network(images, sizes)
        inclusive = self.conventions.inclusive
        answer = in_original_pixels(found, sizes, originals, inclusive=inclusive)
        return answer | {"semantic": found["semantic"]} if "semantic" in found else answer

    def answer(
        self, images: tf.Tensor, sizes: tf.Tensor, originals: tf.Tensor
    ) -> dict[str, tf.Tensor]:
        """As `detect`, with "semantic" labels in original pixels.

        Returns:
            See `in_original_pixels`; "semantic" is int32 (B, H, W), -1 beyond an image that is
            smaller than the batch's largest.
        """
        found = self.detect(images, sizes, originals)
        if "semantic" not in found:
            return found
        largest = tf.reduce_max(originals, axis=0)

        def labels(entry: tuple[tf.Tensor, tf.Tensor, tf.Tensor]) -> tf.Tensor:
            missing = largest - entry[2]
            edges = tf.stack([[0, missing[0]], [0, missing[1]]])
            return tf.pad(semantic_labels(*entry), edges, constant_values=-1)

        spec = tf.TensorSpec((None, None), tf.int32)
        entries = (found["semantic"], sizes, originals)
        return found | {"semantic": tf.map_fn(labels, entries, fn_output_signature=spec)}


def pad_to(image: tf.Tensor, size: tf.Tensor) -> tf.Tensor:
    """An image (h, w, C) with zeros below and on the right, to (H, W, C)."""
    missing = tf.maximum(size - tf.shape(image)[:2], 0)
    return tf.pad(image, tf.stack([[0, missing[0]], [0, missing[1]], [0, 0]]))


def in_original_pixels(
    found: Mapping[str, tf.Tensor],
    sizes: tf.Tensor,
    originals: tf.Tensor,
    *,
    inclusive: bool,
) -> dict[str, tf.Tensor]:
    """A detector's answer in the pixels of the original images.

    Boxes that clipping leaves nothing of are dropped (detectron2, ``detector_postprocess``).

    Args:
        found: "boxes", "scores", "classes", "valid", maybe "masks" and "keypoints", as
            `tfseg.models.rcnn.RCNN` returns them; other entries are left out.
        sizes: (B, 2) height and width of the images inside the padding.
        originals: (B, 2) height and width that they had at first.
        inclusive: the network has learned of boxes that end with their last pixel (Detectron), of
            which the coordinates are scaled.

    Returns:
        "num_detections" int32 (B,), and, of D rows of which those from there on are zeros:
        "boxes" float32 (B, D, 4) in original pixels, "scores" float32 (B, D), "classes" int32
        (B, D), "masks" float32 (B, D, M, M) inside the box, "keypoints" float32 (B, D, K, 3):
        x, y in original pixels and score.
    """
    originals = tf.cast(originals, tf.float32)[:, None, ::-1]  # (B, 1, 2): width, height
    scale = originals / tf.cast(sizes, tf.float32)[:, None, ::-1]
    last = tf.constant([0.0, 0.0, 1.0, 1.0] if inclusive else [0.0] * 4)
    boxes = (tf.cast(found["boxes"], tf.float32) - last) * tf.tile(scale, (1, 1, 2)) + last
    boxes = tf.clip_by_value(boxes, 0.0, tf.tile(originals, (1, 1, 2)))
    valid = found["valid"] & tf.reduce_all(boxes[..., 2:] > boxes[..., :2], axis=-1)
    answer = {
        "boxes": boxes,
        "scores": tf.cast(found["scores"], tf.float32),
        "classes": tf.cast(found["classes"], tf.int32),
    }
    if "masks" in found:
        answer["masks"] = tf.cast(found["masks"], tf.float32)
    if "keypoints" in found:
        points = tf.cast(found["keypoints"], tf.float32)
        places = points[..., :2] * scale[:, :, None]
        answer["keypoints"] = tf.concat([places, points[..., 2:]], axis=-1)
    order = tf.argsort(tf.cast(~valid, tf.int32), axis=-1, stable=True)
    count = tf.reduce_sum(tf.cast(valid, tf.int32), axis=-1)
    kept = tf.sequence_mask(count, tf.shape(boxes)[1])
    for name, value in answer.items():
        value = tf.gather(value, order, batch_dims=1)
        shape = tf.concat([tf.shape(kept), tf.ones(value.shape.rank - 2, tf.int32)], axis=0)
        answer[name] = tf.where(tf.reshape(kept, shape), value, tf.zeros_like(value))
    return answer | {"num_detections": count}


def semantic_labels(logits: tf.Tensor, size: tf.Tensor, original: tf.Tensor) -> tf.Tensor:
    """The labels of an image's pixels (detectron2, ``sem_seg_postprocess`` and its argmax).

    Args:
        logits: float (H, W, S) of the padded input.
        size: int32 (2,), height and width inside the padding.
        original: int32 (2,), height and width of the labels.

    Returns:
        int32 (height, width).
    """
    inside = tf.cast(logits, tf.float32)[: size[0], : size[1]]
    return tf.argmax(tf.image.resize(inside, original), axis=-1, output_type=tf.int32)
