"""The released weight files that tfseg imports: where they are, what they give, how they score.

Scores are those that the files' pages or papers state; none is measured here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tfseg.registry import suggest


@dataclass(frozen=True)
class Release:
    """One released file.

    Attributes:
        file: its name, as released.
        page: the address of the page or folder that offers it.
        model: the network that it fills, or, where ``part`` is "backbone", a shell pattern of
            those whose trunk it initialises.
        num_classes: of that network; None where ``part`` is "backbone".
        gives: what the network tells apart.
        score: what is published of it, and where.
        options: of the network, where they are not the default.
        part: "model" or "backbone", as in `tfseg.load_weights`.
    """

    file: str
    page: str
    model: str
    num_classes: int | None
    gives: str
    score: str
    options: Mapping[str, Any] = field(default_factory=dict)
    part: str = "model"


_VOC = "PASCAL VOC, 21 classes"
_CONTEXT = "PASCAL-Context, 59 classes and background"
_FCN = "https://github.com/shelhamer/fcn.berkeleyvision.org/tree/master/"
_DECONVNET = "https://github.com/HyeonwooNoh/DeconvNet"
_DILATION = "https://github.com/fyu/dilation"
_CCVL = "http://www.cs.jhu.edu/~alanlab/ccvl/"
_DEEPLAB = "http://liangchiehchen.com/projects/"
_PSPNET = "https://github.com/hszhao/PSPNet"
_UNET = "https://lmb.informatik.uni-freiburg.de/people/ronneber/u-net/"
_VGG = "https://www.robots.ox.ac.uk/~vgg/research/very_deep/"
_CAFFE = "https://github.com/BVLC/caffe/tree/master/models/"
_TORCHVISION = "https://pytorch.org/vision/stable/models.html"
_DETECTRON2 = "https://github.com/facebookresearch/detectron2/blob/main/MODEL_ZOO.md"
_DETECTRON = "https://github.com/facebookresearch/Detectron/blob/main/MODEL_ZOO.md"
_MEGVII = "https://github.com/megvii-model/ShuffleNet-Series"
_NOT_STATED = "none stated beside the file"


def _fcn(file: str, folder: str, model: str, score: str) -> Release:
    return Release(file, _FCN + folder, model, 21, _VOC, f"mean IU {score} on seg11valid (README)")


def _context(file: str, folder: str, model: str) -> Release:
    return Release(file, _FCN + folder, model, 60, _CONTEXT, _NOT_STATED)


def _trunk(file: str, page: str, models: str) -> Release:
    return Release(file, page, models, None, "ImageNet", "initialisation", part="backbone")


def _imagenet(file: str, model: str, top1: str) -> Release:
    score = f"top-1 {top1} % (torchvision's documentation)"
    return Release(file, _TORCHVISION, model, 1000, "ImageNet, 1000 classes", score)


def _megvii(width: str, error: str) -> Release:
    model = f"shufflenet_v2_x{width.replace('.', '_')}"
    file, score = f"ShuffleNetV2.{width}x.pth.tar", f"top-1 error {error} % (README)"
    options = {"style": "megvii"}
    return Release(file, _MEGVII, model, 1000, "ImageNet, 1000 classes", score, options)


def _coco_voc(file: str, model: str, miou: str) -> Release:
    gives = "COCO train2017 with VOC's 21 labels"
    score = f"mean IoU {miou} on COCO val2017 (torchvision's documentation)"
    return Release(file, _TORCHVISION, model, 21, gives, score)


def _panoptic(file: str, model: str, quality: str) -> Release:
    gives = "COCO panoptic: 53 stuff classes and things as one (the semantic branch)"
    score = f"PQ {quality} with the detection branch (model zoo); mean IoU not published"
    return Release(file, _DETECTRON2, model, 54, gives, score)


def _average_precision(model: str, aps: tuple[float, ...]) -> str:
    """Of boxes, and of masks or keypoints."""
    second = "keypoint" if model.startswith("keypoint") else "mask"
    parts = (f"{what} AP {ap}" for what, ap in zip(("box", second), aps, strict=False))
    return f"{', '.join(parts)} on COCO val2017"


def _things(model: str) -> tuple[int, str]:
    """The classes of a detector of COCO's objects, and what they are."""
    if model.startswith("keypoint"):
        return 1, "COCO persons and their 17 keypoints"
    return 80, "COCO, 80 classes"


def _detector(file: str, model: str, *aps: float, panoptic: float | None = None) -> Release:
    """Of detectron2's zoo."""
    score = _average_precision(model, aps)
    if panoptic is not None:
        score = f"PQ {panoptic}, {score}"
    return Release(file, _DETECTRON2, model, *_things(model), f"{score} (model zoo)")


def _detectron(number: int, model: str, *aps: float) -> Release:
    """Of the first Detectron's zoo, where all files have one name: trained end to end, 1x."""
    score = f"{_average_precision(model, aps)} (model zoo, model id {number})"
    things = _things(model)
    return Release("model_final.pkl", _DETECTRON, model, *things, score, {"style": "detectron"})


def _torch_detector(file: str, model: str, *aps: float, epsilon: float = 0.0) -> Release:
    classes, gives = _things(model)
    if classes > 1:
        classes, gives = 90, "COCO's category ids 1 to 90, 80 of them in use"
    score = f"{_average_precision(model, aps)} (torchvision's documentation)"
    # Trained with norms that added nothing to the variance.
    options = {"style": "torchvision", "norm_epsilon": epsilon}
    return Release(file, _TORCHVISION, model, classes, gives, score, options)


_DETECTORS: tuple[Release, ...] = (
    _torch_detector("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "faster_rcnn_resnet50_fpn", 37.0),
    _torch_detector(
        "maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth", "mask_rcnn_resnet50_fpn", 37.9, 34.6
    ),
    _torch_detector(
        "keypointrcnn_resnet50_fpn_coco-fc266e95.pth", "keypoint_rcnn_resnet50_fpn", 54.6, 65.0
    ),
    # torchvision leaves this one's norms as they are.
    _torch_detector(
        *("keypointrcnn_resnet50_fpn_coco-9f466800.pth", "keypoint_rcnn_resnet50_fpn"),
        *(50.6, 61.1),
        epsilon=1e-5,
    ),
    _detector("model_final_721ade.pkl", "faster_rcnn_resnet50_c4", 35.7),
    _detector("model_final_f97cb7.pkl", "faster_rcnn_resnet50_c4", 38.4),
    _detector("model_final_b275ba.pkl", "faster_rcnn_resnet50_fpn", 37.9),
    _detector("model_final_280758.pkl", "faster_rcnn_resnet50_fpn", 40.2),
    _detector("model_final_298dad.pkl", "faster_rcnn_resnet101_c4", 41.1),
    _detector("model_final_f6e8b1.pkl", "faster_rcnn_resnet101_fpn", 42.0),
    _detector("model_final_68b088.pkl", "faster_rcnn_resnext101_32x8d_fpn", 43.0),
    _detector("model_final_9243eb.pkl", "mask_rcnn_resnet50_c4", 36.8, 32.2),
    _detector("model_final_4ce675.pkl", "mask_rcnn_resnet50_c4", 39.8, 34.4),
    _detector("model_final_a54504.pkl", "mask_rcnn_resnet50_fpn", 38.6, 35.2),
    _detector("model_final_f10217.pkl", "mask_rcnn_resnet50_fpn", 41.0, 37.2),
    _detector("model_final_a2914c.pkl", "mask_rcnn_resnet101_c4", 42.6, 36.7),
    _detector("model_final_a3ec72.pkl", "mask_rcnn_resnet101_fpn", 42.9, 38.6),
    _detector("model_final_2d9806.pkl", "mask_rcnn_resnext101_32x8d_fpn", 44.3, 39.5),
    _detector("model_final_04e291.pkl", "keypoint_rcnn_resnet50_fpn", 53.6, 64.0),
    _detector("model_final_a6e10b.pkl", "keypoint_rcnn_resnet50_fpn", 55.4, 65.5),
    _detector("model_final_997cc7.pkl", "keypoint_rcnn_resnet101_fpn", 56.4, 66.1),
    _detector("model_final_5ad38f.pkl", "keypoint_rcnn_resnext101_32x8d_fpn", 57.3, 66.0),
    _detector("model_final_dbfeb4.pkl", "panoptic_fpn_resnet50", 37.6, 34.7, panoptic=39.4),
    _detector("model_final_c10459.pkl", "panoptic_fpn_resnet50", 40.0, 36.5, panoptic=41.5),
    _detector("model_final_cafdb1.pkl", "panoptic_fpn_resnet101", 42.4, 38.5, panoptic=43.0),
    _detectron(35857197, "faster_rcnn_resnet50_c4", 34.8),
    _detectron(35857345, "faster_rcnn_resnet50_fpn", 36.7),
    _detectron(35857890, "faster_rcnn_resnet101_fpn", 39.4),
    _detectron(36761737, "faster_rcnn_resnext101_32x8d_fpn", 41.3),
    _detectron(35858015, "faster_rcnn_resnext101_64x4d_fpn", 41.5),
    _detectron(35858791, "mask_rcnn_resnet50_c4", 35.8, 31.4),
    _detectron(35858933, "mask_rcnn_resnet50_fpn", 37.7, 33.9),
    _detectron(35861795, "mask_rcnn_resnet101_fpn", 40.0, 35.9),
    _detectron(36761843, "mask_rcnn_resnext101_32x8d_fpn", 42.1, 37.3),
    _detectron(36494496, "mask_rcnn_resnext101_64x4d_fpn", 42.4, 37.5),
    _detectron(37697547, "keypoint_rcnn_resnet50_fpn", 53.6, 64.2),
    _detectron(37697946, "keypoint_rcnn_resnet101_fpn", 54.5, 64.8),
    _detectron(37792158, "keypoint_rcnn_resnext101_32x8d_fpn", 56.0, 66.0),
    _detectron(37732355, "keypoint_rcnn_resnext101_64x4d_fpn", 56.3, 66.0),
    _trunk("R-50.pkl", _DETECTRON2, "*_rcnn_resnet50_*"),
    _trunk("R-50.pkl", _DETECTRON2, "*_fpn_resnet50"),
    _trunk("R-101.pkl", _DETECTRON2, "*_rcnn_resnet101_*"),
    _trunk("R-101.pkl", _DETECTRON2, "*_fpn_resnet101"),
    _trunk("X-101-32x8d.pkl", _DETECTRON2, "*_rcnn_resnext101_32x8d_fpn"),
    _trunk("X-101-64x4d.pkl", _DETECTRON, "*_rcnn_resnext101_64x4d_fpn"),
)

RELEASES: tuple[Release, ...] = (
    _fcn("fcn32s-heavy-pascal.caffemodel", "voc-fcn32s", "fcn32s_vgg16", "63.6"),
    _fcn("fcn16s-heavy-pascal.caffemodel", "voc-fcn16s", "fcn16s_vgg16", "65.0"),
    _fcn("fcn8s-heavy-pascal.caffemodel", "voc-fcn8s", "fcn8s_vgg16", "65.5"),
    _fcn("fcn8s-atonce-pascal.caffemodel", "voc-fcn8s-atonce", "fcn8s_atonce_vgg16", "65.4"),
    _fcn("fcn-alexnet-pascal.caffemodel", "voc-fcn-alexnet", "fcn32s_alexnet", "48.0"),
    _context("pascalcontext-fcn32s-heavy.caffemodel", "pascalcontext-fcn32s", "fcn32s_vgg16"),
    _context("pascalcontext-fcn16s-heavy.caffemodel", "pascalcontext-fcn16s", "fcn16s_vgg16"),
    _context("pascalcontext-fcn8s-heavy.caffemodel", "pascalcontext-fcn8s", "fcn8s_vgg16"),
    Release(
        "DeconvNet_trainval_inference.caffemodel",
        _DECONVNET,
        "deconvnet_vgg16",
        21,
        _VOC,
        "with FCN-8s and the CRF (EDeconvNet+CRF): mean IU 72.5 on VOC2012 test (paper)",
    ),
    Release(
        "dilation8_pascal_voc.caffemodel",
        _DILATION,
        "dilated8_large_vgg16",
        21,
        _VOC,
        "with a CRF-RNN behind it: mean IoU 75.3 on VOC2012 test (paper)",
    ),
    Release(
        "dilation8_camvid.caffemodel",
        _DILATION,
        "dilated8_vgg16",
        11,
        "CamVid, 11 classes",
        "mean IoU 65.3 (paper)",
        {"mean": "camvid"},
    ),
    Release(
        "dilation7_kitti.caffemodel",
        _DILATION,
        "dilated7_vgg16",
        11,
        "KITTI, 11 classes",
        "mean IoU 59.2 (paper)",
    ),
    Release(
        "dilation10_cityscapes.caffemodel",
        _DILATION,
        "dilated10_vgg16",
        19,
        "Cityscapes, 19 classes",
        "mean IoU 67.1 on test (paper)",
    ),
    Release(
        "train2_iter_8000.caffemodel",
        _CCVL + "DeepLab-LargeFOV/",
        "deeplab_largefov_vgg16",
        21,
        _VOC + " (trainval_aug)",
        "trained on train_aug alone: mean IoU 62.25 on VOC2012 val, 67.64 with the CRF (paper)",
    ),
    *(
        Release(
            f"{stage}_iter_20000.caffemodel",
            f"{_DEEPLAB}DeepLabv2_{page}.html",
            model,
            21,
            f"{_VOC} ({data})",
            score,
        )
        for stage, page, model, data, score in (
            (
                *("train", "vgg", "deeplab_aspp_vgg16", "train_aug"),
                "mean IoU 68.96 on VOC2012 val, 71.57 with the CRF (paper)",
            ),
            ("train2", "vgg", "deeplab_aspp_vgg16", "trainval_aug", _NOT_STATED),
            (
                *("train", "resnet", "deeplab_aspp_resnet101", "train_aug"),
                "three scales: mean IoU 76.35 on VOC2012 val, 77.69 with the CRF (paper)",
            ),
            (
                *("train2", "resnet", "deeplab_aspp_resnet101", "trainval_aug"),
                "three scales and the CRF: mean IoU 79.7 on VOC2012 test (paper)",
            ),
        )
    ),
    Release(
        "pspnet50_ADE20K.caffemodel",
        _PSPNET,
        "psp_resnet50",
        150,
        "ADE20K, 150 classes",
        "mean IoU / pixel accuracy 41.68 / 80.04 on val, 42.78 / 80.76 multi-scale (README)",
    ),
    Release(
        "pspnet101_VOC2012.caffemodel",
        _PSPNET,
        "psp_resnet101",
        21,
        _VOC,
        "mean IoU 85.41 on VOC2012 test, multi-scale (README)",
    ),
    Release(
        "pspnet101_cityscapes.caffemodel",
        _PSPNET,
        "psp_resnet101",
        19,
        "Cityscapes, 19 classes",
        "mean IoU / pixel accuracy 79.70 / 96.38 on val, 80.91 / 96.59 multi-scale (README)",
    ),
    Release(
        "phseg_v5.caffemodel",
        _UNET,
        "unet_release",
        2,
        "cells in phase-contrast microscopy (ISBI cell tracking challenge 2015)",
        "IoU 0.9203 on PhC-U373 (paper, table 2)",
    ),
    _panoptic("model_final_dbfeb4.pkl", "semantic_fpn_resnet50", "39.4"),
    _panoptic("model_final_c10459.pkl", "semantic_fpn_resnet50", "41.5"),
    _panoptic("model_final_cafdb1.pkl", "semantic_fpn_resnet101", "43.0"),
    _coco_voc("fcn_resnet50_coco-1167a1af.pth", "fcn_resnet50", "60.5"),
    _coco_voc("fcn_resnet101_coco-7ecb50ca.pth", "fcn_resnet101", "63.7"),
    _coco_voc("deeplabv3_resnet50_coco-cd0a2569.pth", "deeplabv3_resnet50", "66.4"),
    _coco_voc("deeplabv3_resnet101_coco-586e9e4e.pth", "deeplabv3_resnet101", "67.4"),
    _imagenet("resnet50-0676ba61.pth", "resnet50", "76.130"),
    _imagenet("resnet50-11ad3fa6.pth", "resnet50", "80.858"),
    _imagenet("resnet101-63fe2227.pth", "resnet101", "77.374"),
    _imagenet("resnet101-cd907fc2.pth", "resnet101", "81.886"),
    _imagenet("resnet152-394f9c45.pth", "resnet152", "78.312"),
    _imagenet("resnet152-f82ba261.pth", "resnet152", "82.284"),
    _imagenet("resnext50_32x4d-7cdf4587.pth", "resnext50_32x4d", "77.618"),
    _imagenet("resnext50_32x4d-1a0047aa.pth", "resnext50_32x4d", "81.198"),
    _imagenet("resnext101_32x8d-8ba56ff5.pth", "resnext101_32x8d", "79.312"),
    _imagenet("resnext101_32x8d-110c445d.pth", "resnext101_32x8d", "82.834"),
    _imagenet("resnext101_64x4d-173b62eb.pth", "resnext101_64x4d", "83.246"),
    _imagenet("vgg16-397923af.pth", "vgg16", "71.592"),
    _imagenet("vgg16_bn-6c64b313.pth", "vgg16_bn", "73.360"),
    _imagenet("mobilenet_v2-b0353104.pth", "mobilenet_v2", "71.878"),
    _imagenet("mobilenet_v2-7ebf99e0.pth", "mobilenet_v2", "72.154"),
    _imagenet("shufflenetv2_x0.5-f707e7126e.pth", "shufflenet_v2_x0_5", "60.552"),
    _imagenet("shufflenetv2_x1-5666bf0f80.pth", "shufflenet_v2_x1_0", "69.362"),
    _imagenet("shufflenetv2_x1_5-3c479a10.pth", "shufflenet_v2_x1_5", "72.996"),
    _imagenet("shufflenetv2_x2_0-8be3c8ee.pth", "shufflenet_v2_x2_0", "76.230"),
    _megvii("0.5", "38.9"),
    _megvii("1.0", "30.6"),
    _megvii("1.5", "27.4"),
    _megvii("2.0", "25.0"),
    _imagenet("alexnet-owt-7be5be79.pth", "alexnet", "56.522"),
    _imagenet("googlenet-1378be20.pth", "googlenet", "69.778"),
    Release(
        "bvlc_googlenet.caffemodel",
        _CAFFE + "bvlc_googlenet",
        "googlenet",
        1000,
        "ImageNet, 1000 classes",
        "top-1 68.7 % (its readme)",
        {"style": "caffe"},
    ),
    _trunk(
        "bvlc_reference_caffenet.caffemodel", _CAFFE + "bvlc_reference_caffenet", "fcn32s_alexnet"
    ),
    _trunk("VGG_ILSVRC_16_layers.caffemodel", _VGG, "*_vgg16"),
    _trunk("vgg_conv.caffemodel", _DILATION, "dilated*_vgg16"),
    _trunk("vgg16_20M.caffemodel", _DEEPLAB + "Init%20Models.html", "deeplab_largefov_vgg16"),
    *_DETECTORS,
)


def known_files() -> list[str]:
    """The names of all released files, sorted, each once."""
    return sorted({release.file for release in RELEASES})


def find(file: str, model: str | None = None) -> Release:
    """The release that a file of this name is.

    Args:
        file: its name, without folders.
        model: the network wanted, where several releases have files of one name.

    Raises:
        ValueError: if there is none, or more than one and ``model`` does not choose.
    """
    found = [r for r in RELEASES if r.file == file and model in (None, r.model)]
    if len(found) == 1:
        return found[0]
    if found:
        models = ", ".join(r.model for r in found)
        raise ValueError(f"several released files are called {file}: name the model, of {models}")
    of_model = "" if model is None else f" of {model}"
    raise ValueError(
        f"no released file{of_model} is called {file!r}; {suggest(file, known_files())}"
    )
