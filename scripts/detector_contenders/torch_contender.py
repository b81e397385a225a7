"""torchvision's Mask R-CNN."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torchvision
from safetensors.torch import load_file
from torch import Tensor
from torchvision.models.detection import MaskRCNN
from torchvision.models.detection.backbone_utils import _resnet_fpn_extractor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import maskrcnn_inference, paste_masks_in_image
from torchvision.models.detection.rpn import concat_box_prediction_layers
from torchvision.ops import boxes as box_ops
from torchvision.ops import misc

from detector_contenders.inputs import WEIGHTS, DetectorJob, read
from tfseg.benchmark import MATRIX, Session

_LOSSES = {
    "loss_objectness": "rpn_class",
    "loss_rpn_box_reg": "rpn_box",
    "loss_classifier": "class",
    "loss_box_reg": "box",
    "loss_mask": "mask",
}


def build(num_classes: int) -> MaskRCNN:
    """maskrcnn_resnet50_fpn as with published weights: frozen norms, three trained stages.

    Args:
        num_classes: without the background.
    """
    trunk = torchvision.models.resnet50(weights=None, norm_layer=misc.FrozenBatchNorm2d)
    return MaskRCNN(_resnet_fpn_extractor(trunk, 3), num_classes + 1)


def session(job: DetectorJob) -> Session:
    """torch's contender: eager mode, channels last, on a GPU where there is one."""
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = build(job.num_classes)
    model.load_state_dict(load_file(Path(job.folder) / WEIGHTS))
    model.to(device, memory_format=torch.channels_last)
    batch = {name: torch.from_numpy(value).to(device) for name, value in read(job.folder).items()}
    images = batch["image"].permute(0, 3, 1, 2).contiguous(memory_format=torch.channels_last)
    seen = ImageList(images, [(job.height, job.width)] * job.batch)
    matrix = torch.randn(MATRIX, MATRIX, device=device)
    product = _finished(lambda: matrix @ matrix)
    facts: dict[str, Any] = {
        "versions": {"torch": torch.__version__, "torchvision": torchvision.__version__},
        "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
    }
    if job.mode == "infer":
        model.eval()
        if job.split:
            parts, facts["proposals"] = _parts(model, seen)
            return Session(lambda: None, product, facts, parts)
        step = _inference(model, seen)
        facts["detections"] = _detections(model, seen)
    else:
        model.train()
        targets = [
            {
                "boxes": batch["boxes"][index],
                "labels": batch["labels"][index].long() + 1,
                "masks": batch["masks"][index],
            }
            for index in range(job.batch)
        ]
        step, losses = _training(model, seen, targets)
        facts["losses"] = {_LOSSES[name]: value.item() for name, value in losses().items()}
    return Session(step, product, facts)


def _proposals(model: MaskRCNN, seen: ImageList) -> tuple[dict[str, Tensor], list[Tensor]]:
    features = model.backbone(seen.tensors)
    return features, model.rpn(seen, features)[0]


def _paste(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> Tensor:
    return paste_masks_in_image(masks, boxes, size)[:, 0]


def _inference(model: MaskRCNN, seen: ImageList) -> Callable[[], object]:
    @torch.inference_mode()
    def step() -> object:
        features, proposals = _proposals(model, seen)
        found, _ = model.roi_heads(features, proposals, seen.image_sizes)
        pasted = [
            _paste(own["masks"], own["boxes"], size)
            for own, size in zip(found, seen.image_sizes, strict=True)
        ]
        return [masks.flatten()[:1].tolist() for masks in pasted]  # reading a value waits

    return step


@torch.inference_mode()
def _detections(model: MaskRCNN, seen: ImageList) -> dict[str, list[Any]]:
    """What is found in the first image."""
    found = model.roi_heads(*_proposals(model, seen), seen.image_sizes)[0][0]
    answer = {"classes": found["labels"] - 1, "boxes": found["boxes"], "scores": found["scores"]}
    return {name: value.tolist() for name, value in answer.items()}


@contextmanager
def _recorded() -> Iterator[list[tuple[Any, ...]]]:
    """The arguments of all suppressions that are run inside."""
    calls: list[tuple[Any, ...]] = []
    suppress = box_ops.batched_nms

    def record(*arguments: Any) -> Tensor:
        calls.append(arguments)
        return suppress(*arguments)

    with mock.patch.object(box_ops, "batched_nms", record):
        yield calls


def _propose(model: MaskRCNN, seen: ImageList, levels: list[Tensor], outputs: Any) -> list[Tensor]:
    """What the RPN does after its head."""
    rpn = model.rpn
    anchors = rpn.anchor_generator(seen, levels)
    counts = [logits[0].numel() for logits in outputs[0]]
    logits, deltas = concat_box_prediction_layers(*outputs)
    boxes = rpn.box_coder.decode(deltas, anchors).view(len(anchors), -1, 4)
    return rpn.filter_proposals(boxes, logits, seen.image_sizes, counts)[0]


@torch.inference_mode()
def _parts(model: MaskRCNN, seen: ImageList) -> tuple[dict[str, Callable[[], object]], int]:
    """The parts of inference, as `parts.split` has them, and the number of proposals."""
    heads, sizes = model.roi_heads, seen.image_sizes
    with _recorded() as calls:
        features, proposals = _proposals(model, seen)
        found = heads(features, proposals, sizes)[0]
    levels = list(features.values())
    outputs = model.rpn.head(levels)
    regions = heads.box_roi_pool(features, proposals, sizes)
    judged = heads.box_predictor(heads.box_head(regions))
    boxes, labels = ([own[name] for own in found] for name in ("boxes", "labels"))
    mask_regions = heads.mask_roi_pool(features, boxes, sizes)

    def masks() -> Tensor:
        logits = heads.mask_predictor(heads.mask_head(mask_regions))
        return maskrcnn_inference(logits, labels)[0]

    first, second = calls[: len(sizes)], calls[len(sizes) :]
    parts: dict[str, Callable[[], Tensor]] = {
        "trunk": lambda: model.backbone(seen.tensors)["pool"],
        "rpn head": lambda: model.rpn.head(levels)[0][-1],
        "proposals": lambda: _propose(model, seen, levels, outputs)[-1],
        "proposals: nms": lambda: [box_ops.batched_nms(*call) for call in first][-1],
        "box regions": lambda: heads.box_roi_pool(features, proposals, sizes),
        "box head": lambda: heads.box_predictor(heads.box_head(regions))[0],
        "detections": lambda: heads.postprocess_detections(*judged, proposals, sizes)[0][-1],
        "detections: nms": lambda: [box_ops.batched_nms(*call) for call in second][-1],
        "mask regions": lambda: heads.mask_roi_pool(features, boxes, sizes),
        "mask head": masks,
        "pasting": lambda: [
            _paste(own["masks"], own["boxes"], size) for own, size in zip(found, sizes, strict=True)
        ][-1],
    }
    return {name: _finished(part) for name, part in parts.items()}, len(proposals[0])


def _finished(part: Callable[[], Tensor]) -> Callable[[], object]:
    @torch.inference_mode()
    def run() -> object:
        return part().flatten()[:1].tolist()  # reading a value waits for the part

    return run


def _training(
    model: MaskRCNN, seen: ImageList, targets: list[dict[str, Tensor]]
) -> tuple[Callable[[], object], Callable[[], dict[str, Tensor]]]:
    """A step, and the losses alone."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, 1e-6, momentum=0.9)

    def losses() -> dict[str, Tensor]:
        features = model.backbone(seen.tensors)
        proposals, first = model.rpn(seen, features, targets)
        _, second = model.roi_heads(features, proposals, seen.image_sizes, targets)
        return first | second

    def step() -> object:
        optimizer.zero_grad()
        loss = torch.stack(list(losses().values())).sum()
        loss.backward()
        optimizer.step()
        return loss.item()

    return step, losses
