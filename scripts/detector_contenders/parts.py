"""tfseg's Mask R-CNN, whole and in parts, as functions of tensors of any Keras backend."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from keras import ops

import tfseg
from detector_contenders.inputs import WEIGHTS, DetectorJob
from tfseg.losses import RCNNLoss
from tfseg.models.rcnn import RCNN
from tfseg.ops.masks import paste
from tfseg.ops.nms import nms

Tensors = dict[str, Any]
#: from a function and its arguments to the same, compiled and with them
Compile = Callable[[Callable[..., Any], tuple[Any, ...]], Callable[[], Any]]


def build(job: DetectorJob) -> RCNN:
    """The detector with the job's weights."""
    model = tfseg.build(job.model, job.num_classes, style="torchvision")
    tfseg.load_weights(model, Path(job.folder) / WEIGHTS, origin="torchvision")
    assert isinstance(model, RCNN)
    return model


def trained_parameters(model: RCNN) -> int:
    """How many numbers training changes."""
    return sum(math.prod(variable.shape) for variable in model.trainable_variables)


def detect(model: RCNN, images: Any, sizes: Any) -> Tensors:
    """What the model finds, and "pasted" float32 (B, D, H, W), masks in the image."""
    found = model(images, sizes=sizes, training=False)
    return found | {"pasted": _paste(images, found)}


def _paste(images: Any, found: Tensors) -> Any:
    batch, height, width = images.shape[:3]
    return ops.stack(
        [
            paste(found["masks"][i], found["boxes"][i], height, width, convention="torchvision")
            for i in range(batch)
        ]
    )


def first_image(found: Tensors) -> dict[str, list[Any]]:
    """What was found in the first image, as JSON has it."""
    names = ("boxes", "scores", "classes", "valid")
    arrays = {name: ops.convert_to_numpy(found[name][0]) for name in names}
    valid = arrays.pop("valid")
    return {name: values[valid].tolist() for name, values in arrays.items()}


def losses(model: RCNN, loss: RCNNLoss, batch: Tensors) -> Tensors:
    """The parts of the loss, each the mean that training adds up."""
    return {
        name: weight * ops.divide_no_nan(total, normaliser)
        for name, (total, normaliser, weight) in loss.parts(model, batch).items()
    }


def _pool(model: RCNN, size: int) -> Callable[..., Any]:
    return lambda features, boxes: model.pooled(features, boxes, size)


def _on_regions(method: Callable[..., Any]) -> Callable[..., Any]:
    """A head alone: the features of its regions are the first argument."""

    def head(regions: Any, *arguments: Any) -> Any:
        with mock.patch.object(RCNN, "pooled", return_value=regions):
            found = method(*arguments)
        # without what only a C4 network has
        return found if isinstance(found, dict) else found[:2]

    return head


def _inner_nms(
    function: Callable[..., Any], compiled: Compile, *arguments: Any
) -> tuple[Callable[..., Any], Any]:
    """The suppression inside a function: it and its tensors."""
    static: list[Any] = []

    def reach(*arguments: Any) -> Any:
        with mock.patch("tfseg.models.rcnn.selection.nms", wraps=nms) as called:
            function(*arguments)
        boxes, scores, valid, threshold, count, *groups = called.call_args.args
        static[:] = threshold, count
        return boxes, scores, valid, *groups

    tensors = compiled(reach, arguments)()
    return lambda b, s, v, *groups: nms(b, s, v, *static, *groups), tensors


def split(
    model: RCNN, images: Any, sizes: Any, compiled: Compile
) -> tuple[dict[str, Callable[[], Any]], int]:
    """The parts of inference, each on what the parts before it gave.

    Returns:
        By name functions without arguments; "proposals: nms" is a part of "proposals", and
        "detections: nms" of "detections". And the number of the first image's proposals.
    """
    made: dict[str, Callable[[], Any]] = {}

    def run(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
        made[name] = compiled(function, arguments)
        return made[name]()

    def propose(features: Any, logits: Any, deltas: Any) -> Any:
        return model.propose(logits, deltas, model.anchors(features), sizes)

    def select(*judged: Any) -> Tensors:
        logits, *rest = judged
        return model.detections(model.ranked(ops.softmax(logits), *rest, sizes))

    def describe(features: Any, found: Tensors) -> Tensors:
        return model.describe(features, found, images)

    layout = model.layout
    features = run("trunk", model.features, images)
    outputs = run("rpn head", model.rpn_outputs, features)
    proposals = run("proposals", propose, features, *outputs)
    suppress, tensors = _inner_nms(propose, compiled, features, *outputs)
    run("proposals: nms", suppress, *tensors)
    regions = run("box regions", _pool(model, layout.box_size), features, proposals[0])
    judged = run("box head", _on_regions(model.box_outputs), regions, features, proposals[0])
    found = run("detections", select, *judged, *proposals)
    suppress, tensors = _inner_nms(select, compiled, *judged, *proposals)
    run("detections: nms", suppress, *tensors)
    regions = run("mask regions", _pool(model, layout.mask_size), features, found["boxes"])
    found |= run("mask head", _on_regions(describe), regions, features, found)
    run("pasting", lambda found: _paste(images, found), found)
    return made, int(ops.sum(ops.cast(proposals[1][0], "int32")))
