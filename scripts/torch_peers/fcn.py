"""FCN on VGG16, as released (voc-fcn32s, 16s, 8s and 8s-atonce)."""

from torch import Tensor, nn

from torch_peers.vgg import classifier, crop, stages

#: of the skips, the channels and the offset of its crop
SKIPS = ((512, 5), (256, 9))
#: stride of the last upsampling: the offset of its crop
OFFSETS = {32: 19, 16: 27, 8: 31}


def _upsampling(classes: int, factor: int) -> nn.ConvTranspose2d:
    """A transposed convolution that does not learn."""
    layer = nn.ConvTranspose2d(classes, classes, 2 * factor, factor, bias=False)
    layer.weight.requires_grad_(False)
    return layer


class FCN(nn.Module):
    """FCN of stride 32, 16 or 8; the first scores of the skips are scaled."""

    def __init__(self, stride: int, scales: tuple[float, ...], num_classes: int) -> None:
        super().__init__()
        self.stages = stages(lambda _: nn.MaxPool2d(2, 2, ceil_mode=True), first_padding=100)
        self.classifier = classifier(4096, 7)
        self.score = nn.Conv2d(4096, num_classes, 1)
        self.scales, skips = scales, SKIPS[: len(scales)]
        self.skips = nn.ModuleList(nn.Conv2d(inputs, num_classes, 1) for inputs, _ in skips)
        self.doubled = nn.ModuleList(_upsampling(num_classes, 2) for _ in skips)
        self.upsampled = _upsampling(num_classes, stride)
        self.offset = OFFSETS[stride]

    def forward(self, image: Tensor) -> Tensor:
        """Logits (B, num_classes, H, W) of images (B, 3, H, W)."""
        maps: list[Tensor] = []
        for stage in self.stages:
            maps.append(stage(maps[-1] if maps else image))
        x = self.score(self.classifier(maps[4]))
        for index, scale in enumerate(self.scales):
            x = self.doubled[index](x)
            skip = self.skips[index](maps[3 - index] * scale if scale != 1 else maps[3 - index])
            x = x + crop(skip, x, SKIPS[index][1])
        return crop(self.upsampled(x), image, self.offset)


def build(name: str, num_classes: int) -> nn.Module:
    """The network of this name."""
    if name == "fcn8s_atonce_vgg16":
        return FCN(8, (0.01, 0.0001), num_classes)
    stride = int(name.removeprefix("fcn").removesuffix("s_vgg16"))
    return FCN(stride, (1.0,) * {32: 0, 16: 1, 8: 2}[stride], num_classes)
