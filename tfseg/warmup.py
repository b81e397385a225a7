"""Warmup requests, which TensorFlow Serving runs before it lets requests in.

https://www.tensorflow.org/tfx/serving/saved_model_warmup: a TFRecord file of PredictionLog
messages, of which each holds a PredictRequest. They are written by the numbers of their fields
(tensorflow_serving/apis/{prediction_log,predict,model}.proto), so that the `tensorflow-serving-api`
package, which asks for another TensorFlow than `tensorflow-cpu`, is not needed to export.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

FILE = "tf_serving_warmup_requests"


def write_requests(
    directory: Path, model: str, requests: Iterable[tuple[str, Mapping[str, Any]]]
) -> None:
    """Writes ``directory/tf_serving_warmup_requests``.

    Args:
        directory: the SavedModel's assets.extra.
        model: its name.
        requests: signatures and the inputs of one request to each, by name.
    """
    with tf.io.TFRecordWriter(str(directory / FILE)) as writer:
        for signature, inputs in requests:
            writer.write(prediction_log(model, signature, inputs))


def prediction_log(model: str, signature: str, inputs: Mapping[str, Any]) -> bytes:
    """A serialised PredictionLog of one PredictRequest.

    Args:
        model: its name.
        signature: to be called.
        inputs: arrays or tensors, by name.
    """
    # ModelSpec: name 1, signature_name 3; PredictRequest: model_spec 1, inputs 2 (a map's entries:
    # key 1, value 2); PredictLog: request 1; PredictionLog: predict_log 6.
    spec = _field(1, model.encode()) + _field(3, signature.encode())
    request = _field(1, spec)
    for name, value in inputs.items():
        tensor = tf.make_tensor_proto(np.asarray(value)).SerializeToString()
        request += _field(2, _field(1, name.encode()) + _field(2, tensor))
    return _field(6, _field(1, request))


def _field(number: int, content: bytes) -> bytes:
    """A length-delimited field of the protocol buffers' wire format."""
    length, rest = b"", len(content)
    while rest > 0x7F:
        length += bytes([rest & 0x7F | 0x80])
        rest >>= 7
    return bytes([number << 3 | 2]) + length + bytes([rest]) + content
