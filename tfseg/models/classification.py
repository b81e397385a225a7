"""The trunks with their ImageNet classifiers, as the published weights have them."""

from collections.abc import Callable
from typing import Any

import keras

from tfseg.backbones import (
    DEEP_SHUFFLENETS,
    RESNETS,
    SHUFFLENETS,
    alexnet,
    googlenet,
    mobilenet_v2,
    resnet,
    shufflenet_v2,
    shufflenet_v2_deep,
    vgg16,
)
from tfseg.backbones.mobilenet_v2 import style_norm
from tfseg.backbones.shufflenet_v2 import MEGVII_FIRST
from tfseg.backbones.shufflenet_v2 import style_norm as shufflenet_norm
from tfseg.backbones.shufflenet_v2_large import deep_norm
from tfseg.layers.conv import batch_norm, conv2d
from tfseg.layers.resize import AdaptiveAveragePool2D
from tfseg.registry import Preprocessing, register

#: torchvision's, for images of 0..255
IMAGENET_RGB = Preprocessing("rgb", (123.675, 116.28, 103.53), (58.395, 57.12, 57.375))
#: Caffe's ImageNet mean
CAFFE_BGR_MEAN = Preprocessing("bgr", (104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0))
#: Megvii's ShuffleNets take images as they are (issue 34 of ShuffleNet-Series), in OpenCV's order
RAW_BGR = Preprocessing("bgr", (0.0,) * 3, (1.0,) * 3)
#: keras.applications' "tf" mode: [-1, 1]
MINUS_ONE_TO_ONE = Preprocessing("rgb", (127.5,) * 3, (127.5,) * 3)

_PAPERS = {
    "resnet": "He et al., Deep Residual Learning for Image Recognition, CVPR 2016",
    "resnext": "Xie et al., Aggregated Residual Transformations, CVPR 2017",
    "vgg": "Simonyan and Zisserman, Very Deep Convolutional Networks, ICLR 2015",
    "alexnet": "Krizhevsky, One weird trick for parallelizing networks, arXiv 1404.5997",
    "googlenet": "Szegedy et al., Going Deeper with Convolutions, CVPR 2015",
    "shufflenet": "Ma et al., ShuffleNet V2: Practical Guidelines, ECCV 2018",
    "mobilenet": "Sandler et al., MobileNetV2, CVPR 2018",
}


def by_style(caffe: Preprocessing) -> Callable[[dict[str, Any]], Preprocessing]:
    """The preprocessing of networks whose trunk takes Caffe's or torchvision's ImageNet weights.

    Args:
        caffe: what Caffe's weights need, and the authors' networks have.

    Returns:
        A function of the builder's options, of which "style" counts. It raises ValueError for a
        style other than "caffe" and "torchvision".
    """
    styles = {"caffe": caffe, "torchvision": IMAGENET_RGB}

    def preprocessing(options: dict[str, Any]) -> Preprocessing:
        if options["style"] not in styles:
            raise ValueError(f"style must be one of {sorted(styles)}, not {options['style']!r}")
        return styles[options["style"]]

    return preprocessing


def mobilenet_preprocessing(options: dict[str, Any]) -> Preprocessing:
    """The preprocessing of a MobileNetV2 style's published weights."""
    return MINUS_ONE_TO_ONE if options["style"] == "keras" else IMAGENET_RGB


def shufflenet_preprocessing(options: dict[str, Any]) -> Preprocessing:
    """The preprocessing of a ShuffleNetV2 style's published weights."""
    return RAW_BGR if options["style"] == "megvii" else IMAGENET_RGB


def _register_resnet(layout: str) -> None:
    @register(
        layout,
        task="classification",
        paper=_PAPERS["resnext" if layout.startswith("resnext") else "resnet"],
        num_classes=1000,
        preprocessing=IMAGENET_RGB,
    )
    def build(
        num_classes: int,
        output_stride: int = 32,
        stride_in: str = "3x3",
        stem: str = "plain",
        norm: str = "batch",
    ) -> keras.Model:
        image = keras.Input((None, None, 3), name="image")
        features = resnet(
            image,
            layout,
            output_stride=output_stride,
            stride_in=stride_in,
            stem=stem,
            norm=batch_norm(norm),
        )
        x = keras.layers.GlobalAveragePooling2D(name="avgpool")(features["c5"])
        return keras.Model(image, keras.layers.Dense(num_classes, name="fc")(x))


for _layout in RESNETS:
    _register_resnet(_layout)


def _register_vgg(name: str, normalised: bool) -> None:
    @register(
        name,
        task="classification",
        paper=_PAPERS["vgg"],
        num_classes=1000,
        preprocessing=IMAGENET_RGB,
    )
    def build(num_classes: int, dropout: float = 0.5) -> keras.Model:
        image = keras.Input((None, None, 3), name="image")
        x = vgg16(image, norm=batch_norm("batch") if normalised else None)["c5"]
        # The fully connected layers as convolutions; torchvision averages to 7x7 first.
        x = AdaptiveAveragePool2D(7, name="avgpool")(x)
        for index, kernel in {0: 7, 3: 1}.items():
            x = conv2d(x, 4096, kernel, padding=0, use_bias=True, name=f"classifier.{index}")
            x = keras.layers.ReLU(name=f"classifier.{index + 1}")(x)
            x = keras.layers.Dropout(dropout, name=f"classifier.{index + 2}")(x)
        x = conv2d(x, num_classes, 1, use_bias=True, name="classifier.6")
        return keras.Model(image, keras.layers.Flatten(name="flatten")(x))


_register_vgg("vgg16", normalised=False)
_register_vgg("vgg16_bn", normalised=True)


@register(
    "mobilenet_v2",
    task="classification",
    paper=_PAPERS["mobilenet"],
    num_classes=1000,
    preprocessing=mobilenet_preprocessing,
)
def _mobilenet_v2(
    num_classes: int,
    style: str = "torchvision",
    output_stride: int = 32,
    dropout: float = 0.2,
    norm: str = "batch",
) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    trunk_norm = style_norm(style, norm)
    x = mobilenet_v2(image, style=style, output_stride=output_stride, norm=trunk_norm)["last"]
    x = keras.layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = keras.layers.Dropout(dropout, name="classifier.0")(x)
    return keras.Model(image, keras.layers.Dense(num_classes, name="classifier.1")(x))


def _register_shufflenet(layout: str) -> None:
    @register(
        layout,
        task="classification",
        paper=_PAPERS["shufflenet"],
        num_classes=1000,
        preprocessing=shufflenet_preprocessing,
    )
    def build(
        num_classes: int,
        style: str = "torchvision",
        output_stride: int = 32,
        global_context: bool = False,
        norm: str = "batch",
    ) -> keras.Model:
        """ShuffleNetV2; see `tfseg.backbones.shufflenet_v2`.

        Args:
            num_classes: classes of the output.
            style: "torchvision" or "megvii": whose block, widths and weights.
            output_stride: 8, 16 or 32; past it stages dilate instead of striding.
            global_context: the image's average joins what each block computes.
            norm: "batch", "sync_batch" or "frozen_batch".
        """
        image = keras.Input((None, None, 3), name="image")
        x = shufflenet_v2(
            image,
            layout,
            style=style,
            output_stride=output_stride,
            global_context=global_context,
            norm=shufflenet_norm(style, norm),
        )["last"]
        x = keras.layers.GlobalAveragePooling2D(name="avgpool")(x)
        if style == "torchvision":
            return keras.Model(image, keras.layers.Dense(num_classes, name="fc")(x))
        if layout == "shufflenet_v2_x2_0":
            x = keras.layers.Dropout(0.2, name="dropout")(x)
        # Megvii's classifier has no bias.
        x = keras.layers.Dense(
            num_classes, use_bias=False, kernel_initializer=MEGVII_FIRST, name="fc"
        )(x)
        return keras.Model(image, x)


for _layout in SHUFFLENETS:
    _register_shufflenet(_layout)

#: of each deep ShuffleNetV2. Large's evaluation subtracts a mean image of 224 x 224, lighter above
#: than below: Caffe's means over such an image stand in for it here.
DEEP_PREPROCESSING = {
    "shufflenet_v2_large": CAFFE_BGR_MEAN,
    "shufflenet_v2_exlarge": RAW_BGR,
}


def _register_deep_shufflenet(layout: str) -> None:
    @register(
        layout,
        task="classification",
        paper=_PAPERS["shufflenet"],
        num_classes=1000,
        preprocessing=DEEP_PREPROCESSING[layout],
    )
    def build(
        num_classes: int,
        output_stride: int = 32,
        global_context: bool = False,
        dropout: float = 0.2,
        norm: str = "batch",
    ) -> keras.Model:
        """A deep ShuffleNetV2; see `tfseg.backbones.shufflenet_v2_large`.

        Args:
            num_classes: classes of the output.
            output_stride: 8, 16 or 32; past it stages dilate instead of striding.
            global_context: the image's average joins what each block computes.
            dropout: rate before the classifier.
            norm: "batch", "sync_batch" or "frozen_batch".
        """
        image = keras.Input((None, None, 3), name="image")
        features = shufflenet_v2_deep(
            image,
            layout,
            output_stride=output_stride,
            global_context=global_context,
            norm=deep_norm(layout, norm),
        )
        last = "last" if "last" in features else "c5"
        x = keras.layers.GlobalAveragePooling2D(name="avgpool")(features[last])
        x = keras.layers.Dropout(dropout, name="dropout")(x)
        name = "fc" if last == "last" else "fc.fc"
        x = keras.layers.Dense(num_classes, kernel_initializer=MEGVII_FIRST, name=name)(x)
        return keras.Model(image, x)


for _layout in DEEP_SHUFFLENETS:
    _register_deep_shufflenet(_layout)


@register(
    "alexnet",
    task="classification",
    paper=_PAPERS["alexnet"],
    num_classes=1000,
    preprocessing=IMAGENET_RGB,
)
def _alexnet(num_classes: int, dropout: float = 0.5) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    x = AdaptiveAveragePool2D(6, name="avgpool")(alexnet(image)["c5"])
    for index, kernel in {0: 6, 3: 1}.items():
        x = keras.layers.Dropout(dropout, name=f"classifier.{index}")(x)
        x = conv2d(x, 4096, kernel, padding=0, use_bias=True, name=f"classifier.{index + 1}")
        x = keras.layers.ReLU(name=f"classifier.{index + 2}")(x)
    x = conv2d(x, num_classes, 1, use_bias=True, name="classifier.6")
    return keras.Model(image, keras.layers.Flatten(name="flatten")(x))


def googlenet_preprocessing(options: dict[str, Any]) -> Preprocessing:
    """That of a GoogLeNet style's published weights: torchvision's were ported from TensorFlow."""
    return CAFFE_BGR_MEAN if options["style"] == "caffe" else MINUS_ONE_TO_ONE


@register(
    "googlenet",
    task="classification",
    paper=_PAPERS["googlenet"],
    num_classes=1000,
    preprocessing=googlenet_preprocessing,
)
def _googlenet(num_classes: int, style: str = "torchvision", dropout: float = 0.2) -> keras.Model:
    image = keras.Input((None, None, 3), name="image")
    x = googlenet(image, style=style)["c5"]
    x = keras.layers.GlobalAveragePooling2D(name="avgpool")(x)
    x = keras.layers.Dropout(dropout, name="dropout")(x)
    return keras.Model(image, keras.layers.Dense(num_classes, name="fc")(x))
