"""COCO's average precision of boxes, masks and keypoints, as pycocotools computes it."""

import contextlib
import importlib.util
import io
import json
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
from tabulate import tabulate

from tfseg.metrics.coco_checks import KINDS, checked_result, checked_truth, image_sizes

Kind = Literal["bbox", "segm", "keypoints"]
Evaluator = Literal["auto", "pycocotools", "hotcoco"]

# The figures in the order of COCOeval.summarize.
_FIGURES = (
    *("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large"),
    *("ar1", "ar10", "ar100", "ar_small", "ar_medium", "ar_large"),
)
_KEYPOINT_FIGURES = (
    *("ap", "ap50", "ap75", "ap_medium", "ap_large"),
    *("ar", "ar50", "ar75", "ar_medium", "ar_large"),
)
_NAMES = {
    "bbox": [f"box_{name}" for name in _FIGURES],
    "segm": [f"mask_{name}" for name in _FIGURES],
    "keypoints": [f"keypoint_{name}" for name in _KEYPOINT_FIGURES],
}
_PARTS: dict[str, tuple[str, ...]] = {
    "bbox": ("bbox",),
    # With its box, the box's area would tell small masks from large ones.
    "segm": ("segmentation",),
    "keypoints": ("keypoints", "bbox"),
}

# pycocotools, cocoeval.py, Params.setKpParams.
COCO_SIGMAS = (
    *(0.026, 0.025, 0.025, 0.035, 0.035),  # nose, eyes, ears
    *(0.079, 0.079, 0.072, 0.072, 0.062, 0.062),  # shoulders, elbows, wrists
    *(0.107, 0.107, 0.087, 0.087, 0.089, 0.089),  # hips, knees, ankles
)


class CocoScores:
    """Collects an image's detections at a time and scores them all.

    The figures are those of COCO's server (cocodataset.org/#detection-eval): average precision
    at 101 recalls, over IoU (of keypoints: OKS) 0.5 to 0.95 and the classes, the 100 (20) best
    detections an image. Crowd regions match any number of detections and count for nothing.
    Images without an `update` have no detections. Files of LVIS are scored in the same way, not by
    LVIS' federated rules.

    As in detectron2's evaluation/coco_evaluation.py, what is "small", "medium" and "large" is told
    by the mask's area for masks, and by the box's area for keypoints, where results have boxes
    (else by the area that the keypoints span).

    Attributes:
        evaluator: what computes the scores, "pycocotools" or "hotcoco"; the figures are equal.
    """

    def __init__(
        self,
        truth: Mapping[str, Any] | Path,
        category_ids: Sequence[int],
        class_names: Sequence[str],
        kinds: Sequence[Kind] = ("bbox", "segm"),
        *,
        oks_sigmas: Sequence[float] = COCO_SIGMAS,
        evaluator: Evaluator = "auto",
    ) -> None:
        """Checks the truth.

        Args:
            truth: in COCO's format, or a JSON file of it: "images" (id, height, width),
                "categories" (id) and "annotations" (image_id, category_id, bbox, area, iscrowd,
                and of the kinds segmentation, keypoints).
            category_ids: the truth's category ids, by class. Other categories are not scored.
            class_names: their names.
            kinds: what is scored.
            oks_sigmas: how exactly each keypoint can be annotated, relative to the object's
                size (cocodataset.org/#keypoints-eval); by default those of COCO's 17.
            evaluator: "auto" takes hotcoco where it is installed.

        Raises:
            ValueError: options or a truth that cannot be scored; see `checked_truth`.
            ModuleNotFoundError: if the evaluator is not installed.
        """
        unknown = [kind for kind in kinds if kind not in KINDS]
        if unknown or not kinds:
            raise ValueError(f"kinds must be of {', '.join(KINDS)}, not {list(kinds)}")
        if len(category_ids) != len(class_names):
            raise ValueError(f"{len(class_names)} class names for {len(category_ids)} categories")
        content = json.loads(truth.read_bytes()) if isinstance(truth, Path) else truth
        self.evaluator = _choose(evaluator)
        self._category_ids, self._class_names = tuple(category_ids), tuple(class_names)
        self._kinds = tuple(kinds)
        self._sigmas = tuple(oks_sigmas)
        self._truth = checked_truth(content, category_ids, kinds, len(self._sigmas))
        self._sizes = image_sizes(content)
        self._results: dict[int, list[dict[str, Any]]] = {}
        self._scores: dict[str, tuple[list[float], list[float]]] = {}

    def update(self, image_id: int, results: Iterable[Mapping[str, Any]]) -> None:
        """Adds an image's detections.

        Args:
            image_id: of the truth's.
            results: in the format of COCO's results, with their categories and what the kinds
                need: "bbox" (x, y, width, height), "segmentation" (compressed RLE),
                "keypoints" (x, y, score of each; pixel indices, 0.5 less than continuous
                coordinates). ``Detections.to_coco`` gives it.

        Raises:
            ValueError: an unknown image, one that was added before, or a result that cannot be
                scored; see `checked_result`.
        """
        if image_id not in self._sizes:
            raise ValueError(f"the truth has no image {image_id!r}")
        if image_id in self._results:
            raise ValueError(f"image {image_id} was added before")
        checked = []
        for place, result in enumerate(results):
            try:
                found = checked_result(
                    result,
                    self._sizes[image_id],
                    self._category_ids,
                    self._kinds,
                    len(self._sigmas),
                )
            except ValueError as e:
                raise ValueError(f"result {place} of image {image_id}: {e}") from None
            checked.append({"image_id": image_id, **found})
        self._results[image_id] = checked
        self._scores.clear()

    def read(self, path: Path) -> None:
        """Adds the detections of a results file; see `update`.

        Raises:
            ValueError: if it is no list of JSON, or as `update`.
        """
        results = json.loads(path.read_bytes())
        if not isinstance(results, list):
            raise ValueError(f"{path} is no list of results")
        by_image: dict[Any, list[Any]] = {}
        for place, result in enumerate(results):
            if not isinstance(result, dict) or type(result.get("image_id")) is not int:
                raise ValueError(f"{path}: result {place} has no image_id that is an integer")
            by_image.setdefault(result["image_id"], []).append(result)
        for image_id, found in by_image.items():
            try:
                self.update(image_id, found)
            except ValueError as e:
                raise ValueError(f"{path}: {e}") from None

    def write(self, path: Path) -> None:
        """Writes the detections as a results file, which COCO's server and `read` take."""
        path.write_text(json.dumps(self._all_results()) + "\n", encoding="utf-8")

    def result(self) -> dict[str, float]:
        """The official figures of all kinds.

        Returns:
            For "bbox" and "segm", the 12 ``box_ap``, ``box_ap50``, ``box_ap75``,
            ``box_ap_small``, ``box_ap_medium``, ``box_ap_large``, ``box_ar1``, ``box_ar10``,
            ``box_ar100``, ``box_ar_small``, ... and ``mask_ap``, ...; for "keypoints" the 10
            ``keypoint_ap``, ``keypoint_ap50``, ``keypoint_ap75``, ``keypoint_ap_medium``,
            ``keypoint_ap_large``, ``keypoint_ar``, ...; 0..1, nan where nothing is there to be
            found (pycocotools' -1).
        """
        figures: dict[str, float] = {}
        for kind in self._kinds:
            figures |= zip(_NAMES[kind], self._scored(kind)[0], strict=True)
        return figures

    def per_class(self) -> list[dict[str, Any]]:
        """The average precision of each class.

        Returns:
            By class ``name`` and of the kinds ``box_ap``, ``mask_ap``, ``keypoint_ap``: 0..1, nan
            where the truth has no object of the class.
        """
        rows: list[dict[str, Any]] = [{"name": name} for name in self._class_names]
        for kind in self._kinds:
            for number, ap in zip(sorted(self._category_ids), self._scored(kind)[1], strict=True):
                rows[self._category_ids.index(number)][_NAMES[kind][0]] = ap
        return rows

    def table(self) -> str:
        """The classes' average precision in percent, and the official figures below."""
        names = [_NAMES[kind][0] for kind in self._kinds]
        result = self.result()
        rows = [(row["name"], *(100 * row[name] for name in names)) for row in self.per_class()]
        rows.append(("all", *(100 * result[name] for name in names)))
        classes = tabulate(rows, ("class", *(f"{name} %" for name in names)), floatfmt=".2f")
        percent = [(name, 100 * value) for name, value in result.items()]
        return f"{classes}\n\n{tabulate(percent, ('score', '%'), floatfmt='.2f')}"

    def _all_results(self) -> list[dict[str, Any]]:
        return [result for results in self._results.values() for result in results]

    def _scored(self, kind: str) -> tuple[list[float], list[float]]:
        """The official figures, and the average precision by increasing category id."""
        if kind not in self._scores:
            evaluation = self._evaluate(kind)
            # IoU thresholds, recalls, categories, areas (the first: all), most detections
            precision = np.asarray(evaluation.eval["precision"])[:, :, :, 0, -1]
            found = (np.asarray(evaluation.stats), precision.mean((0, 1)))
            stats, by_category = (np.where(v < 0, np.nan, v).tolist() for v in found)
            self._scores[kind] = stats, by_category
        return self._scores[kind]

    def _evaluate(self, kind: str) -> Any:
        coco, coco_eval = _library(self.evaluator)
        results = self._all_results()
        parts = [part for part in _PARTS[kind] if all(part in r for r in results)]
        keys = ("image_id", "category_id", "score", *parts)
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            # hotcoco warns of other sigmas than COCO's, which are asked for by argument.
            warnings.filterwarnings("ignore", ".*kpt_oks_sigmas differ", UserWarning)
            truth = coco()
            truth.dataset = self._truth | {
                "annotations": [{**a} for a in self._truth["annotations"]]
            }
            truth.createIndex()
            found = coco()
            if results:
                found = truth.loadRes([{key: result[key] for key in keys} for result in results])
            else:  # of which loadRes cannot tell the kind
                found.dataset = self._truth | {"annotations": []}
                found.createIndex()
            evaluation = coco_eval(truth, found, kind)
            if kind == "keypoints":
                evaluation.params.kpt_oks_sigmas = np.array(self._sigmas)
            evaluation.evaluate()
            evaluation.accumulate()
            evaluation.summarize()
        return evaluation


def _choose(evaluator: str) -> str:
    if evaluator not in ("auto", "pycocotools", "hotcoco"):
        raise ValueError(f"evaluator must be auto, pycocotools or hotcoco, not {evaluator!r}")
    fast = importlib.util.find_spec("hotcoco") is not None
    if evaluator == "hotcoco" and not fast:
        raise ModuleNotFoundError("hotcoco is not installed: pip install 'tfseg[fast-scores]'")
    return "hotcoco" if fast and evaluator != "pycocotools" else "pycocotools"


def _library(evaluator: str) -> tuple[Any, Any]:
    """The classes COCO and COCOeval."""
    if evaluator == "hotcoco":
        hotcoco = importlib.import_module("hotcoco")
        return hotcoco.COCO, hotcoco.COCOeval
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return COCO, COCOeval
