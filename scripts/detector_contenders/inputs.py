"""What all contenders get: the weights, an image, and the objects in it.

They are made once and read from a folder, for one contender's names are not the other's.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw
from safetensors.numpy import load_file, save_file

from tfseg.benchmark import Job

WEIGHTS = "weights.safetensors"
_BATCH = "batch.safetensors"
#: sides of an outline
_SEGMENTS = 32
#: torchvision's, and of all networks trained on ImageNet by torch
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: What makes of random weights a detector that finds as many objects as there may be: kernels are
#: multiplied, of the class layer so that a region has about one likely class, of the RPN's boxes
#: so that these stay near their anchors, where the objects of training meet some of them.
_GAINS = {"roi_heads.box_predictor.cls_score.weight": 3.0, "rpn.head.bbox_pred.weight": 0.2}
#: and the background is made likely
_CLASS_BIAS, _BACKGROUND = "roi_heads.box_predictor.cls_score.bias", 19.0


@dataclass(frozen=True)
class DetectorJob(Job):
    """What is measured.

    Attributes:
        folder: what `write` filled.
        objects: in the image, to learn from.
        split: the parts of inference are measured, and not the whole.
    """

    folder: str
    objects: int
    split: bool


def write(job: DetectorJob) -> None:
    """Fills the job's folder. Imports torch and Keras: meant for a process that ends then."""
    import torch

    from detector_contenders import torch_contender
    from tfseg.weights.goldens import synthetic_array, synthetic_image

    with torch.device("meta"):
        shapes = torch_contender.build(job.num_classes).state_dict()
    arrays = {
        name: synthetic_array(name, tuple(value.shape), seed=0, gain=1.0)
        for name, value in shapes.items()
    }
    for name, gain in _GAINS.items():
        arrays[name] *= np.float32(gain)
    arrays[_CLASS_BIAS][0] += _BACKGROUND
    save_file(arrays, Path(job.folder) / WEIGHTS)
    image = synthetic_image((job.batch, job.height, job.width, 3), seed=0) / 255
    batch = {"image": ((image - _MEAN) / _STD).astype(np.float32)}
    save_file(batch | objects(job), Path(job.folder) / _BATCH)


def objects(job: DetectorJob) -> dict[str, np.ndarray]:
    """Ellipses, from a sixth to a half of the image's sides, as outlines and as masks."""
    random = np.random.default_rng(0)
    shape = (job.batch, job.objects)
    full = np.array([job.width, job.height], np.float32)
    radii = random.uniform(1 / 12, 1 / 4, (*shape, 1, 2)) * full
    centers = radii + random.uniform(size=radii.shape) * (full - 2 * radii)
    angle = np.linspace(0, 2 * np.pi, _SEGMENTS, endpoint=False)
    points = centers + radii * np.stack([np.cos(angle), np.sin(angle)], -1)
    masks = np.zeros((*shape, job.height, job.width), np.uint8)
    for index in np.ndindex(shape):
        drawn = Image.new("L", (job.width, job.height))
        ImageDraw.Draw(drawn).polygon([tuple(point) for point in points[index]], fill=1)
        masks[index] = drawn
    return {
        "size": np.tile(full[::-1], (job.batch, 1)),
        "boxes": np.concatenate([points.min(-2), points.max(-2)], -1).astype(np.float32),
        "labels": random.integers(0, job.num_classes, shape).astype(np.int32),
        "valid": np.ones(shape, bool),
        "crowd": np.zeros(shape, bool),
        "edges": np.concatenate([points, np.roll(points, -1, -2)], -1).astype(np.float32),
        "masks": masks,
    }


def read(folder: str) -> dict[str, np.ndarray]:
    """A training batch as `tfseg.losses.RCNNLoss.parts` takes it, and "masks" uint8 (B, G, H, W).

    The image is float32 (B, H, W, 3), preprocessed as torchvision does.
    """
    return load_file(Path(folder) / _BATCH)
