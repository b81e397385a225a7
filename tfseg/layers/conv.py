"""Convolutions, norms and pools with the padding rules of Caffe and torch."""

import itertools
from collections.abc import Callable
from typing import Any

import keras

from tfseg.ops.resize import window

#: from here on Keras' way to dilate is the slower one on a CPU
WIDE = 12

#: cells of a map, from which on it pays to pack a large kernel for one image
PACKED_CELLS = 200

NORMS = ("batch", "sync_batch", "frozen_batch")
Norm = Callable[[Any, str], Any]


def filler(initializer: str, **settings: float | str) -> dict[str, Any]:
    """An initializer's description, from which each layer makes one of its own.

    A Keras initializer draws the same numbers whenever it is called: layers of one shape that
    share the object start equal. It draws its seed when it is made: one that a module keeps would
    make a network's weights depend on whether its module was imported before the seed was set.

    Args:
        initializer: a class of `keras.initializers`.
        settings: its arguments.
    """
    return {"module": "keras.initializers", "class_name": initializer, "config": settings}


#: He initialisation as Caffe's "msra" filler: gaussian of variance 2 / fan-in.
MSRA = filler("VarianceScaling", scale=2.0, mode="fan_in", distribution="untruncated_normal")
#: torch's own, of convolutions that nothing else initialises: uniform within fan-in ** -0.5.
TORCH = filler("VarianceScaling", scale=1 / 3, mode="fan_in", distribution="uniform")


def batch_norm(
    kind: str, *, epsilon: float = 1e-5, momentum: float = 0.9, shift: float = 0.0
) -> Norm:
    """A function ``(x, name) -> x`` that adds one batch normalisation.

    Args:
        kind: "batch", "sync_batch" (statistics over all replicas) or "frozen_batch"
            (statistics, scale and offset stay as they are loaded).
        epsilon: added to the variance.
        momentum: what the moving statistics keep a step (torch's momentum is 1 minus this).
        shift: what the offset starts from.

    Raises:
        ValueError: for another kind.
    """
    if kind not in NORMS:
        raise ValueError(f"norm must be one of {NORMS}, not {kind!r}")

    def norm(x: Any, name: str) -> Any:
        layer = keras.layers.BatchNormalization(
            epsilon=epsilon,
            momentum=momentum,
            beta_initializer=keras.initializers.Constant(shift),
            synchronized=kind == "sync_batch",
            trainable=kind != "frozen_batch",
            name=name,
        )
        return layer(x)

    return norm


def _accelerated() -> bool:
    # Without a type Keras lists accelerators, or CPUs where there are none.
    return not all(device.startswith("cpu") for device in keras.distribution.list_devices())


@keras.saving.register_keras_serializable(package="tfseg")
class GroupedConv2D(keras.layers.Conv2D):
    """A convolution in groups that is fast on a CPU too.

    On TensorFlow, Keras compiles grouped convolutions with XLA, whose gradient takes seconds a
    layer on a CPU. Without an accelerator this layer convolves each group by itself.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if _accelerated():
            return super().convolution_op(inputs, kernel)
        # Outputs are ordered by group, and the kernel's inputs are one group's.
        pairs = zip(
            keras.ops.split(inputs, self.groups, axis=-1),
            keras.ops.split(kernel, self.groups, axis=-1),
            strict=True,
        )
        outputs = [super(GroupedConv2D, self).convolution_op(x, k) for x, k in pairs]
        return keras.ops.concatenate(outputs, axis=-1)


@keras.saving.register_keras_serializable(package="tfseg")
class WideConv2D(keras.layers.Conv2D):
    """A convolution of large dilation, stride 1 and "same" padding that is fast on a CPU too.

    On TensorFlow, Keras moves pixels into the batch and back for it, which takes several times as
    long as the products. Without an accelerator each tap of the kernel is a product with the part
    of the map that it sees; what it would see beyond the border is not computed.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        if _accelerated():
            return super().convolution_op(inputs, kernel)
        height, width = keras.ops.shape(inputs)[1:3]
        parts = []
        for row, column in itertools.product(*map(range, self.kernel_size)):
            top, rows, above_below = _overlap(height, self._offset(0, row))
            left, columns, left_right = _overlap(width, self._offset(1, column))
            part = keras.ops.matmul(window(inputs, top, left, rows, columns), kernel[row, column])
            parts.append(keras.ops.pad(part, ((0, 0), above_below, left_right, (0, 0))))
        return sum(parts[1:], parts[0])

    def _offset(self, axis: int, tap: int) -> int:
        return (tap - self.kernel_size[axis] // 2) * self.dilation_rate[axis]


@keras.saving.register_keras_serializable(package="tfseg")
class PackedConv2D(keras.layers.Conv2D):
    """A convolution of millions of weights that is fast for a single image on a CPU too.

    For one image TensorFlow lets oneDNN use variable filters as they lie in memory, which of large
    ones takes up to twice as long. As a convolution of volumes one cell deep it packs them first,
    which pays where the map has a few hundred cells.
    """

    def convolution_op(self, inputs: Any, kernel: Any) -> Any:
        def as_map() -> Any:
            return super(PackedConv2D, self).convolution_op(inputs, kernel)

        def as_volume() -> Any:
            strides = (1, *self.strides)
            found = keras.ops.conv(inputs[:, None], kernel[None], strides, self.padding)
            return found[:, 0]

        if _accelerated():
            return as_map()
        height, width = keras.ops.shape(inputs)[1:3]
        return keras.ops.cond(height * width >= PACKED_CELLS, as_volume, as_map)


def _overlap(size: Any, offset: int) -> tuple[Any, Any, tuple[Any, Any]]:
    """Where a tap at this offset begins to see a side, how much, and the zeros around that."""
    reach = abs(offset)
    reach = min(reach, size) if isinstance(size, int) else keras.ops.minimum(reach, size)
    if offset < 0:
        return 0, size - reach, (reach, 0)
    return reach, size - reach, (0, reach)


def conv2d(
    x: Any,
    filters: int,
    kernel: int,
    *,
    name: str,
    stride: int = 1,
    padding: int | None = None,
    dilation: int = 1,
    groups: int = 1,
    use_bias: bool = False,
    initializer: Any = MSRA,
) -> Any:
    """A convolution padded by ``padding`` zeros on each side, as Caffe and torch count it.

    Args:
        x: (B, H, W, C).
        padding: None: (kernel - 1) / 2 * dilation, which keeps the size at stride 1.
    """
    same = (kernel - 1) // 2 * dilation
    padding = same if padding is None else padding
    keeps_size = stride == 1 and padding == same and kernel % 2 == 1
    if padding and not keeps_size:
        # TensorFlow's "same" pads strided convolutions on the far side first.
        x = keras.layers.ZeroPadding2D(padding, name=f"{name}.pad")(x)
    layer = keras.layers.Conv2D if groups == 1 else GroupedConv2D
    if groups == 1 and keeps_size and dilation >= WIDE:
        layer = WideConv2D
    return layer(
        filters,
        kernel,
        strides=stride,
        padding="same" if keeps_size else "valid",
        dilation_rate=dilation,
        groups=groups,
        use_bias=use_bias,
        kernel_initializer=initializer,
        name=name,
    )(x)


@keras.saving.register_keras_serializable(package="tfseg")
class MaxPool2D(keras.layers.Layer):
    """Max pooling with explicit padding and, as in Caffe, sizes rounded up.

    Args:
        size: side of the window.
        stride: step of the window.
        padding: cells on each side that never win the maximum.
        ceil_mode: round the output's size up: a window may hang over the far edge, but must
            start inside the image or the near padding.

    Input (B, H, W, C), output (B, h, w, C).
    """

    def __init__(
        self, size: int, stride: int, *, padding: int = 0, ceil_mode: bool = False, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.size, self.stride = size, stride
        self.padding, self.ceil_mode = padding, ceil_mode

    def call(self, x: Any) -> Any:
        # Padding the far side by stride - 1 more turns the floor into a ceiling.
        far = self.padding + (self.stride - 1 if self.ceil_mode else 0)
        if far:
            side = (self.padding, far)
            x = keras.ops.pad(x, ((0, 0), side, side, (0, 0)), constant_values=float("-inf"))
        return keras.ops.max_pool(x, self.size, self.stride, padding="valid")

    def compute_output_shape(self, shape: Any) -> Any:
        extra = 2 * self.padding + (self.stride - 1 if self.ceil_mode else 0)

        def side(n: int | None) -> int | None:
            return None if n is None else (n + extra - self.size) // self.stride + 1

        return (shape[0], side(shape[1]), side(shape[2]), shape[3])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "size": self.size,
            "stride": self.stride,
            "padding": self.padding,
            "ceil_mode": self.ceil_mode,
        }
