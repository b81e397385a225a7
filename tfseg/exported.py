"""SavedModels that `tfseg export` has written: found, loaded, asked."""

import base64
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from PIL import Image

from tfseg import config
from tfseg.data.io import write_label_png
from tfseg.detection import make_combiner
from tfseg.ops.panoptic import rgb_from_ids
from tfseg.predict.detection_files import coco_results, image_id
from tfseg.predict.detections import export_detections
from tfseg.predict.panoptic import Combiner
from tfseg.predict.panoptic_files import segments_info
from tfseg.saved_model import INFO
from tfseg.visualize import palette


def version_folder(path: Path) -> Path:
    """The version folder that a path is or has; of several the newest.

    Raises:
        FileNotFoundError: if there is none.
    """
    if (path / "saved_model.pb").exists():
        return path
    versions = [p for p in path.glob("*") if p.name.isdecimal()]
    newest = max(versions, key=lambda p: int(p.name), default=path)
    for file in ("saved_model.pb", f"assets.extra/{INFO}"):
        if not (newest / file).exists():
            raise FileNotFoundError(
                f"{newest / file} is missing: give the folder of a SavedModel that tfseg export "
                "wrote, that of its versions, or a run folder"
            )
    return newest


def export_combiner(
    category_ids: Sequence[int] | None,
    names: Sequence[str],
    stuff: Mapping[Any, str] | None,
    section: config.Combine | None = None,
) -> Combiner | None:
    """What combines a panoptic model's objects and labels; None of other models."""
    if category_ids is None or not stuff:
        return None
    things = dict(zip(category_ids, names, strict=True))
    kinds = {int(number): name for number, name in stuff.items()}
    return make_combiner(section or config.Combine(), things, kinds)


class LoadedExport:
    """An export as it is, with what its model_info.json says.

    Attributes:
        info: the content of that file.
        names: by class; numbers where the export has none.
        colors: uint8 (num_classes, 3) of a semantic model; None: it has none of its own.
        combiner: of a panoptic model.
        is_semantic: whether it labels pixels alone.
    """

    def __init__(self, path: Path) -> None:
        """Loads the export of a version folder."""
        self.info = json.loads((path / "assets.extra" / INFO).read_text(encoding="utf-8"))
        self._model = tf.saved_model.load(str(path))  # alive as long as its signature is used
        self._serve = self._model.signatures["serving_default"]
        self.is_semantic = "probabilities" in self._serve.structured_outputs
        count, colors = self.info["num_classes"], self.info.get("colors")
        self.names = self.info["classes"] or [str(label) for label in range(count)]
        self.colors = None if colors is None else np.array(colors, np.uint8)
        self.combiner = export_combiner(
            self.info.get("category_ids"), self.names, self.info.get("stuff")
        )

    def __call__(self, images: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
        """What the signature of files answers to images uint8 (H, W, 3) or (H, W, 1)."""
        # Of this signature gray networks take colours, too.
        files = tf.stack([tf.io.encode_png(image, compression=1) for image in images])
        return {name: value.numpy() for name, value in self._serve(image_bytes=files).items()}


class ExportedModel:
    """An export, whose answers are what `tfseg predict` writes, as JSON has it."""

    def __init__(self, path: Path, score_threshold: float) -> None:
        """Loads the export.

        Args:
            path: see `version_folder`.
            score_threshold: only objects of a higher score are given.
        """
        self._export, self._threshold = LoadedExport(version_folder(path)), score_threshold
        colors = self._export.colors
        self._colors = palette(len(self._export.names)) if colors is None else colors

    def __call__(self, images: Sequence[np.ndarray], names: Sequence[str]) -> list[dict[str, Any]]:
        """The answers to images of one size, each what JSON holds.

        Args:
            images: uint8 (H, W, 3) or (H, W, 1).
            names: of their files, without suffix.

        Returns:
            Of a semantic model "labels_png", a PNG as `tfseg predict` writes it, in base64. Of a
            detector "results", the image's part of detections.json; of a panoptic one also
            "panoptic_png" and "segments_info", as in panoptic.json.

        Raises:
            tf.errors.InvalidArgumentError: a size that the network does not take.
        """
        arrays = self._export(images)
        if self._export.is_semantic:
            pairs = zip(arrays["labels"], arrays["sizes"], strict=True)
            return [self._labels(one[:h, :w]) for one, (h, w) in pairs]
        size = (images[0].shape[0], images[0].shape[1])
        return [
            self._objects({key: value[row] for key, value in arrays.items()}, size, name)
            for row, name in enumerate(names)
        ]

    def _labels(self, labels: np.ndarray) -> dict[str, Any]:
        out = io.BytesIO()
        write_label_png(out, labels, self._colors if len(self._colors) <= 256 else None)
        return {"labels_png": _text(out)}

    def _objects(
        self, answer: Mapping[str, np.ndarray], size: tuple[int, int], name: str
    ) -> dict[str, Any]:
        info, combiner = self._export.info, self._export.combiner
        objects = export_detections(answer, size, info["style"]).above(self._threshold)
        ids = info.get("category_ids")
        found: dict[str, Any] = {
            "image_id": image_id(name),
            "results": coco_results(objects, name, self._export.names, ids),
        }
        if combiner is not None:
            numbers, segments = combiner(objects)
            out = io.BytesIO()
            Image.fromarray(rgb_from_ids(numbers)).save(out, format="PNG")
            found |= {"panoptic_png": _text(out), "segments_info": segments_info(segments)}
        return found


def _text(file: io.BytesIO) -> str:
    return base64.b64encode(file.getvalue()).decode("ascii")
