"""PSPNet, as released, without the auxiliary head."""

from typing import Any

import torch
from torch import Tensor, nn

LAYERS = {"resnet50": (3, 4, 6, 3), "resnet101": (3, 4, 23, 3)}


def _conv_norm(inputs: int, filters: int, kernel: int, **options: Any) -> nn.Sequential:
    padding = kernel // 2 * options.get("dilation", 1)
    conv = nn.Conv2d(inputs, filters, kernel, padding=padding, bias=False, **options)
    return nn.Sequential(conv, nn.BatchNorm2d(filters))


class Bottleneck(nn.Module):
    """The released bottlenecks: the first 1x1 strides in pspnet50, the 3x3 in pspnet101."""

    def __init__(self, inputs: int, inner: int, strides: tuple[int, int], dilation: int) -> None:
        super().__init__()
        stride = strides[0] * strides[1]
        self.conv1 = _conv_norm(inputs, inner, 1, stride=strides[0])
        self.conv2 = _conv_norm(inner, inner, 3, stride=strides[1], dilation=dilation)
        self.conv3 = _conv_norm(inner, 4 * inner, 1)
        projects = inputs != 4 * inner
        self.shortcut = _conv_norm(inputs, 4 * inner, 1, stride=stride) if projects else None
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, 4 * inner, h, w)."""
        y = self.conv3(self.relu(self.conv2(self.relu(self.conv1(x)))))
        return self.relu(y + (x if self.shortcut is None else self.shortcut(x)))


def _trunk(layers: tuple[int, ...]) -> nn.Sequential:
    """PSPNet's dilated ResNet: a stem of three convolutions, conv4 and conv5 at stride 8."""
    stem: list[nn.Module] = []
    for inputs, filters, stride in ((3, 64, 2), (64, 64, 1), (64, 128, 1)):
        stem += [_conv_norm(inputs, filters, 3, stride=stride), nn.ReLU(inplace=True)]
    blocks: list[nn.Module] = [*stem, nn.MaxPool2d(3, 2, 1, ceil_mode=True)]
    inputs = 128
    for stage, (count, dilation) in enumerate(zip(layers, (1, 1, 2, 4), strict=True)):
        inner = 64 * 2**stage
        for block in range(count):
            stride = 2 if stage == 1 and block == 0 else 1
            strides = (1, stride) if layers[2] == 23 else (stride, 1)
            blocks.append(Bottleneck(inputs, inner, strides, dilation))
            inputs = 4 * inner
    return nn.Sequential(*blocks)


class PSPNet(nn.Module):
    """PSPNet as released (pspnet101_VOC2012_473.prototxt), without the auxiliary head."""

    def __init__(self, layers: tuple[int, ...], num_classes: int) -> None:
        super().__init__()
        self.trunk = _trunk(layers)
        self.bins = (6, 3, 2, 1)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(b), _conv_norm(2048, 512, 1), nn.ReLU(inplace=True))
            for b in self.bins
        )
        self.head = nn.Sequential(
            _conv_norm(4096, 512, 3),
            nn.ReLU(inplace=True),
            nn.Dropout(0.1),
            nn.Conv2d(512, num_classes, 1),
        )

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, num_classes, H, W) of images (B, 3, H, W)."""
        x = self.trunk(image)
        levels = [_resize(level(x), x) for level in self.levels]
        return _resize(self.head(torch.cat([x, *levels], 1)), image)


def _resize(x: Tensor, like: Tensor) -> Tensor:
    return nn.functional.interpolate(x, like.shape[2:], mode="bilinear", align_corners=True)


def build(name: str, num_classes: int) -> nn.Module:
    """The network of this name."""
    return PSPNet(LAYERS[name.removeprefix("psp_")], num_classes)
