"""The scores of COCO's stuff segmentation challenge of 2017."""

from collections.abc import Sequence

import numpy as np


def stuff_scores(matrix: np.ndarray, supercategories: Sequence[str]) -> dict[str, float]:
    """The eight scores of the leaderboard, from one confusion matrix of the whole data set.

    As cocostuffapi, PythonAPI/pycocotools/cocostuffeval.py, computes them. Classes without true
    pixels are left out of all means, also where they are predicted (`ConfusionMatrix` scores
    those 0, as FCN does). A supercategory's counts are the sums over its classes.

    Args:
        matrix: integer (num_classes, num_classes); rows are true classes, columns predicted ones.
        supercategories: that of each class.

    Returns:
        ``stuff_mean_iou``, ``stuff_frequency_weighted_iou``, ``stuff_mean_accuracy``,
        ``stuff_pixel_accuracy`` over the classes (the leaderboard's mIoU, fIoU, mACC, pACC), and
        the same with ``stuff_super_`` over the supercategories (mIoUS to pACCS), all in 0..1.

    Raises:
        ValueError: if no pixel was scored, or there are not as many supercategories as classes.
    """
    if matrix.shape != (len(supercategories),) * 2:
        raise ValueError(f"{len(supercategories)} supercategories for a matrix {matrix.shape}")
    if not matrix.any():
        raise ValueError("no pixel was scored")
    names = sorted(set(supercategories))
    member = np.array([[s == name for s in supercategories] for name in names], np.int64)
    return _means("stuff_", matrix) | _means("stuff_super_", member @ matrix @ member.T)


def _means(prefix: str, matrix: np.ndarray) -> dict[str, float]:
    present = matrix.sum(1) > 0
    hits = np.diag(matrix)[present]
    true, predicted = matrix.sum(1)[present], matrix.sum(0)[present]
    iou = hits / (true + predicted - hits)
    return {
        f"{prefix}mean_iou": float(iou.mean()),
        f"{prefix}frequency_weighted_iou": float((iou * true).sum() / true.sum()),
        f"{prefix}mean_accuracy": float((hits / true).mean()),
        f"{prefix}pixel_accuracy": float(hits.sum() / true.sum()),
    }
