"""Training batches of detectors: images of several sizes and any number of objects."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import tensorflow as tf

from tfseg.data.pipeline import WHOLE, Share, sample_dataset
from tfseg.data.sample import ObjectReader
from tfseg.data.transforms import Transform
from tfseg.data.transforms.geometry import Flip
from tfseg.registry import Preprocessing

_POWERS = 2 ** np.arange(31, dtype=np.int32)


def detection_dataset(
    reader: ObjectReader,
    transforms: Sequence[Transform],
    *,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    cache: Literal["none", "memory", "disk"] = "none",
    cache_dir: Path | None = None,
    masks: bool = False,
    keypoints: bool = False,
    semantic: bool = False,
    proposals: bool = False,
    buckets: Sequence[tuple[int, int]] | None = None,
    divisor: int = 32,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Endless batches of augmented images with their objects; see `training_dataset`.

    Images are padded with zeros below and to the right after their preprocessing, objects and
    proposals to a power of two, so that a compiled step meets few shapes. Outlines come without
    horizontal segments, which fill nothing.

    Args:
        reader: the samples, with "boxes", "labels" and "crowd", and what the next options need.
        transforms: applied in order.
        preprocessing: the model's.
        batch_size: images of a (global) batch.
        seed: of order and augmentation.
        start_step: the first batch is the one that a run from 0 would reach after this many.
        cache: keep decoded samples in "memory" or on "disk".
        cache_dir: folder of the disk cache, one for each data set.
        masks: batches have "edges".
        keypoints: batches have "keypoints".
        semantic: batches have "mask".
        proposals: batches have "proposals".
        buckets: (height, width) of the images in batches: the one of least area that holds all
            of a batch. None: sides are the least multiples of ``divisor``.
        divisor: see ``buckets``, whose sides are multiples of it, too.
        share: the rows of every batch that are this worker's. All are read, since the padding of
            each depends on the others.

    Returns:
        A data set of {"name": string (B,), "image": float32 (B, H, W, C), "size": float32 (B, 2),
        height and width inside the padding, "boxes": float32 (B, G, 4), "labels": int32 (B, G),
        "valid": bool (B, G), False for padding, "crowd": bool (B, G), "edges": float32
        (B, G, E, 4), "keypoints": float32 (B, G, K, 3), "mask": int32 (B, H, W), the ignore label
        in the padding, "proposals": float32 (B, P, 4), "proposed": bool (B, P), False for
        padding}. G, E and P are at least 1.

    Raises:
        ValueError: samples without a key that is needed, a flip of keypoints without pairs, a
            bucket that is no multiple of the divisor.
        tf.errors.InvalidArgumentError: from the data set, an image that no bucket holds.
    """
    asked = {"edges": masks, "keypoints": keypoints, "mask": semantic, "proposals": proposals}
    keys = ["image", "boxes", "labels", "crowd", *(key for key, wanted in asked.items() if wanted)]
    absent = [key for key in keys if key not in reader.keys()]  # noqa: SIM118 (not a mapping)
    if absent:
        raise ValueError(f"the samples have no {', '.join(absent)} to train on")
    if keypoints:
        _check_flips(reader, transforms)
    _check_buckets(buckets, divisor)
    dataset = sample_dataset(
        reader,
        transforms,
        keys,
        preprocessing=preprocessing,
        batch_size=batch_size,
        seed=seed,
        start_step=start_step,
        cache=cache,
        cache_dir=cache_dir,
    )
    dataset = dataset.map(_complete, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)
    fills = {key: tf.zeros((), spec.dtype) for key, spec in dataset.element_spec.items()}
    if semantic:
        fills["mask"] = tf.constant(reader.ignore_label)
    dataset = dataset.padded_batch(batch_size, padding_values=fills, drop_remainder=True)
    pad = partial(_pad, fills=fills, buckets=buckets, divisor=divisor)
    dataset = dataset.map(pad, num_parallel_calls=tf.data.AUTOTUNE)
    if share.count > 1:
        rows = share.rows(batch_size)
        dataset = dataset.map(lambda batch: {key: value[rows] for key, value in batch.items()})
    return dataset.prefetch(tf.data.AUTOTUNE)


def _check_flips(reader: ObjectReader, transforms: Sequence[Transform]) -> None:
    pairs = [list(pair) for pair in reader.flip_pairs]
    for transform in transforms:
        if isinstance(transform, Flip) and pairs and not transform.pairs:
            raise ValueError(f"flip must change left keypoints for right ones: pairs: {pairs}")


def _check_buckets(buckets: Sequence[tuple[int, int]] | None, divisor: int) -> None:
    if divisor < 1:
        raise ValueError(f"divisor must be positive, not {divisor}")
    for bucket in buckets or ():
        if len(bucket) != 2 or any(side < 1 or side % divisor for side in bucket):
            raise ValueError(
                f"a bucket is [height, width] in positive multiples of {divisor}, not {bucket}"
            )


def _complete(sample: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    """A transformed sample with what batches have beside its keys."""
    out = dict(sample, size=tf.cast(tf.shape(sample["image"])[:2], tf.float32))
    out["valid"] = tf.ones_like(sample["labels"], tf.bool)
    if "proposals" in sample:
        out["proposed"] = tf.ones_like(sample["proposals"][:, 0], tf.bool)
    if "edges" in sample:
        edges = sample["edges"]
        sloped = tf.ragged.boolean_mask(edges, edges[..., 1] != edges[..., 3])
        out["edges"] = tf.ensure_shape(sloped.to_tensor(), edges.shape)
    return out


def _pad(
    batch: dict[str, tf.Tensor],
    fills: dict[str, tf.Tensor],
    buckets: Sequence[tuple[int, int]] | None,
    divisor: int,
) -> dict[str, tf.Tensor]:
    """The batch with images and objects padded to one of few sizes."""
    old = tf.shape(batch["image"])[1:3]
    side = tf.cast(-(-old // divisor) * divisor, tf.int32)
    size = side if buckets is None else _bucket(old, buckets)
    count = _power(tf.shape(batch["labels"])[1])
    wanted = {"image": size, "mask": size}
    wanted |= dict.fromkeys(("boxes", "labels", "valid", "crowd", "keypoints"), count[None])
    if "proposals" in batch:
        proposed = _power(tf.shape(batch["proposals"])[1])
        wanted |= dict.fromkeys(("proposals", "proposed"), proposed[None])
    if "edges" in batch:
        wanted["edges"] = tf.stack([count, _power(tf.shape(batch["edges"])[2])])
    out = dict(batch)
    for key, sides in wanted.items():
        if key in batch:
            shape = batch[key].shape
            missing = sides - tf.shape(batch[key])[1 : 1 + sides.shape[0]]
            after = tf.pad(missing, [[1, len(shape) - 1 - sides.shape[0]]])
            paddings = tf.stack([tf.zeros_like(after), after], axis=1)
            out[key] = tf.pad(batch[key], paddings, constant_values=fills[key])
            out[key] = tf.ensure_shape(out[key], shape)
    return out


def _bucket(size: tf.Tensor, buckets: Sequence[tuple[int, int]]) -> tf.Tensor:
    ordered = tf.constant(sorted(buckets, key=lambda bucket: bucket[0] * bucket[1]), tf.int32)
    fits = tf.reduce_all(ordered >= size, axis=1)
    message = f"no bucket of {[list(b) for b in buckets]} holds images of the height and width"
    with tf.control_dependencies([tf.debugging.Assert(tf.reduce_any(fits), [message, size])]):
        return ordered[tf.argmax(tf.cast(fits, tf.int32))]


def _power(count: tf.Tensor) -> tf.Tensor:
    """The least power of two that is not below."""
    return tf.constant(_POWERS)[tf.searchsorted(_POWERS, count[None])[0]]
