"""Semantic models as single files: TensorFlow Lite and ONNX."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfseg.export import label_images, semantic_info
from tfseg.predict.graph import WholeImage
from tfseg.registry import Preprocessing
from tfseg.saved_model import describe, write_info, write_version

#: formats and the name of the file
FILES = {"tflite": "model.tflite", "onnx": "model.onnx"}
#: of the operators; ONNX Runtime has read it since 1.14
OPSET = 18


def export_file(
    model: keras.Model,
    directory: str | Path,
    *,
    format: str,
    preprocessing: Preprocessing,
    classes: Sequence[str] | None = None,
    colors: np.ndarray | None = None,
    version: int | None = None,
    info: Mapping[str, Any] | None = None,
) -> Path:
    """Writes ``directory/<version>/`` with model.tflite or model.onnx, and model_info.json.

    The file holds preprocessing, network and softmax in float32: "images", float32 (B, H, W, 3)
    RGB or (B, H, W, 1) for a gray network, 0..255, become "labels", int32 (B, H, W), and
    "probabilities", float32 (B, H, W, num_classes). B, H and W are free, as far as the network's
    own sizes are; for TensorFlow Lite they are set with ``resize_tensor_input``.

    Args:
        model: a semantic model in float32; see `tfseg.predict.WholeImage`.
        directory: the model's own folder, other than that of its SavedModels.
        format: "tflite", or "onnx", which needs ``pip install 'tfseg[onnx]'``.
        preprocessing: the model's.
        classes: names by class id.
        colors: uint8 (num_classes, 3).
        version: a positive integer; None: one more than the highest there.
        info: further entries of ``model_info.json``, as training scores.

    Returns:
        The folder written. It appears under this name only when it is complete.

    Raises:
        FileExistsError: if that version exists.
        ImportError: if the packages for ONNX are missing.
        ValueError: an unknown format, a model that computes in another type, what `export` finds
            wrong, or a network that the format has no operators for; the message names them.
    """
    if format not in FILES:
        raise ValueError(f"unknown format {format!r}; there are {', '.join(FILES)}")
    if model.compute_dtype != "float32":
        raise ValueError(f"{format} files are of float32, {model.name!r} is {model.compute_dtype}")
    convert = _tflite if format == "tflite" else _onnx()
    network = WholeImage(model, preprocessing)
    facts = semantic_info(network, classes, colors, info, format=format)
    name = Path(directory).resolve().name

    def write(folder: Path) -> None:
        function = _function(network)
        outputs = function.get_concrete_function().structured_outputs
        facts["inputs"] = {"images": describe(function.input_signature[0])}
        facts["outputs"] = {key: describe(outputs[key]) for key in sorted(outputs)}
        try:
            content = convert(function)
        except Exception as error:  # the converters' own, of many kinds
            raise ValueError(
                f"{model.name!r} cannot be written as {format}: {_reason(error)}"
            ) from error
        (folder / FILES[format]).write_bytes(content)
        write_info(folder, name, facts)

    return write_version(directory, version, write)


def refuse_detector(model: str, format: str) -> None:
    """Raises ValueError: what finds objects is exported as a SavedModel alone."""
    raise ValueError(
        f"{model!r} finds objects and cannot be written as {format}: the format has no operators "
        "for parts of it (RoIAlign's UpperBound); export it as a SavedModel"
    )


def _function(network: WholeImage) -> Any:
    """The whole way from images to labels, as a `tf.function`."""

    def answer(images: tf.Tensor) -> dict[str, tf.Tensor]:
        return label_images(network, images)

    shape = (None, *network.input_size, network.preprocessing.num_channels)
    return tf.function(answer, input_signature=[tf.TensorSpec(shape, tf.float32, name="images")])


def _tflite(function: Any) -> bytes:
    concrete = function.get_concrete_function()
    # With the function, whose signature becomes the file's.
    holder = tf.Module()
    holder.serve = function
    content: bytes = tf.lite.TFLiteConverter.from_concrete_functions([concrete], holder).convert()
    return content


def _onnx() -> Callable[[Any], bytes]:
    """What converts to ONNX; raises ImportError before any work if it is missing."""
    try:
        import onnx
        from tf2onnx import convert
    except ImportError as error:
        raise ImportError("exports to ONNX need pip install 'tfseg[onnx]'") from error

    def to_onnx(function: Any) -> bytes:
        signature = function.input_signature
        found, _ = convert.from_function(function, input_signature=signature, opset=OPSET)
        onnx.checker.check_model(found)
        content: bytes = found.SerializeToString()
        return content

    return to_onnx


def _reason(error: Exception) -> str:
    """The line of a converter's message that tells most."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    named = [line for line in lines if line.startswith(("TF Select ops:", "Custom ops:"))]
    if named:
        return "no operators for " + ", ".join(named)
    return lines[0] if lines else type(error).__name__


def check_export_file(
    path: str | Path,
    model: keras.Model,
    images: Sequence[np.ndarray],
    *,
    preprocessing: Preprocessing,
) -> float:
    """Runs an exported file with its format's own runtime and compares it with the model.

    Args:
        path: what `export_file` returned.
        model: the model exported.
        images: uint8 (H, W, C), as the network takes them.
        preprocessing: the model's.

    Returns:
        The largest absolute difference of a probability.

    Raises:
        ValueError: if labels are not those of the largest probability, or there are no images.
    """
    if not images:
        raise ValueError("there are no images to compare an export on")
    path = Path(path)
    run = _tflite_runner(path) if (path / FILES["tflite"]).exists() else _onnx_runner(path)
    network = WholeImage(model, preprocessing)
    worst = 0.0
    for image in images:
        labels, served = run(image[None].astype(np.float32))
        if (labels != served.argmax(-1)).any():
            raise ValueError(f"{path} answers labels that are not of the largest probability")
        expected = network.probabilities(image[None]).numpy()
        worst = max(worst, float(np.abs(served - expected).max()))
    return worst


Runner = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def _tflite_runner(path: Path) -> Runner:
    interpreter = tf.lite.Interpreter(model_path=str(path / FILES["tflite"]))

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        (given,) = interpreter.get_input_details()
        interpreter.resize_tensor_input(given["index"], images.shape)
        interpreter.allocate_tensors()
        interpreter.set_tensor(given["index"], images)
        interpreter.invoke()
        found = [interpreter.get_tensor(d["index"]) for d in interpreter.get_output_details()]
        labels, probabilities = sorted(found, key=lambda values: values.ndim)
        return labels, probabilities

    return run


def _onnx_runner(path: Path) -> Runner:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path / FILES["onnx"]))

    def run(images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        labels, probabilities = session.run(["labels", "probabilities"], {"images": images})
        return labels, probabilities

    return run
