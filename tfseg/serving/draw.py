"""A server's answer to one image: in words and as a picture."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from tfseg.serving.client import Answer
from tfseg.visualize import colorize, legend, overlay, palette

#: classes that `summary` names
_NAMED = 5


def draw(image: np.ndarray, answer: Answer, facts: Mapping[str, Any]) -> np.ndarray:
    """What was found in an image, drawn on it.

    Args:
        image: uint8 (H, W, 3) RGB or (H, W, 1) gray.
        answer: to this image alone.
        facts: the export's model_info.json; empty: numbers stand for names, the VOC palette for
            colours, and masks are pasted as detectron2 does.

    Returns:
        uint8 (height, width, 3). Labels have a legend below; where the network answers for
        another size than the image's, they are drawn without it.
    """
    if "num_detections" in answer:
        return _draw_objects(image, answer, facts)
    labels = _labels(answer)
    present = np.unique(labels).tolist()
    colors = _colors(facts, max(present) + 1)
    if labels.shape == image.shape[:2]:
        picture = overlay(image, labels, colors, ignore_label=-1)
    else:
        picture = colorize(labels, colors, ignore_label=-1)
    names = _names(facts, max(present) + 1)
    below = legend([names[label] for label in present], colors[present], picture.shape[1])
    return np.concatenate([picture, below])


def summary(answer: Answer, facts: Mapping[str, Any]) -> str:
    """The classes of most pixels and their shares, or the objects' classes and scores."""
    if "num_detections" in answer:
        count = int(answer["num_detections"][0])
        classes, scores = answer["classes"][0, :count], answer["scores"][0, :count]
        names = _names(facts, int(classes.max(initial=0)) + 1)
        pairs = zip(classes.tolist(), scores.tolist(), strict=True)
        texts = [f"{names[label]} {score:.2f}" for label, score in pairs]
        return f"{count} objects: " + _shortened(texts) if count else "no objects"
    labels = _labels(answer)
    ids, counts = np.unique(labels, return_counts=True)
    names = _names(facts, int(ids[-1]) + 1)
    order = np.argsort(-counts, kind="stable")
    texts = [f"{names[ids[i]]} {counts[i] / labels.size:.1%}" for i in order]
    return f"{labels.shape[1]}x{labels.shape[0]} labels: " + _shortened(texts)


def _shortened(texts: Sequence[str]) -> str:
    more = len(texts) - _NAMED
    return ", ".join(texts[:_NAMED]) + (f" and {more} more" if more > 0 else "")


def decode_labels(file: bytes) -> np.ndarray:
    """The labels of a PNG that an export answers, int32 (H, W)."""
    with Image.open(io.BytesIO(file), formats=["PNG"]) as image:
        return np.array(image).astype(np.int32)


def _labels(answer: Answer) -> np.ndarray:
    """A semantic network's labels, int32 (H, W)."""
    if "labels_png_bytes" in answer:
        return decode_labels(answer["labels_png_bytes"][0])
    labels: np.ndarray = answer["labels"][0]
    return labels


def _names(facts: Mapping[str, Any], count: int) -> Sequence[str]:
    known: Sequence[str] = facts.get("classes") or ()
    return [*known, *map(str, range(len(known), count))]


def _colors(facts: Mapping[str, Any], count: int) -> np.ndarray:
    if facts.get("colors"):
        return np.array(facts["colors"], np.uint8)
    return palette()[np.arange(count) % 256]


def _draw_objects(image: np.ndarray, answer: Answer, facts: Mapping[str, Any]) -> np.ndarray:
    from tfseg.predict import draw_detections  # imports TensorFlow
    from tfseg.predict.detections import export_detections

    row = {name: value[0] for name, value in answer.items()}
    if "semantic_png_bytes" in row:
        row["semantic"] = decode_labels(row["semantic_png_bytes"])
    size = (image.shape[0], image.shape[1])
    found = export_detections(row, size, facts.get("style", "detectron2"))
    names = _names(facts, int(found.classes.max(initial=0)) + 1)
    skeleton = [(a, b) for a, b in facts.get("skeleton") or ()]
    return draw_detections(image, found, names, skeleton=skeleton)
