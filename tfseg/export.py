"""Models as SavedModels: decoding, preprocessing, network and softmax in one signature."""

import json
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras.export import ExportArchive

from tfseg.predict.graph import WholeImage, decode
from tfseg.registry import Preprocessing
from tfseg.version import __version__


def export(
    model: keras.Model,
    directory: str | Path,
    *,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None = None,
    colors: np.ndarray | None = None,
    version: int | None = None,
) -> Path:
    """Writes ``directory/<version>/``, as TensorFlow Serving reads models.

    Signatures, each with any batch size and any image size that the model takes (a U-Net of
    valid convolutions takes sides of 16 k + 60 and answers for their centre, 184 less; a dilation
    network sides of 8 k + 372, for k cells; the tiling around them, a CRF and a boost of rare
    labels stay with `tfseg.predict`):

    - ``serving_default``: "image_bytes", string (B,) of JPEG or PNG files. The images of a batch
      must have one size. EXIF orientations are not applied.
    - ``tensors``: "images", float32 (B, H, W, 3) RGB, or (B, H, W, 1) for a gray network, 0..255.
    - ``tensors_uint8``: the same as uint8, a quarter of the bytes to send.

    All answer "labels" int32 (B, H, W) and "probabilities" float32 (B, H, W, num_classes).
    ``assets.extra/tfseg.json`` tells the classes, colours, preprocessing and versions.

    Args:
        model: a semantic model; see `tfseg.predict.WholeImage`.
        directory: the model's own folder, as in ``saved_models/<name>``.
        preprocessing: the model's.
        classes: names by class id.
        colors: uint8 (num_classes, 3).
        version: a positive integer; None: one more than the highest there.

    Returns:
        The folder written. It appears under this name only when it is complete.

    Raises:
        FileExistsError: if that version exists.
        ValueError: for a version below 1, or names or colours that are not as many as the classes.
    """
    network = WholeImage(model, preprocessing)
    for what, given in (("classes", classes), ("colors", colors)):
        if given is not None and len(given) != network.num_classes:
            raise ValueError(
                f"{what} has {len(given)} entries, the model {network.num_classes} classes"
            )
    facts = _facts(network, classes, colors)
    return write_version(directory, version, lambda: _archive(network), facts)


def write_version(
    directory: str | Path,
    version: int | None,
    archive: Callable[[], ExportArchive],
    facts: dict[str, Any],
) -> Path:
    """Writes an archive and its facts as ``directory/<version>/``, all of it or nothing.

    Args:
        directory: the model's own folder.
        version: a positive integer; None: one more than the highest there.
        archive: makes it with its endpoints, which takes time.
        facts: what becomes ``assets.extra/tfseg.json``; the packages' versions are added.

    Returns:
        The folder written.

    Raises:
        FileExistsError: if that version exists.
        ValueError: for a version below 1.
    """
    directory = Path(directory)
    target = directory / str(_next_version(directory) if version is None else version)
    if version is not None and version < 1:
        raise ValueError(f"version must be a positive integer, not {version!r}")
    if target.exists():
        raise FileExistsError(f"{target} exists; give another version or remove it first")
    directory.mkdir(parents=True, exist_ok=True)
    partial = Path(tempfile.mkdtemp(prefix=".partial-", dir=directory))
    versions = {"tfseg": __version__, "tensorflow": tf.__version__, "keras": keras.__version__}
    try:
        archive().write_out(partial, verbose=False)
        extra = partial / "assets.extra"
        extra.mkdir()
        text = json.dumps(facts | versions, indent=2)
        (extra / "tfseg.json").write_text(text + "\n", encoding="utf-8")
        partial.chmod(0o755)  # mkdtemp's folder is its owner's alone
        partial.rename(target)
    except BaseException:
        shutil.rmtree(partial)
        raise
    return target


def _next_version(directory: Path) -> int:
    found = directory.iterdir() if directory.is_dir() else ()
    return max((int(p.name) for p in found if p.name.isdecimal()), default=0) + 1


def _archive(network: WholeImage) -> ExportArchive:
    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        probabilities = network.probabilities(images)
        labels = tf.argmax(probabilities, axis=-1, output_type=tf.int32)
        return {"labels": labels, "probabilities": probabilities}

    def answer_bytes(image_bytes: tf.Tensor) -> dict[str, tf.Tensor]:
        return answer(decode(image_bytes))

    channels = network.preprocessing.num_channels
    shape = (None, *network.input_size, channels)
    archive = ExportArchive()
    archive.track(network.model)
    for name, function, spec in (
        ("serving_default", answer_bytes, tf.TensorSpec((None,), tf.string, name="image_bytes")),
        ("tensors", answer, tf.TensorSpec(shape, tf.float32, name="images")),
        ("tensors_uint8", answer, tf.TensorSpec(shape, tf.uint8, name="images")),
    ):
        archive.add_endpoint(name, function, input_signature=[spec])
    return archive


def _facts(
    network: WholeImage, classes: Sequence[str] | None, colors: np.ndarray | None
) -> dict[str, Any]:
    return {
        "model": network.model.name,
        "num_classes": network.num_classes,
        "classes": None if classes is None else list(classes),
        "colors": None if colors is None else np.asarray(colors).tolist(),
        "preprocessing": asdict(network.preprocessing),
    }


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
    channels = preprocessing.num_channels
    worst = 0.0
    for image in images:
        expected = network.probabilities(image[None]).numpy()
        answers = [signatures["serving_default"](image_bytes=tf.io.encode_png(image)[None])]
        if image.shape[2] <= channels:  # the signature of a gray network takes no colours
            batch = tf.broadcast_to(image, (1, *image.shape[:2], channels))
            answers.append(signatures["tensors_uint8"](images=batch))
        for answer in answers:
            served = answer["probabilities"].numpy()
            if served.shape != expected.shape:
                raise ValueError(f"{path} answers {served.shape}, expected {expected.shape}")
            worst = max(worst, float(np.abs(served - expected).max()))
    return worst
