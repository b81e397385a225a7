"""What semantic networks learn to minimise: cross-entropy or absolute error over pixels."""

from collections.abc import Mapping
from typing import Any, Literal

import keras
import numpy as np
from keras import ops

from tfseg.ops.logits import class_logits

Reduction = Literal["mean", "sum"]
#: name -> (sum, normaliser or None, weight): the loss is the sum of ``weight * sum / normaliser``.
Parts = dict[str, tuple[Any, Any, float]]


def _check(labels: Any, logits: Any, class_weights: Any) -> None:
    if len(labels.shape) != 3 or len(logits.shape) != 4:
        raise ValueError(
            f"labels must be (B, H, W) and logits (B, H, W, C), "
            f"not {tuple(labels.shape)} and {tuple(logits.shape)}"
        )
    size, expected = tuple(labels.shape[1:]), tuple(logits.shape[1:3])
    if any(a is not None and b is not None and a != b for a, b in zip(size, expected, strict=True)):
        raise ValueError(
            f"labels are {size[0]}x{size[1]} but logits are {expected[0]}x{expected[1]} "
            "(height x width); for a network whose output is smaller than its input, "
            "add the transform 'crop_labels'"
        )
    if class_weights is not None and len(class_weights) != logits.shape[-1]:
        raise ValueError(
            f"class_weights has {len(class_weights)} values, but there are "
            f"{logits.shape[-1]} classes"
        )


def _prepared(
    labels: Any, logits: Any, ignore_label: int, class_weights: Any, pixel_weights: Any
) -> tuple[Any, Any, Any]:
    """Labels that are classes everywhere, float32 logits, and the pixels' weights."""
    labels, logits = ops.convert_to_tensor(labels), class_logits(ops.convert_to_tensor(logits))
    _check(labels, logits, class_weights)
    labels = ops.cast(labels, "int32")
    scored = labels != ignore_label
    known = ops.logical_and(labels >= 0, labels < logits.shape[-1])
    # In range everywhere: the kernel would give NaN gradients even to pixels of weight 0.
    safe = ops.where(ops.logical_and(scored, known), labels, 0)
    weights = ops.where(scored, ops.where(known, 1.0, np.nan), 0.0)
    weights = ops.cast(weights, "float32")
    if class_weights is not None:
        weights *= ops.take(ops.convert_to_tensor(class_weights, dtype="float32"), safe)
    if pixel_weights is not None:
        weights *= ops.cast(pixel_weights, "float32")
    return safe, ops.cast(logits, "float32"), weights


def softmax_cross_entropy(
    labels: Any,
    logits: Any,
    *,
    ignore_label: int = 255,
    class_weights: Any = None,
    pixel_weights: Any = None,
) -> tuple[Any, Any]:
    """The weighted sum of the pixels' cross-entropies, and the sum of their weights.

    A pixel's weight is the product of its class' weight and its own; it is 0 where the label is
    ``ignore_label``. The weighted mean is the quotient of the two results; both are 0 where
    nothing is labelled. Computed in float32 whatever the dtype of the logits.

    Args:
        labels: integer (B, H, W) class ids. An id that is neither a class nor ``ignore_label``
            makes both results NaN.
        logits: (B, H, W, C); of one channel, the logit of class 1 of two.
        ignore_label: label of pixels that do not count; it may lie in or out of [0, C).
        class_weights: C floats, or None for 1.
        pixel_weights: (B, H, W), or broadcastable to it, or None for 1.

    Returns:
        (sum, normaliser), float32 scalars.

    Raises:
        ValueError: where ranks, sizes or the number of class weights do not fit.
    """
    safe, logits, weights = _prepared(labels, logits, ignore_label, class_weights, pixel_weights)
    losses = ops.sparse_categorical_crossentropy(safe, logits, from_logits=True)
    return ops.sum(weights * losses), ops.sum(weights)


def mean_absolute_error(
    labels: Any,
    logits: Any,
    *,
    ignore_label: int = 255,
    class_weights: Any = None,
    pixel_weights: Any = None,
) -> tuple[Any, Any]:
    """The weighted sum of the pixels' absolute errors, and the sum of their weights.

    A pixel's error is the mean over the classes of ``|[label is the class] - probability|``: of
    two classes ``|label - p|``, FusionNet's loss. Weights, arguments and errors are those of
    `softmax_cross_entropy`.

    Returns:
        (sum, normaliser), float32 scalars.
    """
    safe, logits, weights = _prepared(labels, logits, ignore_label, class_weights, pixel_weights)
    probabilities = ops.softmax(logits)
    wanted = ops.one_hot(safe, logits.shape[-1], dtype="float32")
    errors = ops.mean(ops.absolute(wanted - probabilities), axis=-1)
    return ops.sum(weights * errors), ops.sum(weights)


#: by the name that experiment files use
LOSSES = {"cross_entropy": softmax_cross_entropy, "mean_absolute_error": mean_absolute_error}


class SemanticLoss:
    """The loss of a semantic network, with its auxiliary heads' if it has some.

    Args:
        name: one of LOSSES.
        ignore_label: label of pixels that do not count.
        reduction: "mean" divides by the sum of the labelled pixels' weights; "sum" divides by
            nothing (FCN's released nets: SoftmaxWithLoss with ``normalize: false``).
        class_weights: one float a class, or None.
        use_pixel_weights: multiply by the batch's "weights" (U-Net's border weights).
        label_stride: keep every so many rows and columns of labels and logits. Where logits are
            interpolated with aligned corners from a score map of this stride, the kept ones are
            the scores themselves: DeepLab's loss, at an eighth of the resolution.
        aux_weight: factor of the loss of each output beside "logits" (PSPNet, arXiv 1612.01105:
            0.4; DeepLab v2's scales: 1).

    Raises:
        ValueError: for another name or reduction.
    """

    def __init__(
        self,
        *,
        name: str = "cross_entropy",
        ignore_label: int = 255,
        reduction: Reduction = "mean",
        class_weights: list[float] | None = None,
        use_pixel_weights: bool = False,
        label_stride: int = 1,
        aux_weight: float = 0.4,
    ):
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', not {reduction!r}")
        if name not in LOSSES:
            raise ValueError(f"the loss must be one of {sorted(LOSSES)}, not {name!r}")
        self.name, self.ignore_label, self.reduction = name, ignore_label, reduction
        self.class_weights, self.use_pixel_weights = class_weights, use_pixel_weights
        self.label_stride, self.aux_weight = label_stride, aux_weight

    def parts(self, model: keras.Model, batch: Mapping[str, Any], training: bool = True) -> Parts:
        """The loss' parts of a batch: the model's outputs and `__call__`.

        Args:
            model: makes (B, H, W, C) logits, or a mapping of them, of images.
            batch: has "image", and what `__call__` needs.
            training: whether the model runs as in training.

        Returns:
            See `__call__`.
        """
        return self(model(batch["image"], training=training), batch)

    def __call__(self, outputs: Any, batch: Mapping[str, Any]) -> Parts:
        """The loss' parts: that of the logits, under the loss' name, and one for each auxiliary
        output, under the output's.

        Args:
            outputs: logits (B, H, W, C), or a mapping of them: "logits", and names that start
                with "aux".
            batch: has "mask" (B, H, W), and "weights" (B, H, W) if pixel weights are used.

        Returns:
            name -> (sum, normaliser, weight). The normaliser is None for "sum", and the very
            same tensor in all parts for "mean".

        Raises:
            ValueError: for other outputs, missing weights, or sizes that differ.
        """
        if not isinstance(outputs, Mapping):
            outputs = {"logits": outputs}
        auxiliary = sorted(set(outputs) - {"logits"})
        if "logits" not in outputs or not all(name.startswith("aux") for name in auxiliary):
            raise ValueError(
                "a semantic network returns 'logits' and perhaps outputs whose names start with "
                f"'aux', not {sorted(outputs)}"
            )
        pixel_weights = None
        if self.use_pixel_weights:
            if "weights" not in batch:
                raise ValueError(
                    f"pixel weights are asked for, but a batch has only {sorted(batch)}; "
                    "they come from the reader or from a transform"
                )
            pixel_weights = batch["weights"]
        kept = slice(None, None, self.label_stride)
        if pixel_weights is not None:
            pixel_weights = pixel_weights[:, kept, kept]
        parts: Parts = {}
        normaliser = None
        for output in ("logits", *auxiliary):
            total, counted = LOSSES[self.name](
                batch["mask"][:, kept, kept],
                outputs[output][:, kept, kept],
                ignore_label=self.ignore_label,
                class_weights=self.class_weights,
                pixel_weights=pixel_weights,
            )
            # Labels and weights are the same for all outputs, so their sum is too; sharing the
            # tensor lets the training step divide once.
            if self.reduction == "mean" and normaliser is None:
                normaliser = counted
            if output == "logits":
                parts[self.name] = (total, normaliser, 1.0)
            else:
                parts[output] = (total, normaliser, self.aux_weight)
        return parts


@keras.saving.register_keras_serializable(package="tfseg")
class SparseCrossEntropy(keras.losses.Loss):
    """`softmax_cross_entropy` for plain ``model.compile`` and ``model.fit``.

    ``y_true`` is integer (B, H, W), ``y_pred`` logits (B, H, W, C), ``sample_weight`` (B, H, W)
    or (B,). Under a distribution strategy Keras averages the replicas' means, which is the mean
    over the global batch only where all replicas have equally many labelled pixels;
    `tfseg.train` divides by the global count.

    Args:
        ignore_label: label of pixels that do not count.
        class_weights: one float a class, or None.
        reduction: "mean" (over the weights of labelled pixels) or "sum".

    Raises:
        ValueError: for another reduction.
    """

    def __init__(
        self,
        *,
        ignore_label: int = 255,
        class_weights: list[float] | None = None,
        reduction: Reduction = "mean",
        name: str = "sparse_cross_entropy",
    ):
        if reduction not in ("mean", "sum"):
            raise ValueError(f"reduction must be 'mean' or 'sum', not {reduction!r}")
        super().__init__(name=name, reduction=reduction)
        self.ignore_label, self.class_weights = ignore_label, class_weights

    def __call__(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        """The loss, a float32 scalar; see the class."""
        if sample_weight is not None:
            sample_weight = ops.convert_to_tensor(sample_weight)
            if len(sample_weight.shape) == 1:
                sample_weight = ops.reshape(sample_weight, (-1, 1, 1))
        total, normaliser = softmax_cross_entropy(
            y_true,
            y_pred,
            ignore_label=self.ignore_label,
            class_weights=self.class_weights,
            pixel_weights=sample_weight,
        )
        return total if self.reduction == "sum" else ops.divide_no_nan(total, normaliser)

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {
            **super().get_config(),
            "ignore_label": self.ignore_label,
            "class_weights": self.class_weights,
        }
