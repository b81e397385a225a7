"""Whether the contenders did the same work, and how long each part of it took."""

from typing import Any

import numpy as np
from tabulate import tabulate

#: overlap from which two boxes of one class are the same detection
_OVERLAP = 0.9


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union of boxes (N, 4) and (M, 4), (N, M)."""
    low, high = (
        np.maximum(a[:, None, :2], b[None, :, :2]),
        np.minimum(a[:, None, 2:], b[None, :, 2:]),
    )
    shared = np.maximum(high - low, 0).prod(-1)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(-1) for boxes in (a, b)]
    return shared / (areas[0][:, None] + areas[1][None] - shared)


def compare(first: dict[str, Any], second: dict[str, Any]) -> dict[str, float]:
    """How the detections of two contenders differ.

    Args:
        first: "boxes", "scores" and "classes", lists of D.
        second: the same.

    Returns:
        ``matched``, the share of the first's that the second has too, each with the box of its
        class that overlaps it most, and of these the largest differences ``box_pixels`` and
        ``score``.
    """
    boxes, scores, classes = (
        [np.array(found[name]) for found in (first, second)]
        for name in ("boxes", "scores", "classes")
    )
    if not len(scores[0]) or not len(scores[1]):
        return {"matched": 0.0, "box_pixels": 0.0, "score": 0.0}
    overlaps = _overlaps(*boxes) * (classes[0][:, None] == classes[1][None])
    twin, same = overlaps.argmax(1), overlaps.max(1) > _OVERLAP
    apart = [np.abs(values[0] - values[1][twin])[same] for values in (boxes, scores)]
    return {
        "matched": float(same.mean()),
        "box_pixels": float(apart[0].max(initial=0.0)),
        "score": float(apart[1].max(initial=0.0)),
    }


def agreement(rows: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """How the first contender's results differ from each other one's, by name.

    Of inference see `compare`; of training the relative difference of each part of the loss,
    which regions drawn at random change. The rows lose their ``detections`` and get their number.
    """
    first, *others = rows
    if "losses" in first:
        return {
            row["name"]: {
                name: abs(own - row["losses"][name]) / max(abs(row["losses"][name]), 1e-12)
                for name, own in first["losses"].items()
            }
            for row in others
        }
    found = [row["detections"] for row in rows]
    for row in rows:
        row["detections"] = len(row["detections"]["scores"])
    return {row["name"]: compare(found[0], own) for row, own in zip(others, found[1:], strict=True)}


def table(result: dict[str, Any]) -> str:
    """Agreement and parts for people."""
    rows = result["contenders"]
    lines = [""]
    for row in rows:
        if "losses" in row:
            shown = ", ".join(f"{name} {value:.4g}" for name, value in row["losses"].items())
            lines.append(f"{row['name']}: losses {shown}")
        else:
            proposals = f" from {row['proposals']} proposals" if row["parts"] else ""
            lines.append(f"{row['name']}: {row['detections']} detections{proposals}")
    for name, differences in result["agreement"].items():
        shown = ", ".join(f"{key} {value:.2g}" for key, value in differences.items())
        lines.append(f"{rows[0]['name']} beside {name}: {shown}")
    if rows[0]["parts"]:
        names = [row["name"] for row in rows]
        cells = [[part, *(1000 * row["parts"][part] for row in rows)] for part in rows[0]["parts"]]
        lines += ["", tabulate(cells, ["part, ms", *names], floatfmt=".1f")]
    return "\n".join(lines)
