"""U-Net: the paper's figure and the release."""

import torch
from torch import Tensor, nn

from torch_peers.vgg import crop


def _double(inputs: int, filters: int, dropout: float = 0.0) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inputs, filters):
        layers += [nn.Conv2d(channels, filters, 3), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Dropout(dropout)) if dropout else nn.Sequential(*layers)


class UNet(nn.Module):
    """U-Net with valid convolutions.

    In the release a ReLU follows each up-convolution, and the last keeps its 128 channels.
    """

    def __init__(self, num_classes: int, release: bool) -> None:
        super().__init__()
        widths = (64, 128, 256, 512, 1024)
        self.down = nn.ModuleList(
            _double(inputs, filters, 0.5 if filters >= 512 else 0.0)
            for inputs, filters in zip((1, *widths), widths, strict=False)
        )
        self.pool = nn.MaxPool2d(2, 2)
        self.up, self.merge = nn.ModuleList(), nn.ModuleList()
        for filters in reversed(widths[:-1]):
            wide = 128 if release and filters == 64 else filters
            up: list[nn.Module] = [nn.ConvTranspose2d(2 * filters, wide, 2, 2)]
            self.up.append(nn.Sequential(*up, nn.ReLU(inplace=True)) if release else up[0])
            self.merge.append(_double(wide + filters, filters))
        self.score = nn.Conv2d(64, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, 1, 16 k + 60, ...) to logits (B, num_classes, 16 k - 124, ...)."""
        skips: list[Tensor] = []
        for level, down in enumerate(self.down):
            x = down(self.pool(x) if level else x)
            skips.append(x)
        for up, merge, skip in zip(self.up, self.merge, reversed(skips[:-1]), strict=True):
            x = up(x)
            x = merge(torch.cat([x, crop(skip, x, (skip.shape[2] - x.shape[2]) // 2)], 1))
        return self.score(x)


def build(name: str, num_classes: int) -> nn.Module:
    """The network of this name."""
    return UNet(num_classes, release=name == "unet_release")
