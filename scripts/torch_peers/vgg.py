"""VGG16 in torch, with the pools and paddings of the networks built on it."""

from collections.abc import Callable

from torch import Tensor, nn

#: channels and convolutions of each stage
STAGES = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def stages(
    pool: Callable[[int], nn.Module],
    *,
    first_padding: int = 1,
    padding: int | None = None,
    conv5_dilation: int = 1,
    norm: Callable[[int], nn.Module] | None = None,
) -> nn.ModuleList:
    """Five stages of convolutions, each with the pool that ``pool(stage)`` makes.

    Args:
        pool: of stages 1 to 5.
        first_padding: of the first convolution.
        padding: of all convolutions; None: what keeps the size.
        conv5_dilation: of the last stage.
        norm: what follows a convolution of so many channels.
    """
    made, inputs = nn.ModuleList(), 3
    for stage, (filters, count) in enumerate(STAGES, start=1):
        layers: list[nn.Module] = []
        for _ in range(count):
            dilation = conv5_dilation if stage == 5 else 1
            pad = dilation if padding is None else padding
            if inputs == 3 and padding is None:
                pad = first_padding
            layers.append(nn.Conv2d(inputs, filters, 3, padding=pad, dilation=dilation))
            if norm is not None:
                layers.append(norm(filters))
            layers.append(nn.ReLU(inplace=True))
            inputs = filters
        made.append(nn.Sequential(*layers, pool(stage)))
    return made


def classifier(filters: int, kernel: int, *, padding: int = 0, dilation: int = 1) -> nn.Sequential:
    """fc6 and fc7 as convolutions."""
    return nn.Sequential(
        nn.Conv2d(512, filters, kernel, padding=padding, dilation=dilation),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
        nn.Conv2d(filters, filters, 1),
        nn.ReLU(inplace=True),
        nn.Dropout(0.5),
    )


def crop(x: Tensor, like: Tensor, offset: int = 0) -> Tensor:
    """A window of ``x`` as large as ``like``, so many rows and columns in."""
    height, width = like.shape[2:]
    return x[:, :, offset : offset + height, offset : offset + width]
