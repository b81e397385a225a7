"""From a reader to batches: decode, augment, preprocess, batch, all ahead of the step.

What batch k holds is a function of the seed and k alone: the order of an epoch is a stateless
permutation, and every transform draws from a seed made of the run's and the sample's place. A run
is therefore resumed at step k by starting at batch k.
"""

import atexit
import logging
import time
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from tfseg.data.sample import DataError, Reader, Sample
from tfseg.data.transforms import Transform
from tfseg.ops.preprocess import preprocess
from tfseg.registry import Preprocessing

_LOG = logging.getLogger(__name__)

#: keys that training uses: dtype and rank that readers give them, and how many of their last
#: sides are the same in all samples
_KEYS = {
    "image": (tf.uint8, 3, 1),
    "mask": (tf.int32, 2, 0),
    "weights": (tf.float32, 2, 0),
    "boxes": (tf.float32, 2, 1),
    "labels": (tf.int32, 1, 0),
    "crowd": (tf.bool, 1, 0),
    "edges": (tf.float32, 3, 1),
    "keypoints": (tf.float32, 3, 2),
    "proposals": (tf.float32, 2, 1),
}


@dataclass(frozen=True)
class Share:
    """The rows of every batch that are one worker's: of ``count`` equal parts that at ``index``."""

    index: int = 0
    count: int = 1

    def rows(self, batch_size: int) -> slice:
        """Which rows of a global batch they are; ``count`` divides its size."""
        own = batch_size // self.count
        return slice(self.index * own, (self.index + 1) * own)


#: of the only worker
WHOLE = Share()


class _Exit:
    """Keeps tf.data's threads out of Python while the interpreter goes down.

    A thread that asks for the interpreter then never gets it, and the program hangs when it frees
    the iterator. So at exit reading is refused, and waited for until it is quiet: the pipeline's
    buffers are finite.
    """

    def __init__(self) -> None:
        self._refused, self._inside, self._last = False, 0, 0.0
        self._lock = Lock()
        atexit.register(self._wait)

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Around each call from a thread of tf.data."""
        with self._lock:
            self._inside += 1
        try:
            if self._refused:
                raise InterruptedError("the program is ending")
            yield
        finally:
            with self._lock:
                self._inside -= 1
                self._last = time.monotonic()

    def _wait(self) -> None:
        self._refused = True
        while self._inside or time.monotonic() - self._last < 0.2:
            time.sleep(0.02)


_EXIT = _Exit()


class _Cached:
    """A reader whose decoded samples are kept, in memory or as .npz files."""

    def __init__(self, reader: Reader, cache: str, folder: Path | None):
        self._reader, self._cache, self._folder = reader, cache, folder
        self._kept: dict[int, Sample] = {}
        self._lock = Lock()
        if cache == "disk" and folder is None:
            raise ValueError("cache 'disk' needs a cache_dir")

    def __getitem__(self, index: int) -> Sample:
        if self._cache == "none":
            return self._reader[index]
        if self._cache == "memory":
            if index not in self._kept:
                sample = self._reader[index]
                with self._lock:
                    self._kept[index] = sample
            return self._kept[index]
        return self._from_disk(index)

    def _from_disk(self, index: int) -> Sample:
        assert self._folder is not None
        path = self._folder / f"{index}.npz"
        if path.exists():
            try:
                with np.load(path, allow_pickle=False) as file:
                    arrays: Any = {key: file[key] for key in file.files}
                return Sample(**{**arrays, "name": str(arrays["name"])})
            except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile, zlib.error) as e:
                _LOG.warning("%s is damaged (%s): it is made again", path, e)
        sample = self._reader[index]
        self._folder.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(f".{id(sample)}.npz")
        np.savez(partial, **sample)
        partial.replace(path)  # whole or not at all
        return sample


def _read(
    first: Sample, cached: _Cached, keys: Sequence[str], index: tf.Tensor
) -> dict[str, tf.Tensor]:
    """One sample as tensors of known rank, with the channels and the like of the first one."""
    channels = first["image"].shape[-1]

    def load(place: np.ndarray) -> list[Any]:
        with _EXIT.reading():
            sample: Any = cached[int(place)]
        if sample["image"].shape[-1] != channels:
            raise DataError(
                f"{sample['name']} has {sample['image'].shape[-1]} channels, the first image "
                f"{channels}: convert the images to one kind"
            )
        return [sample["name"], *(sample[key] for key in keys)]

    types = [tf.string, *(_KEYS[key][0] for key in keys)]
    name, *values = tf.numpy_function(load, [index], types, stateful=False)
    out = {"name": tf.ensure_shape(name, ())}
    shapes: Any = {key: value.shape for key, value in first.items() if key in keys}  # type: ignore
    for key, value in zip(keys, values, strict=True):
        _, rank, known = _KEYS[key]
        shape = [None] * (rank - known) + list(shapes[key][rank - known :])
        out[key] = tf.ensure_shape(value, shape)
    return out


def sample_dataset(
    reader: Reader,
    transforms: Sequence[Transform],
    keys: Sequence[str],
    *,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    start_step: int,
    cache: Literal["none", "memory", "disk"],
    cache_dir: Path | None,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Endless augmented and preprocessed samples, not yet in batches; see `training_dataset`.

    Args:
        keys: which of the reader's to read beside "name"; "image" is one of them.
        batch_size: samples of a (global) batch; with ``start_step`` it tells where to start.
        share: which of each batch's to read.
    """
    count, cached, first = len(reader), _Cached(reader, cache, cache_dir), reader[0]

    rows = share.rows(batch_size)
    own = rows.stop - rows.start

    def sample_at(position: tf.Tensor) -> dict[str, tf.Tensor]:
        place = position // own * batch_size + rows.start + position % own
        epoch, within = place // count, place % count
        order = tf.stack([tf.constant(seed, tf.int64), epoch])
        index = tf.random.experimental.index_shuffle(within, order, count - 1)
        sample = _read(first, cached, keys, index)
        drawn = tf.stack([tf.constant(seed, tf.int64), place])
        parts = tf.random.experimental.stateless_split(drawn, max(len(transforms), 1))
        for transform, part in zip(transforms, tf.unstack(parts), strict=False):
            sample = transform(sample, part)
        sample["image"] = preprocess(tf.cast(sample["image"], tf.float32), preprocessing)
        return sample

    dataset = tf.data.Dataset.range(start_step * own, np.iinfo(np.int64).max)
    return dataset.map(sample_at, num_parallel_calls=tf.data.AUTOTUNE, deterministic=True)


def training_dataset(
    reader: Reader,
    transforms: Sequence[Transform],
    *,
    preprocessing: Preprocessing,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    cache: Literal["none", "memory", "disk"] = "none",
    cache_dir: Path | None = None,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Endless batches of augmented samples; every epoch has each sample once, in its own order.

    Args:
        reader: the samples; all of them have a mask.
        transforms: applied in order. For batches of more than one they must end in a fixed size.
        preprocessing: the model's.
        batch_size: samples of a (global) batch.
        seed: of order and augmentation.
        start_step: the first batch is the one that a run from 0 would reach after this many.
        cache: keep decoded samples in "memory" or on "disk".
        cache_dir: folder of the disk cache, one for each data set.
        share: the rows of every batch that this worker reads, and the batches then have.

    Returns:
        A data set of {"name": string (B,), "image": float32 (B, H, W, C), preprocessed, "mask":
        int32 (B, h, w), and "weights": float32 (B, h, w) if the reader gives them}.

    Raises:
        ValueError: if images of a batch would differ in size, or there is no mask.
    """
    if "mask" not in reader.keys():  # noqa: SIM118 (not a mapping)
        raise ValueError("the samples have no mask to train on")
    dataset = sample_dataset(
        reader,
        transforms,
        [key for key in ("image", "mask", "weights") if key in reader.keys()],  # noqa: SIM118
        preprocessing=preprocessing,
        batch_size=batch_size,
        seed=seed,
        start_step=start_step,
        cache=cache,
        cache_dir=cache_dir,
        share=share,
    )
    size = dataset.element_spec["image"].shape[:2]
    if batch_size > 1 and not size.is_fully_defined():
        raise ValueError(
            f"batches of {batch_size} need images of one size: end data.transforms with a crop or "
            "a resize"
        )
    own = batch_size // share.count
    return dataset.batch(own, drop_remainder=True).prefetch(tf.data.AUTOTUNE)
