"""What a detector's golden file is compared with: activations, proposals and detections.

The heads are compared on the golden's own boxes. Proposals and detections come out of choices
among near ties, so they are compared as sets.
"""

import re
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np

from tfseg.models.rcnn import RCNN

#: the reference's, in files that list the first of its proposals
PROPOSALS = 300
#: what counts as the same box, class and score, and the share of a set that must be found
_OVERLAP, _SCORE, _SHARE = 0.95, 1e-2, 0.95
#: pixels between two keypoints that count as the same
_KEYPOINT = 0.5
_DETECTRON2 = re.compile(
    r"(?P<family>\w+_rcnn|panoptic_fpn)_(?P<kind>[RX])_(?P<depth>\d+)(_(?P<width>\d+x\d+d))?"
    r"(_(?P<trunk>FPN|C\d))?$"
)
_TORCHVISION = re.compile(r"(?P<family>faster|mask|keypoint)rcnn_(?P<trunk>res\w+_fpn)$")

Arrays = Mapping[str, np.ndarray]


def network(reference: str) -> tuple[str, dict[str, Any]] | None:
    """A detector's registered name and style, by its name in detectron2 or torchvision.

    Args:
        reference: as in "mask_rcnn_X_101_32x8d_FPN" or "maskrcnn_resnet50_fpn".

    Returns:
        None: it is no detector.
    """
    if match := _TORCHVISION.match(reference):
        return f"{match['family']}_rcnn_{match['trunk']}", {"style": "torchvision"}
    if match := _DETECTRON2.match(reference):
        layout = {"R": "resnet", "X": "resnext"}[match["kind"]] + match["depth"]
        parts = (match["family"], layout, match["width"], (match["trunk"] or "").lower())
        return "_".join(part for part in parts if part), {}
    return None


def counts(params: Mapping[str, Any]) -> tuple[int | None, dict[str, Any]]:
    """What the shapes of a checkpoint tell of its network.

    Args:
        params: {name: shape}, of detectron2 or torchvision.

    Returns:
        The classes without the background, and options.
    """

    def length(*names: str) -> int | None:
        return next((params[f"{name}.bias"][0] for name in names if f"{name}.bias" in params), None)

    logits = length("roi_heads.box_predictor.cls_score", "roi_heads.box_predictor.0.cls_score")
    keypoints = length(
        "roi_heads.keypoint_head.score_lowres", "roi_heads.keypoint_predictor.kps_score_lowres"
    )
    options = {"keypoints": keypoints, "stuff_classes": length("sem_seg_head.predictor")}
    options = {key: value for key, value in options.items() if value is not None}
    masks = ("roi_heads.mask_head.predictor", "roi_heads.mask_predictor.mask_fcn_logits")
    if keypoints is not None and length(*masks) is not None:
        options["mask"] = True
    return None if logits is None else logits - 1, options


def activations(model: RCNN, images: np.ndarray, boxes: np.ndarray) -> dict[str, np.ndarray]:
    """The detector's activations, by the names that goldens have for them.

    Args:
        model: the detector.
        images: float32 (1, H, W, 3), preprocessed.
        boxes: float32 (R, 4), fed to the heads.
    """
    features = model.features(images)
    logits, deltas = model.rpn_outputs(features)
    found = {_level(name): value for name, value in features.items()}
    for level, *outputs in zip(model.layout.levels, logits, deltas, strict=True):
        for kind, value in zip(("logits", "deltas"), outputs, strict=True):
            found[f"rpn_{kind}_{_level(level)}"] = value
    batch = boxes[None]
    found["box_features"] = model.pooled(features, batch, model.layout.box_size)
    stages = len(model.box_stages)
    for stage in range(stages):
        # A cascade's stages all judge the same boxes.
        end = f"_stage{stage + 1}" if stages > 1 else ""
        class_logits, box_deltas, shared = model.box_outputs(features, batch, stage=stage)
        found[f"class_logits{end}"] = class_logits[0]
        found[f"box_deltas{end}"] = keras.ops.reshape(box_deltas, (len(boxes), -1))
        if shared is not None:
            found["roi_res5"] = shared[0]
    if model.mask_head is not None:
        found["mask_logits"] = model.mask_outputs(features, batch)[0]
    if model.keypoint_head is not None:
        found["keypoint_logits"] = model.keypoint_outputs(features, batch)[0]
    if model.semantic_head is not None:
        predictor = model.semantic_head.get_layer("sem_seg_head.predictor")
        head = keras.Model(model.semantic_head.inputs, predictor.output)
        seen = {name: features[name] for name in model.semantic_head.input}
        found["sem_seg_logits_stride4"] = head(seen)
    return {name: keras.ops.convert_to_numpy(value) for name, value in found.items()}


def _level(name: str) -> str:
    """detectron2's name of a map."""
    return f"res{name[1]}" if name.startswith("c") else name


def set_errors(model: RCNN, images: np.ndarray, arrays: Arrays) -> dict[str, float]:
    """How far anchors, proposals and detections are from the golden's.

    Args:
        model: the detector.
        images: float32 (1, H, W, 3), preprocessed.
        arrays: the golden's.

    Returns:
        An error of each: 0 of anchors that are equal, else infinite; of the others 0 where as
        large a share as need be is found on both sides, else the share that is not.
    """
    features = model.features(images)
    anchors = model.anchors(features)
    every = np.concatenate([keras.ops.convert_to_numpy(level) for level in anchors])
    errors = {
        key: 0.0 if np.array_equal(every[end], arrays[key]) else np.inf
        for key, end in (("anchors_head", slice(64)), ("anchors_tail", slice(-64, None)))
    }
    sizes = np.array([images.shape[1:3]], np.float32)
    boxes, valid, logits = (
        keras.ops.convert_to_numpy(value)[0]
        for value in model.scored_proposals(*model.rpn_outputs(features), anchors, sizes)
    )
    wanted = {"boxes": arrays["proposals"]}
    found = {"boxes": boxes[valid][:PROPOSALS]}
    if "proposal_logits" in arrays:
        wanted["scores"], found["scores"] = arrays["proposal_logits"], logits[valid][:PROPOSALS]
    errors["proposals"] = _unmatched(_same(wanted, found))
    return errors | _detection_errors(_detections(model, images, arrays["proposals"]), arrays)


def _detections(model: RCNN, images: np.ndarray, proposals: np.ndarray) -> Arrays:
    """The objects of one image.

    Those of a cascade are found from the golden's own proposals, if it lists them all: untrained
    stages make several pixels of the hundredth of one that rounding moves a proposal.
    """
    if len(model.box_stages) > 1 and len(proposals) < PROPOSALS:
        valid, sizes = np.ones((1, len(proposals)), bool), np.array([images.shape[1:3]], np.float32)
        features = model.features(images)
        outputs = model.detections(model.candidates(features, proposals[None], valid, sizes))
    else:
        outputs = model(images, training=False)
    found = {key: keras.ops.convert_to_numpy(value)[0] for key, value in outputs.items()}
    kept = ("boxes", "scores", "classes", "keypoints")
    return {key: found[key][found["valid"]] for key in kept if key in found}


def _detection_errors(found: Arrays, arrays: Arrays) -> dict[str, float]:
    wanted = {"boxes": arrays["det_boxes"], "scores": arrays["det_scores"]}
    # torchvision counts from the background on.
    labels = arrays.get("det_labels")
    wanted["classes"] = arrays["det_classes"] if labels is None else labels - 1
    same = _same(wanted, found)
    errors = {"det_boxes": _unmatched(same)}
    if "det_keypoints" in arrays:
        points = arrays["det_keypoints"]  # of the first boxes
        has = same[: len(points)].any(axis=1)
        twins = same[: len(points)].argmax(axis=1)[has]
        apart = np.abs(points[has][..., :2] - found["keypoints"][twins][..., :2]).max(axis=-1)
        errors["det_keypoints"] = _missing(apart < _KEYPOINT)
    return errors


def _same(wanted: Arrays, found: Arrays) -> np.ndarray:
    """Whether each wanted box (N) and each found one (M) are the same, bool (N, M)."""
    same: np.ndarray = _overlaps(wanted["boxes"], found["boxes"]) > _OVERLAP
    for key in wanted.keys() - {"boxes"}:
        same &= np.abs(wanted[key][:, None] - found[key][None]) < _SCORE
    return same


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Intersection over union (N, M) of boxes whose sides count as a pixel at least.

    Boxes without width or height are among the synthetic checkpoints' proposals, and slivers
    whose place is exact to a thousandth of a pixel need not touch.
    """
    (low, high), (u, v) = (_thick(boxes.astype(np.float64)) for boxes in (a, b))
    sides = np.minimum(high[:, None], v[None]) - np.maximum(low[:, None], u[None])
    shared = np.maximum(sides, 0).prod(axis=-1)
    areas = (high - low).prod(axis=-1)[:, None] + (v - u).prod(axis=-1)[None]
    overlaps: np.ndarray = shared / (areas - shared)
    return overlaps


def _thick(boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    half = np.maximum(boxes[:, 2:] - boxes[:, :2], 1) / 2
    return center - half, center + half


def _unmatched(same: np.ndarray) -> float:
    """The larger share of both sides that has no match."""
    return max(_missing(same.any(axis=1)), _missing(same.any(axis=0)))


def _missing(present: Any) -> float:
    """The share that is not present; 0 of nothing, and where it is small enough."""
    share = float(np.mean(present)) if np.size(present) else 1.0
    return 0.0 if share >= _SHARE else 1.0 - share
