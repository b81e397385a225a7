"""Boxes refined by what else was found around them."""

from typing import Any

from keras import ops

from tfseg.ops.boxes import iou


def vote(
    kept: Any,
    kept_groups: Any,
    boxes: Any,
    scores: Any,
    valid: Any,
    groups: Any,
    threshold: float,
) -> Any:
    """Each kept box as the mean of all boxes around it, weighted by their scores.

    Gidaris, Komodakis, Object detection via a multi-region and semantic segmentation-aware CNN
    model, ICCV 2015, section 4 (box voting), as released with Detectron (utils/boxes.py,
    ``box_voting``): scores stay as they are ("ID"), and the weights are those before suppression.

    Args:
        kept: float32 (B, D, 4).
        kept_groups: integers (B, D).
        boxes: float32 (B, N, 4), the kept ones among them.
        scores: float32 (B, N).
        valid: bool (B, N): the others do not vote.
        groups: integers (B, N): only boxes of the same group (a class) vote.
        threshold: the least IoU of a box that votes.

    Returns:
        float32 (B, D, 4). A box without area, which overlaps nothing, stays.
    """
    votes = ops.logical_and(
        iou(kept, boxes) >= threshold, kept_groups[:, :, None] == groups[:, None]
    )
    weights = ops.where(ops.logical_and(votes, valid[:, None]), scores[:, None], 0.0)
    total = ops.sum(weights, axis=-1)
    # Sums, not a product of matrices, which an accelerator may round.
    sums = [ops.sum(weights * boxes[:, None, :, i], axis=-1) for i in range(4)]
    means = ops.divide_no_nan(ops.stack(sums, axis=-1), total[..., None])
    return ops.where(total[..., None] > 0, means, kept)
