"""Reads any weight file, and tells whose names it has."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from tfseg.weights import caffe, detectron_pkl, keras_h5, tensors, torch_legacy, torch_zip
from tfseg.weights.common import WeightsError, open_zip

_TORCH_LEAVES = {"weight", "bias", "running_mean", "running_var"}
_CAFFE_LEAVES = {"0", "1", "mean", "var"}
_KERAS_LEAVES = {"kernel", "depthwise_kernel", "moving_mean", "moving_variance"}
_DETECTRON2 = (
    *("backbone.bottom_up.", "backbone.res", "backbone.stem.", "proposal_generator."),
    *("stem.conv1.", "res2.0."),  # its ImageNet trunks
)
#: Megvii's ShuffleNets, as torch.nn.DataParallel names them and without
_MEGVII = ("module.first_conv.", "first_conv.")
#: Caffe2's first convolution, in files of the first Detectron
_DETECTRON = "conv1_w"


def guess_origin(names: Iterable[str]) -> str | None:
    """Whose checkpoint has such names.

    Args:
        names: of the checkpoint's arrays.

    Returns:
        "caffe", "torchvision", "detectron2", "detectron" (the first), "megvii", "keras" or None.
    """
    names = list(names)
    if any(name.startswith(_DETECTRON2) for name in names):
        return "detectron2"
    if any(name.startswith(_MEGVII) for name in names):
        return "megvii"
    if _DETECTRON in names:
        return "detectron"
    leaves = {name.rpartition("/")[2] for name in names if "/" in name}
    if leaves & _KERAS_LEAVES:
        return "keras"
    if leaves & _CAFFE_LEAVES:
        return "caffe"
    if {name.rpartition(".")[2] for name in names} & _TORCH_LEAVES:
        return "torchvision"
    return None


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(512)
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}") from error


def _read_torch(path: Path, head: bytes) -> dict[str, np.ndarray]:
    """A file of torch that is no zip archive."""
    if torch_legacy.is_legacy(head):
        return torch_legacy.read(path)
    if head[257:262] == b"ustar":
        raise WeightsError(
            f"{path} is of torch's tar format before 0.1.10: torchvision has since released these "
            "weights anew, under a name with another hash; or re-save the file with torch"
        )
    raise WeightsError(f"{path} is of no format of torch's, neither of 1.6 nor of before")


def _read_zip(path: Path) -> dict[str, np.ndarray]:
    with open_zip(path) as file:
        plain = all(name.endswith(".npy") for name in file.namelist())
    return tensors.read_npz(path) if plain else torch_zip.read(path)


def read_weights(path: str | Path) -> tuple[dict[str, np.ndarray], str | None]:
    """Reads a weight file of any known format; no format's reader runs code from the file.

    Known are Caffe's .caffemodel, torch's .pth and .pt of both its formats, .pkl of Detectron and
    detectron2, .safetensors, .npz, and Keras' .weights.h5 and .h5.

    Args:
        path: the file; its content decides the format where it can be told, its extension else.

    Returns:
        {name: array} in the reference's own names and layout, and the origin that the names look
        like, as `guess_origin` has them, or "tfseg".

    Raises:
        WeightsError: if the file is missing, of no known format, cut off or inconsistent.
    """
    path = Path(path)
    head = _head(path)
    if head.startswith(b"PK\x03\x04"):
        arrays = _read_zip(path)
    elif head.startswith(b"\x89HDF\r\n\x1a\n"):
        return keras_h5.read(path), "keras"
    elif torch_legacy.is_legacy(head) or path.suffix in (".pth", ".pt"):
        arrays = _read_torch(path, head)
    elif path.suffix == ".pkl":
        arrays = detectron_pkl.read(path)
    elif path.suffix == ".safetensors":
        arrays, own = tensors.read_safetensors(path)
        return arrays, "tfseg" if own else guess_origin(arrays)
    elif path.suffix == ".caffemodel":
        return caffe.read(path), "caffe"
    elif path.suffix == ".h5":
        arrays = keras_h5.read(path)
    elif path.suffix == ".npz":
        arrays = tensors.read_npz(path)
    else:
        raise WeightsError(
            f"{path} is of no known format: expected .caffemodel, .pth, .pt, .pkl, .safetensors, "
            ".npz or .h5"
        )
    return arrays, guess_origin(arrays)
