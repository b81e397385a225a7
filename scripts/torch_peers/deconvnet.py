"""DeconvNet, as released (DeconvNet_inference_deploy.prototxt)."""

from torch import Tensor, nn

from torch_peers.vgg import stages

#: channels of each stage's deconvolutions
DECODER = ((512, 512, 512), (512, 512, 256), (256, 256, 128), (128, 64), (64, 64))


def _norm(filters: int) -> nn.Module:
    return nn.BatchNorm2d(filters, eps=1e-9)


def _unit(layer: nn.Module, filters: int) -> nn.Sequential:
    return nn.Sequential(layer, _norm(filters), nn.ReLU(inplace=True))


class DeconvNet(nn.Module):
    """VGG16 and its mirror image of unpooling and deconvolution."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.stages = stages(lambda _: nn.MaxPool2d(2, 2, return_indices=True), norm=_norm)
        self.classifier = nn.Sequential(
            _unit(nn.Conv2d(512, 4096, 7), 4096),
            _unit(nn.Conv2d(4096, 4096, 1), 4096),
            _unit(nn.ConvTranspose2d(4096, 512, 7), 512),
        )
        self.unpool = nn.MaxUnpool2d(2, 2)
        self.decoder, inputs = nn.ModuleList(), 512
        for widths in DECODER:
            units = []
            for filters in widths:
                units.append(_unit(nn.ConvTranspose2d(inputs, filters, 3, padding=1), filters))
                inputs = filters
            self.decoder.append(nn.Sequential(*units))
        self.score = nn.Conv2d(64, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes, 224, 224) of images (B, 3, 224, 224)."""
        places: list[Tensor] = []
        for stage in self.stages:
            x, indices = stage(x)
            places.append(indices)
        x = self.classifier(x)
        for indices, units in zip(reversed(places), self.decoder, strict=True):
            x = units(self.unpool(x, indices))
        return self.score(x)


def build(name: str, num_classes: int) -> nn.Module:
    """DeconvNet."""
    return DeconvNet(num_classes)
