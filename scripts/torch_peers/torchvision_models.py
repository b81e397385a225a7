"""torchvision's own networks."""

from torch import nn
from torchvision import models
from torchvision.models.resnet import Bottleneck, ResNet


def build(name: str, num_classes: int) -> nn.Module:
    """torchvision's network of this name, without auxiliary heads; ResNeXt-152 of its parts."""
    if name == "resnext152_32x8d":
        return ResNet(Bottleneck, [3, 8, 36, 3], num_classes, groups=32, width_per_group=8)
    if name.startswith(("fcn_", "deeplabv3_")):
        return models.get_model(
            name, weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=False
        )
    options = {"aux_logits": False, "init_weights": True} if name == "googlenet" else {}
    return models.get_model(name, weights=None, num_classes=num_classes, **options)
