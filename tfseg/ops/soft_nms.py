"""Non-maximum suppression a box at a time: hard, or soft, which lowers scores instead."""

from typing import Any, Literal, get_args

from keras import ops

from tfseg.ops.boxes import iou
from tfseg.ops.nms import rows

SoftNms = Literal["none", "linear", "gaussian"]
METHODS: tuple[SoftNms, ...] = get_args(SoftNms)


def soft_nms(
    boxes: Any,
    scores: Any,
    valid: Any,
    groups: Any,
    *,
    method: SoftNms,
    threshold: float,
    count: int,
    sigma: float = 0.5,
    floor: float = 1e-4,
) -> tuple[Any, Any, Any]:
    """Takes the best box again and again, and lowers the scores of those that overlap it.

    Bodla, Singh, Chellappa, Davis, Soft-NMS, ICCV 2017, figure 2, as released with Detectron
    (utils/cython_nms.pyx). A score is multiplied by 1 - IoU where that exceeds the threshold
    ("linear"), or by exp(-IoU² / sigma) ("gaussian"). "none" is plain suppression, and takes the
    boxes that `tfseg.ops.nms.nms` takes. Its memory grows with the number of boxes, not with
    that of pairs. Of equal scores the first box is taken.

    Args:
        boxes: float32 (B, N, 4).
        scores: float32 (B, N), positive.
        valid: bool (B, N): the others are left out.
        groups: integers (B, N): only boxes of one group (a class) touch each other.
        method: one of METHODS.
        threshold: the IoU that "linear" and "none" let pass.
        count: boxes wanted.
        sigma: of "gaussian".
        floor: a box that soft suppression has lowered below this score is left out.

    Returns:
        Indices int32 (B, count), their scores float32 (B, count), falling, and whether there is
        such a box, bool (B, count).

    Raises:
        ValueError: for another method.
    """
    if method not in METHODS:
        raise ValueError(f"method must be one of {METHODS}, not {method!r}")
    batch, number = ops.shape(scores)[0], ops.shape(scores)[1]
    places, steps = ops.arange(number, dtype="int32"), ops.arange(count, dtype="int32")

    def more(step: Any, alive: Any, *_: Any) -> Any:
        return ops.logical_and(step < count, ops.any(alive))

    def take(step: Any, alive: Any, scores: Any, taken: Any, final: Any, there: Any) -> Any:
        keys = ops.where(alive, scores, -1.0)
        best = ops.cast(ops.argmax(keys, axis=1), "int32")[:, None]
        now = steps[None] == step
        taken = ops.where(now, best, taken)
        final = ops.where(now, rows(scores, best), final)
        there = ops.where(now, rows(alive, best), there)
        overlaps = iou(rows(boxes, best), boxes)[:, 0]
        rivals = ops.logical_and(overlaps > 0, rows(groups, best) == groups)
        if method == "none":
            gone = ops.logical_and(rivals, overlaps > threshold)
        else:
            if method == "linear":
                weight = ops.where(overlaps > threshold, 1.0 - overlaps, 1.0)
            else:
                weight = ops.exp(-(overlaps * overlaps) / sigma)
            scores = ops.where(rivals, scores * weight, scores)
            gone = ops.logical_and(rivals, scores < floor)
        gone = ops.logical_or(gone, places[None] == best)
        return step + 1, ops.logical_and(alive, ops.logical_not(gone)), scores, taken, final, there

    start = (
        ops.convert_to_tensor(0, "int32"),
        valid,
        scores,
        ops.zeros((batch, count), "int32"),
        ops.zeros((batch, count), "float32"),
        ops.zeros((batch, count), "bool"),
    )
    _, _, _, taken, final, there = ops.while_loop(more, take, start)
    return ops.where(there, taken, 0), ops.where(there, final, 0.0), there
