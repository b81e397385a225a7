"""One meaning of logits for networks of one output channel and of several."""

from typing import Any

from keras import ops


def class_logits(logits: Any) -> Any:
    """Logits of classes, of which there are at least two.

    A network of one channel z scores class 1, the foreground, by a sigmoid. Softmax over (0, z)
    is (1 - sigmoid(z), sigmoid(z)): with a background of logit 0 it is a network of two classes.

    Args:
        logits: (..., C).

    Returns:
        (..., 2) for C = 1, else ``logits``.
    """
    if logits.shape[-1] != 1:
        return logits
    return ops.concatenate([ops.zeros_like(logits), logits], axis=-1)
