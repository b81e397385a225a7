"""From an 8-bit image to a network's input."""

from typing import Any

from tfseg.registry import Preprocessing


def preprocess(image: Any, preprocessing: Preprocessing) -> Any:
    """Channel order, mean and scale of a network's input.

    Written with operators alone, so that it takes NumPy arrays and tensors of any backend, in
    a tf.data pipeline, an exported graph or an eager call.

    Args:
        image: float (..., H, W, 3) RGB or (..., H, W, 1) gray, 0..255.
        preprocessing: the model's, ``model.spec.preprocessing``.

    Returns:
        float (..., H, W, preprocessing.num_channels).

    Raises:
        ValueError: if the image has neither 1 nor 3 channels.
    """
    channels = image.shape[-1]
    if channels not in (1, 3):
        raise ValueError(f"an image has 1 or 3 channels, this one {channels}")
    if preprocessing.channels == "gray":
        if channels == 3:  # ITU-R 601 luma
            r, g, b = (image[..., i : i + 1] for i in range(3))
            image = 0.299 * r + 0.587 * g + 0.114 * b
        mean, std = preprocessing.mean[0], preprocessing.std[0]
        return (image - mean) / std
    if preprocessing.channels == "bgr":
        image = image[..., ::-1]
    # (..., 1) broadcasts to three channels here
    return (image - list(preprocessing.mean)) / list(preprocessing.std)
