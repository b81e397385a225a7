"""Devices: the strategy, each replica's share of the data, and its random state."""

import functools
from typing import Any, Literal

import keras
import tensorflow as tf


def make_strategy(name: Literal["one", "mirrored"]) -> tf.distribute.Strategy:
    """One device, or a mirror on each logical GPU (on each logical CPU where there is none)."""
    if name == "one":
        return tf.distribute.get_strategy()
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    return _mirror(tuple(device.name for device in devices))


@functools.cache  # two strategies over the same devices would confuse their collectives
def _mirror(devices: tuple[str, ...]) -> tf.distribute.Strategy:
    return tf.distribute.MirroredStrategy(devices)


def distribute(dataset: tf.data.Dataset, strategy: tf.distribute.Strategy, batch_size: int) -> Any:
    """The data set as the replicas iterate it: each has its share of every batch's rows.

    Args:
        dataset: mappings of tensors; strings, which cannot go to a GPU, are left out.
        strategy: whose replicas share a batch.
        batch_size: rows of a global batch; with it known, the strategy cuts exactly.

    Raises:
        ValueError: batches have another size, as far as their shape tells.
    """

    def keep(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        numeric = {key: value for key, value in batch.items() if value.dtype != tf.string}
        for key, value in numeric.items():
            if value.shape[0] not in (None, batch_size):
                raise ValueError(
                    f"{key!r} has {value.shape[0]} rows, but batch_size is {batch_size}"
                )
        return {
            key: tf.ensure_shape(value, [batch_size, *value.shape[1:]])
            for key, value in numeric.items()
        }

    dataset = dataset.map(keep)
    gpus = tf.config.list_logical_devices("GPU")
    if gpus and strategy.num_replicas_in_sync == 1:
        return dataset.apply(tf.data.experimental.prefetch_to_device(gpus[0].name))
    return strategy.experimental_distribute_dataset(dataset)


def part_random_states(model: keras.Model, strategy: tf.distribute.Strategy) -> None:
    """Gives each replica its own random numbers.

    The mirrors of a seed generator start alike, and would drop the same units in all replicas.
    A checkpoint holds the first replica's, so call it after a restoration too.
    """
    for variable in model.variables:
        if variable.name == "seed_generator_state":
            mirrors = strategy.experimental_local_results(variable.value)
            for replica, mirror in enumerate(mirrors):
                mirror.assign_add(tf.constant([replica, 0], mirror.dtype))
