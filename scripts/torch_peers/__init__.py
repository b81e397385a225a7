"""torch implementations of networks that the benchmarks measure beside tfseg's.

Each module has ``build(name, num_classes)``; importing this package imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tfseg.benchmark import Job, Session

#: the networks of each module
_MODULES = {
    "deconvnet": ("deconvnet_vgg16",),
    "deeplab": (
        "deeplab_aspp_resnet101",
        "deeplab_aspp_vgg16",
        "deeplab_largefov_vgg16",
        "deeplab_msc_largefov_vgg16",
    ),
    "dilation": (
        "dilated10_vgg16",
        "dilated7_vgg16",
        "dilated8_large_vgg16",
        "dilated8_vgg16",
        "dilated_vgg16",
    ),
    "fcn": ("fcn16s_vgg16", "fcn32s_vgg16", "fcn8s_atonce_vgg16", "fcn8s_vgg16"),
    "fusionnet": ("fusionnet",),
    "pspnet": ("psp_resnet101", "psp_resnet50"),
    "semantic_fpn": (
        "semantic_fpn_resnet101",
        "semantic_fpn_resnet50",
        "semantic_fpn_resnext101_32x8d",
        "semantic_fpn_resnext152_32x8d",
    ),
    "torchvision_models": (
        "alexnet",
        "deeplabv3_resnet101",
        "deeplabv3_resnet50",
        "fcn_resnet101",
        "fcn_resnet50",
        "googlenet",
        "mobilenet_v2",
        "resnet101",
        "resnet152",
        "resnet50",
        "resnext101_32x8d",
        "resnext101_64x4d",
        "resnext152_32x8d",
        "resnext50_32x4d",
        "shufflenet_v2_x0_5",
        "shufflenet_v2_x1_0",
        "shufflenet_v2_x1_5",
        "shufflenet_v2_x2_0",
        "vgg16",
        "vgg16_bn",
    ),
    "unet": ("unet", "unet_release"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
#: the networks that there is a torch implementation of
NAMES = tuple(sorted(_MODULE_OF))


def build(name: str, num_classes: int) -> Any:
    """The torch twin of ``tfseg.build(name, num_classes)``.

    Returns:
        A ``torch.nn.Module`` of images (B, C, H, W), with fresh weights.

    Raises:
        ValueError: if there is none of that name.
    """
    if name not in _MODULE_OF:
        known = ", ".join(NAMES)
        raise ValueError(f"no torch implementation of {name!r} here; there is: {known}")
    return import_module(f"torch_peers.{_MODULE_OF[name]}").build(name, num_classes)


def session(job: "Job") -> "Session":
    """torch's contender with channels last, commonly the fastest; see `torch_peers.contender`."""
    import torch

    from torch_peers import contender

    return contender.session(build(job.model, job.num_classes), job, torch.channels_last)


def plain_session(job: "Job") -> "Session":
    """torch's contender with channels first, as a network is made."""
    import torch

    from torch_peers import contender

    return contender.session(build(job.model, job.num_classes), job, torch.contiguous_format)
