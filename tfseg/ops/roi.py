"""What a head sees of a region: RoIAlign, RoIPool and RoIWarp on the levels of a pyramid."""

import math
from collections.abc import Sequence
from typing import Any

from keras import ops

from tfseg.ops.boxes import area
from tfseg.ops.roi_align import align
from tfseg.ops.roi_pool import max_pool_bins
from tfseg.ops.roi_table import Table, make_table


def whole_cells(table: Table) -> Any:
    """The boxes from the first to the last of their cells, both included, within the map."""
    corners = ops.floor(table.boxes + 0.5)
    last = ops.maximum(corners[:, 2:], corners[:, :2])
    size = ops.cast(ops.stack([table.widths, table.heights], axis=1), "float32")
    return ops.concatenate([corners[:, :2], ops.minimum(last + 1, size)], axis=1)


def check_rule(op: str, reduce: str, sampling_ratio: int) -> None:
    """Checks how regions are to be read; see `pool_regions`.

    Raises:
        ValueError: another op or reduce, or the maximum of an adaptive number of samples.
    """
    if op not in ("align", "pool", "warp") or reduce not in ("average", "max"):
        raise ValueError(
            f"op must be align, pool or warp, and reduce average or max, not {op!r}, {reduce!r}"
        )
    if reduce == "max" and not sampling_ratio and op != "pool":
        raise ValueError("the maximum of samples needs a sampling_ratio above 0")


def pool_regions(
    features: Sequence[Any],
    strides: Sequence[int],
    boxes: Any,
    levels: Any,
    size: int,
    *,
    op: str = "align",
    sampling_ratio: int = 0,
    aligned: bool = True,
    reduce: str = "average",
) -> Any:
    """The features of boxes, each from one level of a pyramid.

    - "align" (Mask R-CNN, section 3; Detectron's and detectron2's RoIAlign): in each of
      size x size bins the average, or the maximum, of bilinear samples.
    - "pool" (Fast R-CNN, section 2.1; Caffe's ROIPooling): the box rounded to cells, and the
      maximum of each bin's cells.
    - "warp" (Dai et al., Instance-aware Semantic Segmentation, 2016; as Mask R-CNN, section 4.3
      compares it): the box rounded to cells like "pool"'s, sampled like "align"'s.

    Args:
        features: float (B, h, w, C), a map a level.
        strides: pixels of a cell, an integer a level.
        boxes: float32 (B, R, 4) in pixels. No gradient flows to them.
        levels: int32 (B, R), index of the level in ``features``.
        size: bins of a side.
        op: "align", "pool" or "warp".
        sampling_ratio: samples of a bin along each side; 0: the bin's side in cells, rounded up.
        aligned: cell i has its centre at i + 0.5 (detectron2's ROIAlignV2). False: at i, and a
            box is at least one cell large (Detectron, torchvision).
        reduce: "average" or "max" of the samples.

    Returns:
        float (B, R, size, size, C).

    Raises:
        ValueError: as `check_rule`.
    """
    check_rule(op, reduce, sampling_ratio)
    table = make_table(features, strides, boxes, levels)
    if op == "pool":
        pooled = max_pool_bins(table, size)
    else:
        if op == "warp":
            table, aligned = table._replace(boxes=whole_cells(table)), True
        pooled = align(table, size, sampling_ratio, aligned, reduce)
    return ops.reshape(pooled, (*ops.shape(boxes)[:2], size, size, features[0].shape[-1]))


def pyramid_levels(boxes: Any, lowest: int, highest: int, epsilon: float = 1e-8) -> Any:
    """Which level of a feature pyramid a box is read from (Lin et al., 2017, equation 1).

    Level 4 holds boxes of 224 x 224, as in ImageNet training.

    Args:
        boxes: float32 (..., 4) in pixels.
        lowest: the finest level, mostly 2.
        highest: the coarsest, mostly 5.
        epsilon: added to the logarithm: 1e-8 in detectron2, 1e-6 in torchvision.

    Returns:
        int32 (...), counted from 0 at the finest.
    """
    size = ops.sqrt(area(boxes))
    level = ops.floor(4 + ops.log(size / 224 + 1e-30) / math.log(2.0) + epsilon)
    return ops.cast(ops.clip(level, lowest, highest), "int32") - lowest
