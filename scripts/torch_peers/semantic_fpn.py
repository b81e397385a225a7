"""Semantic FPN, as detectron2's SemSegFPNHead on torchvision's trunk and pyramid."""

from torch import Tensor, nn
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.ops import FeaturePyramidNetwork

from torch_peers.resnet import resnet

LEVELS = (2, 3, 4, 5)


def _level(level: int) -> nn.Sequential:
    """3x3 convolutions and doublings up to stride 4: one, and one for each halving above."""
    layers: list[nn.Module] = []
    for inputs in (256, 128, 128)[: max(level - 2, 1)]:
        conv = nn.Conv2d(inputs, 128, 3, padding=1, bias=False)
        layers += [conv, nn.GroupNorm(32, 128), nn.ReLU(inplace=True)]
        if level > 2:
            layers.append(nn.Upsample(scale_factor=2, mode="bilinear"))
    return nn.Sequential(*layers)


class SemanticFPN(nn.Module):
    """A feature pyramid's levels, brought to stride 4 and summed."""

    def __init__(self, layout: str, num_classes: int) -> None:
        super().__init__()
        net = resnet(layout, stride_in_1x1=not layout.startswith("resnext"))
        self.trunk = IntermediateLayerGetter(net, {f"layer{n - 1}": str(n) for n in LEVELS})
        self.pyramid = FeaturePyramidNetwork([256, 512, 1024, 2048], 256)
        self.levels = nn.ModuleDict({str(n): _level(n) for n in LEVELS})
        self.predictor = nn.Conv2d(128, num_classes, 1)
        self.upsampled = nn.Upsample(scale_factor=4, mode="bilinear")

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, num_classes, H, W) of images (B, 3, H, W), sides multiples of 32."""
        pyramid = self.pyramid(self.trunk(image))
        x = sum(self.levels[level](x) for level, x in pyramid.items())
        return self.upsampled(self.predictor(x))


def build(name: str, num_classes: int) -> nn.Module:
    """The network of this name."""
    return SemanticFPN(name.removeprefix("semantic_fpn_"), num_classes)
