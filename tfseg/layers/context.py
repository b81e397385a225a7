"""What a block learns of the whole image."""

from typing import Any

import keras

from tfseg.layers.conv import conv2d, filler


def add_global_context(x: Any, name: str) -> Any:
    """The map plus a 1x1 convolution of its global average, which starts at zero.

    Megvii's slides on COCO 2018 name "ShuffleV2 with GAP" (global average pooling, "add global
    information") and do not show the block, nor is it in the released code. This is the simplest
    reading, and ours: one vector an image, added to what a block computes, where the released
    ExLarge has its squeeze-and-excitation. From zero, a pretrained trunk first computes what it
    did.

    Args:
        x: (B, H, W, C).
        name: of the block.

    Returns:
        (B, H, W, C).
    """
    pooled = keras.layers.GlobalAveragePooling2D(keepdims=True, name=f"{name}.context.pool")(x)
    zeros = filler("Zeros")
    context = conv2d(
        pooled, x.shape[-1], 1, use_bias=True, initializer=zeros, name=f"{name}.context"
    )
    return keras.layers.Add(name=f"{name}.context.add")([x, context])
