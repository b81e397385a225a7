"""DeconvNet: VGG16 and its mirror image of unpooling and deconvolution.

Noh, Hong, Han, Learning Deconvolution Network for Semantic Segmentation, ICCV 2015; details from
the authors' DeconvNet_inference_deploy.prototxt and stage_1_train.prototxt, whose layer names are
used behind the trunk.
"""

from typing import Any

import keras

from tfseg.backbones import vgg16
from tfseg.layers.conv import MaxPool2D, Norm, batch_norm, conv2d, filler
from tfseg.layers.size import MinimumSize
from tfseg.layers.unpool import MaxUnpool2D
from tfseg.models.classification import CAFFE_BGR_MEAN, by_style
from tfseg.registry import register

PAPER = "Noh et al., Learning Deconvolution Network for Semantic Segmentation, ICCV 2015"

#: channels of each stage's deconvolutions, as multiples of conv1's
DECODER = {5: (8, 8, 8), 4: (8, 8, 4), 3: (4, 4, 2), 2: (2, 1), 1: (1, 1)}
#: what the 7x7 fc6 needs: five poolings, rounded up, make 7 of it
SMALLEST = 6 * 32 + 1

#: Caffe's "gaussian" filler of the decoder
_GAUSSIAN = filler("RandomNormal", stddev=0.01)


def _deconvolution(x: Any, filters: int, kernel: int, padding: str, name: str) -> Any:
    layer = keras.layers.Conv2DTranspose(
        filters, kernel, padding=padding, kernel_initializer=_GAUSSIAN, name=name
    )
    return layer(x)


def _classifier(x: Any, filters: int, norm: Norm) -> Any:
    """VGG16's fc6 and fc7 as convolutions."""
    for number, kernel in ((6, 7), (7, 1)):
        name = f"backbone.fc{number}"
        x = conv2d(x, filters, kernel, padding=0, use_bias=True, name=name)
        x = norm(x, f"backbone.bnfc{number}")
        x = keras.layers.ReLU(name=f"backbone.relu{number}")(x)
    return x


def _decoder(x: Any, pooled: dict[int, Any], base_filters: int, norm: Norm) -> Any:
    """The mirrored trunk: unpooling to where the maxima were, then deconvolutions."""
    x = _deconvolution(x, pooled[5].shape[-1], 7, "valid", "fc6-deconv")
    x = keras.layers.ReLU(name="fc6-deconv-relu")(norm(x, "fc6-deconv-bn"))
    for stage, widths in DECODER.items():
        x = MaxUnpool2D(name=f"unpool{stage}")([x, pooled[stage]])
        for number, multiple in enumerate(widths, start=1):
            unit = f"{stage}_{number}"
            x = _deconvolution(x, multiple * base_filters, 3, "same", f"deconv{unit}")
            x = keras.layers.ReLU(name=f"derelu{unit}")(norm(x, f"debn{unit}"))
    return x


@register(
    "deconvnet_vgg16",
    task="semantic",
    paper=PAPER,
    num_classes=21,
    preprocessing=by_style(CAFFE_BGR_MEAN),
)
def deconvnet_vgg16(
    num_classes: int,
    style: str = "caffe",
    base_filters: int = 64,
    fc_filters: int = 4096,
    norm: str = "batch",
) -> keras.Model:
    """DeconvNet, made for object proposals of 224x224 pixels.

    Any image of at least 193x193 pixels gives scores of its own size: poolings round up, as
    Caffe's, and unpoolings restore the sizes in front of them.

    Args:
        num_classes: classes of the output.
        style: whose ImageNet weights fit, "caffe" or "torchvision": it is the preprocessing.
        base_filters: channels of the first stage.
        fc_filters: channels of fc6 and fc7.
        norm: "batch" (statistics of the batch, as the authors train), "sync_batch" or
            "frozen_batch". For inference the authors estimate the statistics anew after
            training: `tfseg.train.batch_statistics`.
    """
    image = keras.Input((None, None, 3), name="image")
    normalize = batch_norm(norm, epsilon=1e-9, shift=0.001)
    pooled: dict[int, Any] = {}

    def pool(x: Any, stage: int, name: str) -> Any:
        pooled[stage] = x
        return MaxPool2D(2, 2, ceil_mode=True, name=name)(x)

    x = MinimumSize(SMALLEST, name="size")(image)
    x = vgg16(x, norm=normalize, pool=pool, base_filters=base_filters, prefix="backbone.")["c5"]
    x = _classifier(x, fc_filters, normalize)
    x = _decoder(x, pooled, base_filters, normalize)
    score = keras.layers.Conv2D(
        # Scores stay float32 under mixed precision.
        num_classes,
        1,
        kernel_initializer=_GAUSSIAN,
        dtype="float32",
        name="seg-score-voc",
    )
    return keras.Model(image, score(x))
