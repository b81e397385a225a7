"""A torch network as a contender of a benchmark."""

import sys
from collections.abc import Callable

import torch
from torch import Tensor, nn

from tfseg.benchmark import MATRIX, Job, Session


def session(model: nn.Module, job: Job, layout: torch.memory_format) -> Session:
    """torch's contender: eager mode, oneDNN's kernels where torch takes them.

    Args:
        model: of images (B, C, H, W).
        job: its ``model`` is not looked at.
        layout: of images and weights in memory.
    """
    torch.manual_seed(0)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model = model.to(device, memory_format=layout)
    channels = next(m for m in model.modules() if isinstance(m, nn.Conv2d)).in_channels
    images = torch.randn(job.batch, channels, job.height, job.width, device=device)
    images = images.contiguous(memory_format=layout)
    matrix = torch.randn(MATRIX, MATRIX, device=device)
    make = _inference if job.mode == "infer" else _training
    modules = [sys.modules[name] for name in ("torch", "torchvision") if name in sys.modules]
    return Session(
        step=make(model, images),
        matrix_product=lambda: (matrix @ matrix)[0, 0].item(),
        facts={
            "versions": {module.__name__: module.__version__ for module in modules},
            "parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        },
    )


def output_of(model: nn.Module, images: Tensor) -> Tensor:
    """The logits; torchvision's segmentation networks return them in a dictionary."""
    output = model(images)
    return output["out"] if isinstance(output, dict) else output


def _inference(model: nn.Module, images: Tensor) -> Callable[[], object]:
    model.eval()

    @torch.inference_mode()
    def step() -> object:
        return output_of(model, images).flatten()[0].item()  # reading a value waits for the step

    return step


def _training(model: nn.Module, images: Tensor) -> Callable[[], object]:
    model.train()
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(parameters, 1e-6, momentum=0.9)

    def step() -> object:
        optimizer.zero_grad()
        logits = output_of(model, images)
        labels = torch.zeros_like(logits[:, 0], dtype=torch.long)
        loss = nn.functional.cross_entropy(logits, labels)
        loss.backward()
        optimizer.step()
        return loss.item()

    return step
