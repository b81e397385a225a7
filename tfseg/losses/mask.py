"""What mask heads learn, and what the parts of an R-CNN's loss are made of."""

from typing import Any

from keras import ops

from tfseg.losses.semantic import Parts
from tfseg.ops.masks import rasterise
from tfseg.ops.nms import rows
from tfseg.targets import RoITargets

#: keeps logarithms finite
_EPSILON = 1e-6


def sum_where(values: Any, where: Any) -> Any:
    """The float32 sum of what is chosen; what is not may be anything."""
    return ops.sum(ops.where(where, values, 0.0))


def count(where: Any) -> Any:
    """How many are chosen, float32."""
    return ops.sum(ops.cast(where, "float32"))


def own_channels(labels: Any, channels: int, classes: int, background_first: bool) -> Any:
    """Which of a predictor's channels are of the labels: it may know the background, or no class.

    Raises:
        ValueError: for another number of channels.
    """
    if channels not in (1, classes, classes + 1):
        raise ValueError(
            f"a head of {channels} channels does not fit {classes} classes: it has one a class, "
            "one more for the background, or one for all"
        )
    if channels == 1:
        return ops.zeros_like(labels)
    return labels + int(background_first and channels == classes + 1)


def edge_responses(masks: Any) -> Any:
    """How far each cell is above or below its neighbourhood.

    The response of the Laplacian filter of eight neighbours, divided by 8: between -1 and 1 for
    values between 0 and 1; positive on the inner side of an edge, negative on the outer. Cells
    beyond the region are as those at its border: a mask that the region cuts off has no edge
    there.

    Args:
        masks: float32 (N, M, M).

    Returns:
        float32 (N, M, M).
    """
    padded = ops.pad(masks, [[0, 0], [1, 1], [1, 1]], mode="symmetric")[..., None]
    means = ops.average_pool(padded, 3, strides=1, padding="valid")[..., 0]
    return 9 / 8 * (masks - means)


def edge_loss(probabilities: Any, inside: Any) -> Any:
    """The cross-entropy of predicted and true masks' edge responses, float32 (N, M, M).

    Megvii's mask edge loss (COCO 2018) is a sigmoid cross-entropy on masks' edges; which filter
    finds them is not public: ours is the Laplacian, its responses brought to 0..1. With their
    sign: of absolute responses the loss does not know on which side of an edge the object is, and
    masks learn more slowly.

    Args:
        probabilities: float32 (N, M, M).
        inside: float32 (N, M, M), 0 or 1.
    """
    found, wanted = (0.5 + 0.5 * edge_responses(masks) for masks in (probabilities, inside))
    found = ops.clip(found, _EPSILON, 1 - _EPSILON)
    return -(wanted * ops.log(found) + (1 - wanted) * ops.log(1 - found))


def mask_parts(
    logits: Any,
    targets: RoITargets,
    edges: Any,
    *,
    classes: int,
    background_first: bool,
    softmax: bool = False,
    edge_weight: float = 0.0,
) -> Parts:
    """The mask head's parts of the loss.

    Args:
        logits: (B, P, M, M, C).
        targets: of the P regions.
        edges: float32 (B, G, E, 4), the objects' outlines.
        classes: without the background.
        background_first: whether the background, if it has a channel, is the first one.
        softmax: the channels compete for each cell; else each is by itself, and only the one of
            the object's class learns.
        edge_weight: of the masks' edges; 0: they are not looked at.

    Returns:
        "mask", and "mask_edge" where it has a weight, normalised by the cells of regions with
        objects.

    Raises:
        ValueError: if channels that compete have no background among them.
    """
    size, channels = logits.shape[-2:]
    inside = rasterise(rows(edges, targets.objects), targets.boxes, size)
    channel = own_channels(targets.labels, channels, classes, background_first)
    index = channel[..., None, None, None]
    wanted = ops.cast(inside, "float32")
    if softmax:
        if channels != classes + 1:
            raise ValueError(
                f"the softmax mask loss needs a background beside {classes} classes, but the "
                f"mask head has {channels} channels"
            )
        background = 0 if background_first else classes
        labels = ops.where(inside, channel[..., None, None], background)
        losses = ops.sparse_categorical_crossentropy(labels, logits, from_logits=True)
        probabilities = ops.take_along_axis(ops.softmax(logits), index, axis=-1)[..., 0]
    else:
        chosen = ops.take_along_axis(logits, index, axis=-1)[..., 0]
        losses = ops.binary_crossentropy(wanted, chosen, from_logits=True)
        probabilities = ops.sigmoid(chosen)
    normaliser = count(targets.positive) * size * size
    where = targets.positive[..., None, None]
    parts: Parts = {"mask": (sum_where(losses, where), normaliser, 1.0)}
    if edge_weight:
        flat = (ops.reshape(masks, (-1, size, size)) for masks in (probabilities, wanted))
        own = ops.reshape(edge_loss(*flat), ops.shape(wanted))
        parts["mask_edge"] = (sum_where(own, where), normaliser, edge_weight)
    return parts
