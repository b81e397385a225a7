"""Semantic models as SavedModels: decoding, preprocessing, network and softmax in one signature."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfseg.layers.fold import fold_norms
from tfseg.predict.decode import decode_all
from tfseg.predict.graph import WholeImage
from tfseg.predict.tiles import whole_side
from tfseg.registry import Preprocessing
from tfseg.saved_model import (
    Signatures,
    answers,
    model_info,
    savedmodel_options,
    write_version,
)


def export(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None = None,
    colors: np.ndarray | None = None,
    version: int | None = None,
    png: bool = False,
    xla: bool = False,
    freeze: bool = False,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Writes ``directory/<version>/``, as TensorFlow Serving reads models.

    Signatures, each with any batch size and any image size that the model takes (a U-Net of
    valid convolutions takes sides of 16 k + 60 and answers for their centre, 184 less; a dilation
    network sides of 8 k + 372, for k cells; the tiling around them, a CRF and a boost of rare
    labels stay with `tfseg.predict`):

    - ``serving_default``: "image_bytes", string (B,) of JPEG or PNG files of any sizes. JPEGs are
      turned as their EXIF orientation says.
    - ``tensor``: "images", float32 (B, H, W, 3) RGB, or (B, H, W, 1) for a gray network, 0..255.
    - ``tensor_uint8``: the same as uint8, a quarter of the bytes to send.
    - ``png``, if wanted: as ``serving_default``, and answers "labels_png_bytes", string (B,):
      of each image its labels as a gray PNG, 8 bits deep, or 16 for over 256 classes.

    The others answer "labels" int32 (B, H, W) and "probabilities" float32 (B, H, W, num_classes);
    ``serving_default`` also "sizes" int32 (B, 2), each answer's height and width, beyond which its
    labels are -1 and its probabilities 0. Images of one size are predicted together, those of
    several sizes one by one, as the padding would change what a network sees.
    Norms are folded into convolutions, which changes answers by rounding. ``assets.extra`` holds
    ``model_info.json`` and a small request to each signature, with which the server warms up.

    Args:
        model: a semantic model; see `tfseg.predict.WholeImage`.
        directory: the model's own folder, as in ``saved_models/<name>``.
        preprocessing: the model's.
        classes: names by class id.
        colors: uint8 (num_classes, 3).
        version: a positive integer; None: one more than the highest there.
        png: whether there is a signature ``png``.
        xla: let XLA compile the network, for every size of images anew.
        freeze: keep the weights as constants; see `WholeImage.freeze`. A server takes this memory
            for each signature.
        info: further entries of ``model_info.json``, as training scores.

    Returns:
        The folder written. It appears under this name only when it is complete.

    Raises:
        FileExistsError: if that version exists.
        ValueError: for a version below 1, names or colours that are not as many as the classes, or
            both ``xla`` and ``freeze``.
    """
    how = savedmodel_options(png=png, xla=xla, freeze=freeze)
    facts = semantic_info(WholeImage(model, preprocessing), classes, colors, info, **how)
    # XLA and constants have their own way to pack.
    folded = fold_norms(model, packed=not (xla or freeze))
    network = WholeImage(folded, preprocessing, xla=xla)
    if freeze:
        network.freeze()
    name = Path(directory).resolve().name

    def write(folder: Path) -> None:
        _signatures(network, png).write(folder, name, facts)

    return write_version(directory, version, write)


def semantic_info(
    network: WholeImage,
    classes: Sequence[str] | None,
    colors: np.ndarray | None,
    further: Mapping[str, Any] | None,
    **how: Any,
) -> dict[str, Any]:
    """What ``model_info.json`` tells of a semantic model; see `model_info`.

    Raises:
        ValueError: names or colours that are not as many as the classes.
    """
    for what, given in (("classes", classes), ("colors", colors)):
        if given is not None and len(given) != network.num_classes:
            raise ValueError(
                f"{what} has {len(given)} entries, the model {network.num_classes} classes"
            )
    return {
        **model_info(network.model, network.preprocessing, classes, further, **how),
        "num_classes": network.num_classes,
        "colors": None if colors is None else np.asarray(colors).tolist(),
        "input_size": network.input_size,
    }


def _signatures(network: WholeImage, png: bool) -> Signatures:
    channels = network.preprocessing.num_channels
    shape = (None, *network.input_size, channels)
    files = tf.TensorSpec((None,), tf.string, name="image_bytes")
    floats = tf.TensorSpec(shape, tf.float32, name="images")
    integers = tf.TensorSpec(shape, tf.uint8, name="images")
    gray = np.full((1, *whole_side(network), channels), 128, np.uint8)
    file = tf.io.encode_png(gray)
    signatures = Signatures()

    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return label_images(network, images)

    def answer_files(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return _answer_files(network, image_bytes)

    def answer_pngs(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        found = _answer_files(network, image_bytes, keys=("labels",))
        depth = tf.uint8 if network.num_classes <= 256 else tf.uint16
        return {"labels_png_bytes": label_pngs(found["labels"], found["sizes"], depth)}

    signatures.add("serving_default", answer_files, [files], [file])
    signatures.add("tensor", answer, [floats], [gray.astype(np.float32)])
    signatures.add("tensor_uint8", answer, [integers], [gray])
    if png:
        signatures.add("png", answer_pngs, [files], [file])
    return signatures


def label_images(network: WholeImage, images: tf.Tensor) -> dict[str, tf.Tensor]:
    """What an export answers to images (B, H, W, C): "labels" and "probabilities"."""
    probabilities = network.probabilities(images)
    labels = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
    return {"labels": labels, "probabilities": probabilities}


def _answer_files(
    network: WholeImage, files: tf.Tensor, keys: Sequence[str] = ("labels", "probabilities")
) -> dict[str, tf.Tensor]:
    """The answers to encoded images, padded to the largest, and "sizes" int32 (B, 2)."""
    images, sizes = decode_all(files)
    count = tf.shape(sizes)[0]
    fill = {"labels": -1, "probabilities": 0.0}

    def fitting(image: tf.Tensor) -> dict[str, tf.Tensor]:
        found = label_images(network, tf.ensure_shape(image, (None, *network.input_size, 3)))
        return {key: found[key] for key in keys}

    def together() -> dict[str, tf.Tensor]:
        found = fitting(images.stack())
        size = tf.shape(found["labels"])[1:3]
        return found | {"sizes": tf.tile(size[None], (count, 1))}

    def one_by_one() -> dict[str, tf.Tensor]:
        specs = {"labels": (tf.int32, ()), "probabilities": (tf.float32, (network.num_classes,))}
        arrays = [
            tf.TensorArray(
                specs[key][0], count, element_shape=(None, None, *specs[key][1]), infer_shape=False
            )
            for key in keys
        ]
        ends = tf.TensorArray(tf.int32, count, element_shape=(2,))

        def add(index: tf.Tensor, ends: tf.TensorArray, *arrays: tf.TensorArray) -> tuple[Any, ...]:
            found = fitting(images.read(index)[None])
            written = [a.write(index, found[k][0]) for k, a in zip(keys, arrays, strict=True)]
            ends = ends.write(index, tf.shape(found["labels"])[1:3])
            return (index + 1, ends, *written)

        _, ends, *arrays = tf.while_loop(
            lambda index, *_: index < count, add, (0, ends, *arrays), parallel_iterations=1
        )
        answered = ends.stack()
        largest = tf.reduce_max(answered, axis=0)
        found = {
            key: tf.map_fn(
                lambda index, key=key, array=array: _pad(array.read(index), largest, fill[key]),
                tf.range(count),
                fn_output_signature=tf.TensorSpec((None, None, *specs[key][1]), specs[key][0]),
            )
            for key, array in zip(keys, arrays, strict=True)
        }
        return found | {"sizes": answered}

    return tf.cond(tf.reduce_all(sizes == sizes[:1]), together, one_by_one)


def _pad(values: tf.Tensor, size: tf.Tensor, fill: float) -> tf.Tensor:
    """(h, w, ...) filled below and on the right, to (H, W, ...)."""
    missing = size - tf.shape(values)[:2]
    edges = tf.stack([[0, missing[0]], [0, missing[1]], *[[0, 0]] * (values.shape.rank - 2)])
    return tf.pad(values, edges, constant_values=fill)


def label_pngs(labels: tf.Tensor, sizes: tf.Tensor, depth: tf.DType) -> tf.Tensor:
    """Label maps as gray PNG files.

    Args:
        labels: int32 (B, H, W).
        sizes: int32 (B, 2), the height and width of each that become its file.
        depth: uint8 or uint16, that of a pixel.

    Returns:
        string (B,).
    """

    def encode(entry: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        inside = entry[0][: entry[1][0], : entry[1][1]]
        return tf.io.encode_png(tf.cast(inside, depth)[..., None])

    return tf.map_fn(encode, (labels, sizes), fn_output_signature=tf.string)


def check_export(
    path: str | Path,
    model: keras.Model,
    images: Sequence[np.ndarray],
    *,
    preprocessing: Preprocessing,
) -> float:
    """Reloads an export and compares it with the model in this process.

    Every image goes through the signature of bytes, as a PNG, and through that of tensors, if it
    has the channels for it.

    Args:
        path: what `export` returned.
        model: the model exported.
        images: uint8 (H, W, 3) or (H, W, 1).
        preprocessing: the model's.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        ValueError: if the export answers with another shape, or there are no images.
    """
    if not images:
        raise ValueError("there are no images to compare an export on")
    network = WholeImage(model, preprocessing)
    signatures = tf.saved_model.load(str(path)).signatures
    worst = 0.0
    for image in images:
        expected = network.probabilities(image[None]).numpy()
        for answer in answers(signatures, image, preprocessing.num_channels):
            served = answer["probabilities"].numpy()
            if served.shape != expected.shape:
                raise ValueError(f"{path} answers {served.shape}, expected {expected.shape}")
            worst = max(worst, float(np.abs(served - expected).max()))
    return worst
