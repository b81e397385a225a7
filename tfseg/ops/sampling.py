"""Random samples of fixed size, balanced between positives and negatives."""

from typing import Any

import keras
from keras import ops

from tfseg.ops.nms import top_k


def balanced_sample(
    labels: Any, count: int, positive_fraction: float, seed: Any
) -> tuple[Any, Any, Any]:
    """Draws positives and negatives at random, without replacement.

    As detectron2's subsample_labels: as many positives as there are, up to ``count *
    positive_fraction`` rounded down, then negatives up to ``count``. Positives come first, then
    negatives, then slots that are not used, so the positives are all within the first
    ``int(count * positive_fraction)`` slots.

    Args:
        labels: int32 (B, N), 1, 0 or -1: positive, negative or neither.
        count: slots wanted, S.
        positive_fraction: the share that positives may have, at most.
        seed: a keras.random.SeedGenerator, or an integer for the same choice every time.

    Returns:
        index: int32 (B, S) into N; 0 in unused slots.
        positive: bool (B, S).
        valid: bool (B, S), false in unused slots.
    """
    keys = keras.random.uniform(ops.shape(labels), seed=seed)
    first, chosen = top_k(keys, labels == 1, int(count * positive_fraction))
    then, spare = top_k(keys, labels == 0, count)
    number = ops.sum(ops.cast(chosen, "int32"), axis=-1, keepdims=True)
    total = number + ops.sum(ops.cast(spare, "int32"), axis=-1, keepdims=True)
    slot = ops.arange(count, dtype="int32")[None]
    positive, valid = slot < number, slot < total
    # The slots' places in both lists, one behind the other.
    place = ops.where(positive, slot, slot - number + first.shape[-1])
    index = ops.take_along_axis(ops.concatenate([first, then], axis=-1), place, axis=-1)
    return ops.where(valid, index, 0), positive, valid
