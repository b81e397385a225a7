"""Devices: the strategy, each replica's share of the data, and its random state."""

import functools
from collections.abc import Callable
from typing import Any, Literal

import keras
import tensorflow as tf

from tfseg.train import workers


def make_strategy(name: Literal["one", "mirrored", "multi_worker"]) -> tf.distribute.Strategy:
    """One device, or a mirror on each logical GPU (on each logical CPU where there is none).

    "multi_worker" waits for all workers, and must be called before TensorFlow computes anything;
    see `tfseg.train.workers.join`.

    Raises:
        ValueError: several workers without a ``TF_CONFIG`` that says which.
        WorkerLost: the workers did not come together.
    """
    if name == "one":
        return tf.distribute.get_strategy()
    if name == "multi_worker":
        return _join()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return _mirror(tuple(device.name for device in devices))


@functools.cache  # two strategies over the same devices would confuse their collectives
def _mirror(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(devices)


@functools.cache  # a process joins once
def _join() -> tf.distribute.Strategy:
    return workers.join()


def distribute(
    dataset: Callable[..., tf.data.Dataset],
    start: int,
    strategy: tf.distribute.Strategy,
    batch_size: int,
) -> Any:
    """The data set as the replicas iterate it: each has its share of every batch's rows.

    Args:
        dataset: gives mappings of tensors from a step on and, of a `tfseg.data.pipeline.Share`
            given as second, its rows; strings, which cannot go to a GPU, are left out.
        start: the step.
        strategy: whose replicas share a batch.
        batch_size: rows of a global batch; with it known, the strategy cuts exactly.

    Raises:
        ValueError: batches have another size, as far as their shape tells.
    """

    share = workers.own_share(strategy)
    own = batch_size // share.count

    def keep(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        numeric = {key: value for key, value in batch.items() if value.dtype != tf.string}
        for key, value in numeric.items():
            if value.shape[0] not in (None, own):
                raise ValueError(
                    f"{key!r} has {value.shape[0]} rows, but batch_size is {batch_size}"
                    + (f" on {share.count} workers" if share.count > 1 else "")
                )
        return {
            key: tf.ensure_shape(value, [own, *value.shape[1:]]) for key, value in numeric.items()
        }

    if share.count > 1:
        # TensorFlow's own sharding would read all samples on every worker. That the data never
        # end is said aloud: else all workers would ask each other before each batch.
        rows = dataset(start, share).map(keep)
        rows = rows.rebatch(batch_size // strategy.num_replicas_in_sync, drop_remainder=True)
        rows = rows.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
        return strategy.distribute_datasets_from_function(lambda context: rows)
    batches = dataset(start).map(keep)
    gpus = tf.config.list_logical_devices("GPU")
    if gpus and strategy.num_replicas_in_sync == 1:
        return batches.apply(tf.data.experimental.prefetch_to_device(gpus[0].name))
    return strategy.experimental_distribute_dataset(batches)


def part_random_states(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives each replica its own random numbers.

    The mirrors of a seed generator start alike, and would drop the same units in all replicas.
    A checkpoint holds the first replica's, so call it after a restoration too.
    """
    for variable in model.variables:
        if variable.name == "seed_generator_state":
            mirrors = strategy.experimental_local_results(variable.value)
            before = workers.own_share(strategy).index * len(mirrors)
            for replica, mirror in enumerate(mirrors, before):
                mirror.assign_add(tf.constant([replica, 0], mirror.dtype))
