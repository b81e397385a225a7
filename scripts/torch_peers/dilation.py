"""The dilation networks, as released (models/*_deploy.prototxt)."""

from torch import nn

from torch_peers.vgg import classifier, stages

#: layers of each context module
LAYERS = {
    "dilated7_vgg16": 7,
    "dilated8_vgg16": 8,
    "dilated8_large_vgg16": 8,
    "dilated10_vgg16": 10,
}
#: channels of the large module's layers, as multiples of the classes
LARGE = (2, 2, 4, 8, 16, 32, 32)


def _context(classes: int, layers: int, large: bool) -> list[nn.Module]:
    dilations = [1, 1, *(2**n for n in range(1, layers - 3)), 1]
    multiples = LARGE if large else (1,) * len(dilations)
    made: list[nn.Module] = []
    inputs = classes
    for index, (dilation, multiple) in enumerate(zip(dilations, multiples, strict=True)):
        padding = dilation
        if large:
            padding = 0 if index else sum(dilations)
        conv = nn.Conv2d(inputs, multiple * classes, 3, padding=padding, dilation=dilation)
        made += [conv, nn.ReLU(inplace=True)]
        inputs = multiple * classes
    return [*made, nn.Conv2d(inputs, classes, 1)]


def _pool(stage: int) -> nn.Module:
    return nn.MaxPool2d(2, 2, ceil_mode=True) if stage <= 3 else nn.Identity()


def build(name: str, num_classes: int) -> nn.Module:
    """The network of this name; inputs of 8 k + 372 give scores of k, or 8 k for Dilation10."""
    layers: list[nn.Module] = [
        *stages(_pool, padding=0, conv5_dilation=2),
        classifier(4096, 7, dilation=4),
        nn.Conv2d(4096, num_classes, 1),
    ]
    if name in LAYERS:
        layers += _context(num_classes, LAYERS[name], name == "dilated8_large_vgg16")
    if name == "dilated10_vgg16":
        up = nn.ConvTranspose2d(
            num_classes, num_classes, 16, 8, padding=4, groups=num_classes, bias=False
        )
        up.weight.requires_grad_(False)
        layers.append(up)
    return nn.Sequential(*layers)
