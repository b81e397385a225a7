"""What a training consists of beside its model, whatever the task."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from tfseg.data.sample import Reader


@dataclass(frozen=True)
class Kit:
    """What a training needs.

    Attributes:
        reader: the training samples.
        loss: what is learnt; see `tfseg.train.step.Loss`.
        dataset: the batches from a step on; of a `tfseg.data.pipeline.Share`, given as second,
            its rows.
        validate: the scores of a model, or None without validation data.
        draw: pictures of its work, or None.
    """

    reader: Reader
    loss: Any
    dataset: Callable[..., tf.data.Dataset]
    validate: Callable[[keras.Model], dict[str, float]] | None = None
    draw: Callable[[keras.Model], dict[str, np.ndarray]] | None = None
