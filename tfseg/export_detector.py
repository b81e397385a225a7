"""Detectors as SavedModels: decoding, resizing, network and the way back in one signature."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import keras
import numpy as np
import tensorflow as tf

from tfseg.export import label_pngs
from tfseg.ops.masks import paste
from tfseg.predict.detect_graph import DetectGraph
from tfseg.registry import Preprocessing
from tfseg.saved_model import (
    INFO,
    Signatures,
    answers,
    model_info,
    savedmodel_options,
    write_version,
)


def export_detector(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None = None,
    keypoints: Sequence[str] | None = None,
    skeleton: Sequence[tuple[int, int]] = (),
    short_side: int = 800,
    long_side: int = 1333,
    divisor: int | None = None,
    version: int | None = None,
    png: bool = False,
    xla: bool = False,
    freeze: bool = False,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Writes ``directory/<version>/``, as TensorFlow Serving reads models.

    Signatures, each with any batch size:

    - ``serving_default``: "image_bytes", string (B,) of JPEG or PNG files of any sizes.
      JPEGs are turned as their EXIF orientation says.
    - ``tensor``: "images", float32 (B, H, W, 3) RGB, or (B, H, W, 1) for a gray network, 0..255.
    - ``tensor_uint8``: the same as uint8, a quarter of the bytes to send.
    - ``pasted``, of models with masks: as ``tensor_uint8``, with masks of the images' size.
    - ``network``: the model alone, without resizing, preprocessing and the way back: "images"
      float32 (B, H, W, C), preprocessed and padded, and "sizes" float32 (B, 2), their heights
      and widths inside the padding. It answers as the model does.
    - ``png``, if wanted of a panoptic model: as ``serving_default``, with "semantic_png_bytes",
      string (B,), for "semantic": of each image its labels as a gray PNG of its size.

    The others answer "num_detections" int32 (B,), and with rows that are zeros from there on:
    "boxes" float32 (B, D, 4), x1, y1, x2, y2 in pixels of the image that was sent; "scores"
    float32 (B, D), falling; "classes" int32 (B, D), from 0; where the model has them "masks",
    float32 (B, D, M, M), probabilities inside the boxes (which `tfseg.predict.Detections` brings
    into the image), or for ``pasted`` uint8 (B, D, H, W), 1 on the object; and "keypoints",
    float32 (B, D, K, 3), x, y and score. Of a panoptic model "semantic" is int32 (B, H, W), the
    labels, -1 where another image of the batch is larger.
    Norms are folded into convolutions, which changes answers by rounding. ``assets.extra`` holds
    ``model_info.json`` and a small request to each signature, with which the server warms up.

    Args:
        model: a detector; see `tfseg.models.rcnn`.
        directory: the model's own folder, as in ``saved_models/<name>``.
        preprocessing: the model's.
        classes: names by class.
        keypoints: names of an object's keypoints.
        skeleton: pairs of keypoints (from 0) to be joined by lines in pictures.
        short_side: see `DetectGraph`.
        long_side: see `DetectGraph`.
        divisor: see `DetectGraph`.
        version: a positive integer; None: one more than the highest there.
        png: whether there is a signature ``png``.
        xla: let XLA compile the network, for every size of its padded input anew.
        freeze: keep the weights as constants; see `WholeImage.freeze`. A server takes this memory
            for each signature.
        info: further entries of ``model_info.json``, as category ids or training scores.

    Returns:
        The folder written. It appears under this name only when it is complete.

    Raises:
        FileExistsError: if that version exists.
        ValueError: for a version below 1, class names that are not as many as the classes,
            sizes that cannot be, PNGs of a model that labels no pixels, or both ``xla`` and
            ``freeze``.
    """
    how = savedmodel_options(png=png, xla=xla, freeze=freeze)
    if classes is not None and len(classes) != model.num_classes:
        raise ValueError(
            f"classes has {len(classes)} entries, the model {model.num_classes} classes"
        )
    if png and not model.panoptic:
        raise ValueError(
            f"PNGs are of labels of all pixels, which {model.name!r} does not give: it finds "
            "objects, whose masks come inside their boxes, or in images of one size as 'pasted'"
        )
    graph = DetectGraph(
        model.folded(),
        preprocessing,
        short_side=short_side,
        long_side=long_side,
        divisor=divisor,
        xla=xla,
    )
    if freeze:
        graph.freeze()
    facts = {
        **model_info(model, preprocessing, classes, info, **how),
        "num_classes": model.num_classes,
        "keypoints": None if keypoints is None else list(keypoints),
        "skeleton": [list(pair) for pair in skeleton],
        "style": graph.conventions.style,
        "short_side": short_side,
        "long_side": long_side,
        "divisor": graph.divisor,
    }
    name = Path(directory).resolve().name

    def write(folder: Path) -> None:
        _signatures(graph, png).write(folder, name, facts)

    return write_version(directory, version, write)


def _signatures(graph: DetectGraph, png: bool) -> Signatures:
    channels = graph.preprocessing.num_channels
    files = tf.TensorSpec((None,), tf.string, name="image_bytes")
    floats = tf.TensorSpec((None, None, None, channels), tf.float32, name="images")
    integers = tf.TensorSpec((None, None, None, channels), tf.uint8, name="images")
    pairs = tf.TensorSpec((None, 2), tf.float32, name="sizes")
    gray = np.full((1, 64, 64, channels), 128, np.uint8)
    prepared, sizes, _ = graph.prepare_batch(np.full((1, 64, 64, 3), 128, np.uint8))
    file = tf.io.encode_png(gray)
    signatures = Signatures()

    def answer_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return graph.answer(*graph.prepare_files(image_bytes))

    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return graph.answer(*graph.prepare_batch(images))

    def answer_pasted(images: tf.Tensor) -> dict[str, tf.Tensor]:
        found = answer(images)
        return found | {"masks": _pasted(graph, found, tf.shape(images)[1:3])}

    def answer_pngs(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        images, inside, originals = graph.prepare_files(image_bytes)
        found = graph.answer(images, inside, originals)
        # Stuff of data sets is of fewer than 256 kinds.
        pngs = label_pngs(found.pop("semantic"), originals, tf.uint8)
        return found | {"semantic_png_bytes": pngs}

    signatures.add("serving_default", answer_bytes, [files], [file])
    signatures.add("tensor", answer, [floats], [gray.astype(np.float32)])
    signatures.add("tensor_uint8", answer, [integers], [gray])
    request = [prepared, tf.cast(sizes, tf.float32)]
    signatures.add("network", graph.network, [floats, pairs], request)
    if graph.has_masks:
        signatures.add("pasted", answer_pasted, [integers], [gray])
    if png:
        signatures.add("png", answer_pngs, [files], [file])
    return signatures


def _pasted(graph: DetectGraph, found: dict[str, tf.Tensor], size: tf.Tensor) -> tf.Tensor:
    """Box-sized masks as uint8 (B, D, H, W); see `Detections.regions`."""
    detectron2 = graph.conventions.style == "detectron2"
    convention: Literal["detectron2", "torchvision"] = "detectron2" if detectron2 else "torchvision"
    last = tf.constant([0.0, 0.0, 1.0, 1.0] if graph.conventions.inclusive else [0.0] * 4)

    def one(entry: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        masks, boxes = entry
        values = paste(masks, boxes - last, size[0], size[1], convention=convention)
        return tf.cast(values >= 0.5 if detectron2 else values > 0.5, tf.uint8)

    entries = (found["masks"], found["boxes"])
    return tf.map_fn(one, entries, fn_output_signature=tf.TensorSpec((None,) * 3, tf.uint8))


def check_export_detector(
    path: str | Path, model: keras.Model, images: Sequence[np.ndarray]
) -> dict[str, float]:
    """Reloads an export and compares it with the model in this process.

    Every image goes through the signature of bytes, as a PNG, and through that of tensors, if it
    has the channels for it.

    Args:
        path: what `export_detector` returned.
        model: the model exported.
        images: uint8 (H, W, 3) or (H, W, 1).

    Returns:
        The largest absolute difference of each of the export's outputs: of boxes in pixels, of
        scores, ...

    Raises:
        ValueError: if the export finds another number of objects, or there are no images.
    """
    if not images:
        raise ValueError("there are no images to compare an export on")
    facts = json.loads((Path(path) / "assets.extra" / INFO).read_text(encoding="utf-8"))
    preprocessing = Preprocessing(**facts["preprocessing"])
    sizes = {name: facts[name] for name in ("short_side", "long_side", "divisor")}
    graph = DetectGraph(model, preprocessing, **sizes)
    signatures = tf.saved_model.load(str(path)).signatures
    worst: dict[str, float] = {}
    for image in images:
        batch = np.broadcast_to(image, (1, *image.shape[:2], 3))
        expected = graph.answer(*graph.prepare_batch(batch))
        for answer in answers(signatures, image, preprocessing.num_channels):
            _compare(str(path), answer, expected, worst)
    return worst


def _compare(
    path: str, answer: dict[str, tf.Tensor], expected: dict[str, tf.Tensor], worst: dict[str, float]
) -> None:
    """Adds what two answers differ by to the largest differences."""
    for name in ("num_detections", *sorted(expected)):
        found, wanted = answer[name].numpy(), expected[name].numpy()
        if found.shape != wanted.shape or (name == "num_detections" and (found != wanted).any()):
            raise ValueError(
                f"{path} answers {name} {found.shape} {found.ravel()[:1]}, expected "
                f"{wanted.shape} {wanted.ravel()[:1]}"
            )
        difference = np.abs(found.astype(np.float64) - wanted).max(initial=0.0)
        worst[name] = max(worst.get(name, 0.0), float(difference))
