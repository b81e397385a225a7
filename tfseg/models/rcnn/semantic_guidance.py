"""Semantic-guided FPN: what a semantic branch has learnt goes back into the pyramid.

Gan, Xu, Su, SFPN. Of the structure only this much is public: a semantic segmentation branch on
the pyramid, trained beside the detector (L = L_bbox + alpha L_segm), whose features are fused into
the levels that the detector reads. The rest is our reading, the simplest: the branch is Panoptic
FPN's, and its features, averaged down to a level's size and through a 1x1 convolution, are added.
"""

from typing import Any

import keras

from tfseg.layers.conv import conv2d
from tfseg.layers.fpn import XAVIER_FILL
from tfseg.models.semantic_fpn import semantic_features, semantic_predictor


def guided_pyramid(pyramid: dict[str, Any], norm: str = "group") -> dict[str, Any]:
    """The pyramid with the semantic branch's features in each level.

    Args:
        pyramid: {"p2", ..., "p5"}: (B, h, w, C), at strides 4 to 32, each half the one below.
        norm: of the branch, "group" or "none".

    Returns:
        The levels, and "semantic", the branch's features at stride 4.
    """
    semantic = semantic_features(pyramid, norm)
    guided = {"semantic": semantic}
    for level, map_ in pyramid.items():
        factor = 2 ** (int(level[1]) - 2)
        x = semantic
        if factor > 1:
            x = keras.layers.AveragePooling2D(factor, name=f"sfpn.{level}.pool")(x)
        x = conv2d(
            x,
            map_.shape[-1],
            1,
            use_bias=True,
            initializer=XAVIER_FILL,
            name=f"sfpn.{level}.fuse",
        )
        guided[level] = keras.layers.Add(name=f"sfpn.{level}.add")([map_, x])
    return guided


def semantic_classifier(channels: int, num_classes: int) -> keras.Model:
    """{"semantic": features (B, h, w, channels)} -> logits float32 (B, 4 h, 4 w, num_classes)."""
    features = keras.Input((None, None, channels), name="semantic")
    logits = semantic_predictor(features, num_classes)
    return keras.Model({"semantic": features}, logits, name="semantic_head")
