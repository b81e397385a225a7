"""Windows and padding of feature maps, and resizing and pooling as products with small matrices.

Bilinear interpolation and adaptive averaging are linear and separable, so each is a matrix a
side. That gives aligned corners, which no Keras resize has, on every backend, with dynamic sizes,
and gradients that are matrix products too.
"""

from typing import Any

from keras import ops


def window(x: Any, top: Any, left: Any, height: Any, width: Any) -> Any:
    """The part of a map (B, H, W, C) that begins there: (B, height, width, C).

    Faster to learn through than x[...], whose gradient TensorFlow writes with one thread.
    """
    batch, _, _, channels = ops.shape(x)
    return ops.slice(x, (0, top, left, 0), (batch, height, width, channels))


def pad_below_right(x: Any, height: Any, width: Any) -> Any:
    """A map (B, h, w, C) with zeros below and to the right: (B, height, width, C)."""
    rows, columns = ops.shape(x)[1:3]
    padded = ops.pad(x, ((0, 0), (0, height - rows), (0, width - columns), (0, 0)))
    # Of padding by tensors TensorFlow forgets the channels, which TensorFlow Lite must know.
    return ops.reshape(padded, (-1, height, width, x.shape[-1]))


def bilinear_matrix(size: Any, source: Any, *, align_corners: bool, dtype: str) -> Any:
    """The (size, source) matrix that interpolates ``source`` samples at ``size`` places.

    Args:
        size: samples wanted, an integer or an integer scalar.
        source: samples given.
        align_corners: True: first and last samples fall on each other, as Caffe's Interp and
            torch's ``align_corners=True``; False: the outer edges do (half-pixel centres).
        dtype: of the matrix.
    """
    positions = ops.cast(ops.arange(size), dtype)
    last = ops.cast(source - 1, dtype)
    if align_corners:
        positions = positions * last / ops.maximum(ops.cast(size - 1, dtype), 1)
    else:
        scale = ops.cast(source, dtype) / ops.cast(size, dtype)
        positions = ops.clip((positions + 0.5) * scale - 0.5, 0, last)
    samples = ops.cast(ops.arange(source), dtype)
    distance = ops.abs(positions[:, None] - samples[None, :])
    return ops.maximum(1 - distance, 0)


def average_matrix(bins: int, source: Any, *, dtype: str) -> Any:
    """The (bins, source) matrix of torch's adaptive average pooling.

    Bin i averages the samples from floor(i n / bins) up to, without it, ceil((i + 1) n / bins).
    """
    index = ops.arange(bins)
    start = (index * source) // bins
    stop = ((index + 1) * source + bins - 1) // bins
    samples = ops.arange(source)[None, :]
    inside = ops.logical_and(samples >= start[:, None], samples < stop[:, None])
    inside = ops.cast(inside, dtype)
    return inside / ops.sum(inside, axis=1, keepdims=True)


def _separable(x: Any, rows: Any, columns: Any) -> Any:
    """``rows`` (h, H) and ``columns`` (w, W) applied to (B, H, W, C), giving (B, h, w, C)."""
    shape = ops.shape(x)
    rows, columns = ops.cast(rows, x.dtype), ops.cast(columns, x.dtype)
    # (h, H) x (B, H, W C): no transposition of the large tensor
    x = ops.reshape(x, (shape[0], shape[1], shape[2] * shape[3]))
    x = ops.matmul(rows[None], x)
    x = ops.reshape(x, (shape[0], ops.shape(rows)[0], shape[2], shape[3]))
    return ops.matmul(columns[None, None], x)


def resize_bilinear(x: Any, size: tuple[Any, Any], *, align_corners: bool) -> Any:
    """Bilinear interpolation without antialiasing.

    Args:
        x: (B, H, W, C) floating point.
        size: (height, width) wanted: integers or integer scalars.
        align_corners: see `bilinear_matrix`.

    Returns:
        (B, height, width, C), of x's dtype. The matrices are made in float32.
    """
    shape = ops.shape(x)
    rows = bilinear_matrix(size[0], shape[1], align_corners=align_corners, dtype="float32")
    columns = bilinear_matrix(size[1], shape[2], align_corners=align_corners, dtype="float32")
    return _separable(x, rows, columns)


def enlarge_bilinear(x: Any, factor: int) -> Any:
    """Bilinear interpolation to a multiple of the size, with half-pixel centres.

    `resize_bilinear` without its matrices, which cost more the larger the map is.

    Args:
        x: (B, H, W, C) floating point.
        factor: of both sides.

    Returns:
        (B, factor * H, factor * W, C), of x's dtype.
    """
    return _enlarge_side(_enlarge_side(x, 1, factor), 2, factor)


def _enlarge_side(x: Any, axis: int, factor: int) -> Any:
    sizes = [*ops.shape(x)[:3], x.shape[3]]
    rest = sizes[axis] - 1

    def part(first: Any, count: Any) -> Any:
        begin = [0, 0, 0, 0]
        begin[axis] = first
        return ops.slice(x, begin, [*sizes[:axis], count, *sizes[axis + 1 :]])

    before = ops.concatenate([part(0, 1), part(0, rest)], axis=axis)
    after = ops.concatenate([part(1, rest), part(rest, 1)], axis=axis)
    places = [(phase + 0.5) / factor - 0.5 for phase in range(factor)]
    phases = [
        x * (1 - abs(place)) + (before if place < 0 else after) * abs(place) for place in places
    ]
    sizes[axis] = sizes[axis] * factor
    return ops.reshape(ops.stack(phases, axis=axis + 1), sizes)


def adaptive_average_pool(x: Any, bins: int) -> Any:
    """Averages over a ``bins`` x ``bins`` grid of regions that cover the whole map.

    Where the sides are multiples of ``bins`` this is average pooling with kernel and stride
    side / bins: PSPNet's released kernels 60, 30, 20, 10 at 473 and 90, 45, 30, 15 at 713.

    Args:
        x: (B, H, W, C) floating point.

    Returns:
        (B, bins, bins, C), of x's dtype.
    """
    shape = ops.shape(x)
    rows = average_matrix(bins, shape[1], dtype="float32")
    columns = average_matrix(bins, shape[2], dtype="float32")
    return _separable(x, rows, columns)
