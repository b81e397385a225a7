"""FusionNet, as released (tmquan/FusionNet, Model.py)."""

from torch import Tensor, nn

WIDTHS = (64, 128, 256, 512, 1024)


def _conv(inputs: int, filters: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, filters, 3, padding=1), nn.ReLU(inplace=True))


class Residual(nn.Module):
    """Two times norm, by the batch's own statistics, convolution and ReLU; added to the input."""

    def __init__(self, filters: int) -> None:
        super().__init__()
        self.branch = nn.Sequential(
            *(
                layer
                for _ in range(2)
                for layer in (
                    nn.BatchNorm2d(filters, eps=1e-3, track_running_stats=False),
                    *_conv(filters, filters),
                )
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        """(B, filters, H, W), as the input."""
        return x + self.branch(x)


class FusionNet(nn.Module):
    """A U-Net of residual blocks whose skips are sums."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(_conv(inputs, f), Residual(f), _conv(f, f), nn.Dropout(0.25))
            for inputs, f in zip((1, *WIDTHS), WIDTHS, strict=False)
        )
        self.pool = nn.MaxPool2d(2, 2)
        below = list(reversed(WIDTHS))
        self.narrow = nn.ModuleList(_conv(2 * f, f) for f in below[1:])
        self.deconv = nn.ModuleList(nn.ConvTranspose2d(f, f, 3, 2) for f in below[1:])
        self.up = nn.ModuleList(
            nn.Sequential(nn.Dropout(0.25), Residual(f), _conv(f, f)) for f in below[1:]
        )
        self.score = nn.Conv2d(64, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, num_classes, H, W) of images (B, 1, H, W), sides multiples of 16."""
        skips: list[Tensor] = []
        for level, down in enumerate(self.down):
            x = down(self.pool(x) if level else x)
            skips.append(x)
        for index, skip in enumerate(reversed(skips[:-1])):
            # one row and column too many, which TensorFlow's "same" cuts off at the far side
            x = self.deconv[index](self.narrow[index](x))[:, :, :-1, :-1].relu()
            x = self.up[index](x + skip)
        return self.score(x)


def build(name: str, num_classes: int) -> nn.Module:
    """FusionNet."""
    return FusionNet(num_classes)
