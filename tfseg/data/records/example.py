"""`tf.train.Example`, the usual content of a TFRecord, without TensorFlow.

The message is described as in tensorflow/core/example/feature.proto, whose bytes it has.
"""

from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

_FIELD = descriptor_pb2.FieldDescriptorProto
#: the kinds of features: the list's name, the values' type
_LISTS = {
    "bytes_list": ("BytesList", _FIELD.TYPE_BYTES),
    "float_list": ("FloatList", _FIELD.TYPE_FLOAT),
    "int64_list": ("Int64List", _FIELD.TYPE_INT64),
}


@cache
def _example() -> type[Any]:
    """The message's class."""
    file = descriptor_pb2.FileDescriptorProto(
        name="tfseg/example.proto", package="tfseg", syntax="proto3"
    )
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (field, (name, kind)) in enumerate(_LISTS.items(), start=1):
        of_values = file.message_type.add(name=name)
        of_values.field.add(name="value", number=1, type=kind, label=_FIELD.LABEL_REPEATED)
        _add(feature, field, number, name).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=_FIELD.TYPE_STRING, label=_FIELD.LABEL_OPTIONAL)
    _add(entry, "value", 2, "Feature")
    _add(features, "feature", 1, "Features.FeatureEntry").label = _FIELD.LABEL_REPEATED
    _add(file.message_type.add(name="Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    found: type[Any] = message_factory.GetMessageClass(pool.FindMessageTypeByName("tfseg.Example"))
    return found


def _add(to: Any, name: str, number: int, of: str) -> Any:
    """Adds a field that is a message."""
    return to.field.add(
        name=name,
        number=number,
        type=_FIELD.TYPE_MESSAGE,
        type_name=f".tfseg.{of}",
        label=_FIELD.LABEL_OPTIONAL,
    )


def encode(features: Mapping[str, bytes | np.ndarray]) -> bytes:
    """The message of some features: bytes, or float32 or int64 arrays of one dimension.

    The same features give the same bytes.
    """
    example = _example()()
    for name, value in features.items():
        feature = example.features.feature[name]
        if isinstance(value, bytes):
            feature.bytes_list.value.append(value)
        elif value.dtype == np.float32:
            feature.float_list.value.extend(value.tolist())
        else:
            feature.int64_list.value.extend(value.tolist())
    encoded: bytes = example.SerializeToString(deterministic=True)
    return encoded


def decode(data: bytes) -> dict[str, bytes | np.ndarray]:
    """The features of a message; see `encode`.

    Raises:
        ValueError: bytes that are no such message, or a feature of several byte strings.
    """
    example = _example()()
    try:
        example.ParseFromString(data)
    except message.DecodeError as e:
        raise ValueError(f"it is no tf.train.Example: {e}") from None
    found: dict[str, bytes | np.ndarray] = {}
    for name, feature in example.features.feature.items():
        kind = feature.WhichOneof("kind")
        if kind == "bytes_list":
            values = feature.bytes_list.value
            if len(values) != 1:
                raise ValueError(f"{name!r} has {len(values)} values, not one")
            found[name] = values[0]
        elif kind == "float_list":
            found[name] = np.array(feature.float_list.value, np.float32)
        elif kind == "int64_list":
            found[name] = np.array(feature.int64_list.value, np.int64)
    return found
