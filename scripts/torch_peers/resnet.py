"""torchvision's ResNets and ResNeXts with frozen norms, altered to Caffe's where asked."""

from torchvision.models.resnet import Bottleneck, ResNet
from torchvision.ops.misc import FrozenBatchNorm2d

#: blocks of each stage, groups, channels of a group
LAYOUTS = {
    "resnet50": ([3, 4, 6, 3], 1, 64),
    "resnet101": ([3, 4, 23, 3], 1, 64),
    "resnext101_32x8d": ([3, 4, 23, 3], 32, 8),
    "resnext152_32x8d": ([3, 8, 36, 3], 32, 8),
}


def resnet(layout: str, *, stride_in_1x1: bool, dilated: bool = False) -> ResNet:
    """A ResNet.

    Args:
        layout: a key of LAYOUTS.
        stride_in_1x1: the first blocks stride in their 1x1, as in Caffe's, not in their 3x3.
        dilated: output stride 8; as in Caffe, a stage's first block dilates like its others,
            and the first pool rounds up.
    """
    blocks, groups, width = LAYOUTS[layout]
    net = ResNet(
        Bottleneck,
        blocks,
        groups=groups,
        width_per_group=width,
        replace_stride_with_dilation=[False, dilated, dilated],
        norm_layer=FrozenBatchNorm2d,
    )
    if stride_in_1x1:
        for stage in (net.layer2, net.layer3, net.layer4):
            first = stage[0]
            first.conv1.stride, first.conv2.stride = first.conv2.stride, first.conv1.stride
    if dilated:
        net.maxpool.ceil_mode = True
        for stage in (net.layer3, net.layer4):
            first, second = stage[0].conv2, stage[1].conv2
            first.dilation, first.padding = second.dilation, second.padding
    return net
