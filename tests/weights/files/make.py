"""Makes the files beside it, with torch: what torch itself saves and computes."""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import nn

HERE = Path(__file__).resolve().parent


def state():
    """Every dtype, and views that are transposed, strided, expanded, shared or empty."""
    torch.manual_seed(0)
    layers = OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), fc=nn.Linear(4, 2))
    tensors = nn.Sequential(layers).state_dict()
    base = torch.arange(24, dtype=torch.float32).reshape(2, 3, 4)
    tensors |= {
        "transposed": base.permute(2, 0, 1),
        "slice": base[1, :, ::2],
        "same_storage": base,
        "bfloat16": torch.tensor([1.5, -2.25, 3e38, 1e-3]).to(torch.bfloat16),
        "half": torch.tensor([[0.5, -65504.0]], dtype=torch.float16),
        "double": torch.tensor([1 / 3], dtype=torch.float64),
        "long": torch.tensor([2**40, -1]),
        "bool": torch.tensor([True, False]),
        "byte": torch.tensor([255], dtype=torch.uint8),
        "expanded": torch.tensor([7.0]).expand(3),
        "empty": torch.zeros(0, 3),
        "parameter": nn.Parameter(torch.tensor([4.0, 5.0])),
    }
    torch.save(tensors, HERE / "state.pth")
    torch.save(tensors, HERE / "state_legacy.pth", _use_new_zipfile_serialization=False)
    arrays = {name: tensor.detach() for name, tensor in tensors.items()}
    arrays["bfloat16"] = arrays["bfloat16"].float()
    np.savez_compressed(HERE / "state.npz", **{n: a.numpy() for n, a in arrays.items()})


def wrapped():
    """A training script's checkpoint, and what is no state dict in a zip archive."""
    linear = nn.Linear(3, 2)
    weights = {"fc.weight": torch.arange(6.0).reshape(2, 3), "fc.bias": torch.ones(2)}
    checkpoint = {
        "epoch": 3,
        "best": np.float64(0.5),
        "args": argparse.Namespace(rate=0.1, device=torch.device("cpu")),
        "optimizer": torch.optim.SGD(linear.parameters(), 0.1, momentum=0.9).state_dict(),
        "state_dict": {**weights, "steps": 7},
    }
    torch.save(checkpoint, HERE / "wrapped.pth")
    torch.save(linear, HERE / "module.pth")
    torch.jit.save(torch.jit.script(linear), HERE / "script.pt")


def layers():
    """One layer of each kind, its state, and what it computes, channels last."""
    torch.manual_seed(1)
    kinds = OrderedDict(
        conv=nn.Conv2d(4, 6, 3, padding=1, groups=2),
        bn=nn.BatchNorm2d(6),
        depthwise=nn.Conv2d(6, 12, 3, padding=1, groups=6, bias=False),
        up=nn.ConvTranspose2d(12, 6, (2, 3), stride=(2, 3)),
        gn=nn.GroupNorm(3, 6),
        pool=nn.AdaptiveAvgPool2d(1),
        flat=nn.Flatten(),
        fc=nn.Linear(6, 3),
    )
    net = nn.Sequential(kinds).eval()
    for name, tensor in net.state_dict().items():
        if "running_mean" in name or name.endswith("bias"):
            tensor.normal_(0, 0.3)
        elif "running_var" in name or name in ("bn.weight", "gn.weight"):
            tensor.uniform_(0.5, 1.5)
    x = torch.randn(2, 4, 5, 4)
    with torch.no_grad():
        maps, output = net[:5](x), net(x)
    torch.save(net.state_dict(), HERE / "layers.pth")
    np.savez_compressed(
        HERE / "layers.npz",
        input=x.permute(0, 2, 3, 1).numpy(),
        maps=maps.permute(0, 2, 3, 1).numpy(),
        output=output.numpy(),
    )


if __name__ == "__main__":
    state()
    wrapped()
    layers()
