"""Which ground truth an anchor or a proposal is taught, as Faster R-CNN assigns them."""

from typing import Any

from keras import ops


def match(
    overlaps: Any,
    valid: Any,
    thresholds: tuple[float, float],
    *,
    allow_low_quality: bool = False,
) -> tuple[Any, Any]:
    """Matches each box with the ground truth that it overlaps most.

    As detectron2's Matcher with labels (0, -1, 1), but for one case: a ground truth that meets no
    box at all is there "best" met, with 0, by every box, and all would become positive; here it
    matches none.

    Args:
        overlaps: float32 (..., G, N), at least 0: intersection over union of ground truths and
            boxes.
        valid: bool (..., G), the ground truths that may be matched.
        thresholds: a box whose best overlap is less than the first is negative, one whose best
            reaches the second is positive; between them it is neither.
        allow_low_quality: also the boxes that overlap a ground truth most, ties included, are
            positive, however little it is (Faster R-CNN, section 3.1.2, case (i)). Their index
            is still that of the ground truth that they themselves overlap most.

    Returns:
        index: int32 (..., N), the ground truth of the highest overlap; the first of equals, and
            0 where none is valid.
        labels: int32 (..., N), 1, 0 or -1: positive, negative or neither.
    """
    overlaps = ops.where(valid[..., None], overlaps, -1.0)
    best = ops.max(overlaps, axis=-2)
    low, high = thresholds
    positive = best >= high
    if allow_low_quality:
        most = ops.max(overlaps, axis=-1, keepdims=True)
        low_quality = ops.logical_and(overlaps == most, most > 0)
        positive = ops.logical_or(positive, ops.any(low_quality, axis=-2))
    labels = ops.where(positive, 1, ops.where(best < low, 0, -1))
    return ops.cast(ops.argmax(overlaps, axis=-2), "int32"), ops.cast(labels, "int32")
