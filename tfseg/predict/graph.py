"""From an image to class probabilities: the one path that prediction and export share."""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from tfseg.ops.logits import class_logits
from tfseg.ops.preprocess import preprocess
from tfseg.registry import Preprocessing


class WholeImage:
    """A semantic model with its preprocessing in front and softmax behind.

    The model runs in inference mode (moving averages in batch norms, no dropout) in a
    `tf.function` that is traced once for all batch and image sizes. The graph reads the model's
    variables, so a model in training can be predicted with at any time.

    Attributes:
        model: the Keras model.
        preprocessing: what its input is made of.
        num_classes: classes of its probabilities: the channels of its logits, or 2 where it has
            one channel, the logit of class 1.
        input_size: (height, width) of its input; None where any is taken.
    """

    def __init__(self, model: keras.Model, preprocessing: Preprocessing, *, xla: bool = False):
        """Takes a model of float32 (B, H, W, C) images, already preprocessed.

        Args:
            model: returns logits (B, h, w, num_classes) or a dict with them as "logits".
            preprocessing: its channels must be the model's.
            xla: compile the model, for every size of its input anew.

        Raises:
            ValueError: if the model has another number of channels, or returns no logits.
        """
        shape = tuple(model.inputs[0].shape)
        if shape[-1] != preprocessing.num_channels:
            raise ValueError(
                f"model {model.name!r} takes {shape[-1]} channels, its preprocessing "
                f"{preprocessing.channels!r} makes {preprocessing.num_channels}"
            )
        logits = tuple(_logits(model.compute_output_shape(shape)))
        if len(logits) != 4 or not logits[-1]:
            raise ValueError(
                f"model {model.name!r} returns {logits}, expected logits "
                "(batch, height, width, classes)"
            )
        self.model = model
        self.preprocessing = preprocessing
        self.num_classes = max(int(logits[-1]), 2)
        self.input_size = shape[1:3]
        signature = tf.TensorSpec((None, *shape[1:]), tf.float32, name="prepared")
        self.forward: Callable[[tf.Tensor], tf.Tensor] = tf.function(
            self._forward, input_signature=[signature], jit_compile=xla or None
        )

    def freeze(self) -> None:
        """Makes the weights constants of the graph, which later changes of the model miss.

        Inference on a CPU gets faster: oneDNN packs constant filters once and not at every call,
        and norms are folded into convolutions. It takes seconds and several times the weights'
        memory.
        """
        self.forward = frozen(self.forward)

    def prepare(self, images: Any) -> tf.Tensor:
        """Images as the model takes them.

        Args:
            images: uint8 or float (B, H, W, 3) RGB or (B, H, W, 1) gray, 0..255.

        Returns:
            float32 (B, H, W, preprocessing.num_channels).
        """
        return preprocess(tf.cast(images, tf.float32), self.preprocessing)

    def _forward(self, prepared: tf.Tensor) -> tf.Tensor:
        """Logits float32 (B, h, w, num_classes) of prepared images, under any precision policy."""
        logits = class_logits(_logits(self.model(prepared, training=False)))
        return tf.cast(logits, tf.float32)

    def probabilities(self, images: Any) -> tf.Tensor:
        """Class probabilities, float32 (B, h, w, num_classes), of images as `prepare` takes."""
        return tf.nn.softmax(self.forward(self.prepare(images)))

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """The (height, width) of the logits for an input of this size; nothing is computed.

        Raises:
            ValueError: if the model does not take this size.
        """
        channels = self.preprocessing.num_channels
        shape = _logits(self.model.compute_output_shape((1, height, width, channels)))
        return int(shape[1]), int(shape[2])


def frozen(function: Any) -> Callable[..., Any]:
    """A `tf.function` of tensors, with the variables it reads as constants.

    Args:
        function: has an input signature.
    """
    concrete = function.get_concrete_function()
    constant = convert_variables_to_constants_v2(concrete)
    return lambda *tensors: tf.nest.pack_sequence_as(
        concrete.structured_outputs, constant(*tf.nest.flatten(tensors))
    )


def _logits(output: Any) -> Any:
    """A semantic model's logits, of its output with or without an auxiliary head."""
    return output["logits"] if isinstance(output, dict) else output
