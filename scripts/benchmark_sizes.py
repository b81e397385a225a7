"""The inputs that `benchmark_models.py` measures each network at: its paper's, or its release's."""

from dataclasses import dataclass

from tfseg.benchmark import Job
from tfseg.models import register_all
from tfseg.registry import entry


@dataclass(frozen=True)
class Inputs:
    """What a network is fed.

    Attributes:
        infer: (height, width) in prediction.
        train: (height, width) in training.
        source: where they are from.
        train_batch: images a step: 1, or 2 where a norm sees one value an image and channel,
            of which there is no variance.
    """

    infer: tuple[int, int]
    train: tuple[int, int]
    source: str
    train_batch: int = 1


_IMAGENET = Inputs((224, 224), (224, 224), "ImageNet's crop")
_FCN = Inputs((500, 500), (500, 500), "FCN, table 1: 500 x 500")
_DEEPLAB = Inputs((513, 513), (321, 321), "DeepLab's released test and train prototxts")
_TORCHVISION = Inputs((520, 520), (480, 480), "torchvision's references/segmentation")
_DEEPLAB_V3 = Inputs(_TORCHVISION.infer, _TORCHVISION.train, _TORCHVISION.source, train_batch=2)
_PSPNET = Inputs((473, 473), (473, 473), "PSPNet's VOC and ADE20K prototxts", train_batch=2)
_SEMANTIC_FPN = Inputs((800, 800), (800, 800), "the COCO-Stuff 2017 winner's largest crop")
_UNET = Inputs((572, 572), (572, 572), "U-Net, figure 1")


def _dilation(height: int, width: int, data: str) -> Inputs:
    source = f"{data} deploy prototxt of the dilation networks; train.py's crop"
    return Inputs((height, width), (500, 500), source)


_GROUPS: tuple[tuple[Inputs, tuple[str, ...]], ...] = (
    (
        _IMAGENET,
        (
            "alexnet",
            "vgg16",
            "vgg16_bn",
            "googlenet",
            "resnet50",
            "resnet101",
            "resnet152",
            "resnext50_32x4d",
            "resnext101_32x8d",
            "resnext101_64x4d",
            "resnext152_32x8d",
            "mobilenet_v2",
            "shufflenet_v2_x0_5",
            "shufflenet_v2_x1_0",
            "shufflenet_v2_x1_5",
            "shufflenet_v2_x2_0",
            "shufflenet_v2_large",
            "shufflenet_v2_exlarge",
        ),
    ),
    (
        _FCN,
        (
            "fcn32s_alexnet",
            "fcn32s_googlenet",
            "fcn32s_vgg16",
            "fcn16s_vgg16",
            "fcn8s_vgg16",
            "fcn8s_atonce_vgg16",
        ),
    ),
    (_TORCHVISION, ("fcn_resnet50", "fcn_resnet101")),
    (
        Inputs((224, 224), (224, 224), "DeconvNet's proposals", train_batch=2),
        ("deconvnet_vgg16",),
    ),
    (_dilation(900, 900, "VOC's"), ("dilated_vgg16", "dilated8_large_vgg16")),
    (_dilation(900, 1100, "CamVid's"), ("dilated8_vgg16",)),
    (_dilation(852, 1640, "KITTI's"), ("dilated7_vgg16",)),
    (_dilation(1396, 1396, "Cityscapes'"), ("dilated10_vgg16",)),
    (
        _DEEPLAB,
        (
            "deeplab_largefov_vgg16",
            "deeplab_msc_largefov_vgg16",
            "deeplab_aspp_vgg16",
            "deeplab_aspp_resnet101",
        ),
    ),
    (_DEEPLAB_V3, ("deeplabv3_resnet50", "deeplabv3_resnet101")),
    (_PSPNET, ("psp_mobilenet_v2", "psp_resnet50", "psp_resnet101")),
    (
        _SEMANTIC_FPN,
        (
            "semantic_fpn_resnet50",
            "semantic_fpn_resnet101",
            "semantic_fpn_resnext101_32x8d",
            "semantic_fpn_resnext152_32x8d",
        ),
    ),
    (_UNET, ("unet", "unet_release")),
    (Inputs((640, 640), (640, 640), "FusionNet's padded slices"), ("fusionnet",)),
)
#: of every network that labels images or pixels, in the order of the table
INPUTS = {name: inputs for inputs, names in _GROUPS for name in names}


def check(models: list[str]) -> None:
    """Raises if a network has no inputs here.

    Raises:
        ValueError: naming all of them.
    """
    missing = [name for name in models if name not in INPUTS]
    if missing:
        raise ValueError(f"no input size for {', '.join(missing)}: add it to benchmark_sizes.py")


def job(model: str, mode: str) -> Job:
    """What is measured of a network in a mode, with the classes of its published weights."""
    register_all()
    inputs = INPUTS[model]
    classes = entry(model).num_classes
    if mode == "infer":
        return Job(model, classes, *inputs.infer, 1, mode)
    return Job(model, classes, *inputs.train, inputs.train_batch, mode)
