"""DeepLab v1 (LargeFOV, with and without multi-scale features) and v2, as released."""

from collections.abc import Iterable

from torch import Tensor, nn

from torch_peers.resnet import resnet
from torch_peers.vgg import classifier, crop, stages

RATES = (6, 12, 18, 24)
#: channels and stride of the image and the first four pools
MAPS = ((3, 1), (64, 2), (128, 4), (256, 8), (512, 8))


def _pool(stage: int) -> nn.Module:
    return nn.MaxPool2d(3, 2 if stage < 4 else 1, padding=1, ceil_mode=True)


def _upsampled(x: Tensor, image: Tensor, factor: int) -> Tensor:
    size = [(side - 1) * factor + 1 for side in x.shape[2:]]
    x = nn.functional.interpolate(x, size, mode="bilinear", align_corners=True)
    return crop(x, image)


class Sum(nn.Module):
    """The sum of what the branches make of one map."""

    def __init__(self, branches: Iterable[nn.Module]) -> None:
        super().__init__()
        self.branches = nn.ModuleList(branches)

    def forward(self, x: Tensor) -> Tensor:
        """Each branch's output has the same shape."""
        return sum(branch(x) for branch in self.branches)


def _fov(rate: int, num_classes: int) -> nn.Module:
    """fc6, fc7 and fc8 with a field of view of so large a dilation."""
    fc = classifier(1024, 3, padding=rate, dilation=rate)
    return nn.Sequential(fc, nn.Conv2d(1024, num_classes, 1))


def _branch(inputs: int, num_classes: int) -> nn.Module:
    """Two layers and a classifier on an early map."""
    return nn.Sequential(
        nn.Conv2d(inputs, 128, 3, padding=1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(128, 128, 1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(128, num_classes, 1),
    )


class DeepLab(nn.Module):
    """Stages of stride 8, a head, branches on the image and the first maps if any."""

    def __init__(
        self, stages: Iterable[nn.Module], head: nn.Module, branches: Iterable[nn.Module]
    ) -> None:
        super().__init__()
        self.stages, self.head = nn.ModuleList(stages), head
        self.branches = nn.ModuleList(branches)

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, num_classes, H, W) of images (B, 3, H, W)."""
        maps = [image]
        for stage in self.stages:
            maps.append(stage(maps[-1]))
        logits = _upsampled(self.head(maps[-1]), image, 8)
        for branch, x, (_, factor) in zip(self.branches, maps, MAPS, strict=False):
            logits = logits + _upsampled(branch(x), image, factor)
        return logits


def build(name: str, num_classes: int) -> nn.Module:
    """The network of this name."""
    if name == "deeplab_aspp_resnet101":
        *trunk, _, _ = resnet("resnet101", stride_in_1x1=True, dilated=True).children()
        scores = [nn.Conv2d(2048, num_classes, 3, padding=rate, dilation=rate) for rate in RATES]
        return DeepLab([nn.Sequential(*trunk)], Sum(scores), [])
    if name == "deeplab_aspp_vgg16":
        head: nn.Module = Sum([_fov(rate, num_classes) for rate in RATES])
    else:
        head = nn.Sequential(nn.AvgPool2d(3, 1, padding=1), _fov(12, num_classes))
    maps = MAPS if name == "deeplab_msc_largefov_vgg16" else ()
    branches = [_branch(inputs, num_classes) for inputs, _ in maps]
    return DeepLab(stages(_pool, conv5_dilation=2), head, branches)
