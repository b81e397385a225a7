"""A tiny network, tiny data and a run over them, for the tests of the training engine."""

import keras
import numpy as np
import tensorflow as tf

from tfseg import config
from tfseg.losses import SemanticLoss
from tfseg.train import Trainer
from tfseg.train.optimizers import UpdateRule
from tfseg.train.step import Progress, TrainStep

CLASSES = 3


def network(norm=None, dropout=0.0, aux=False, size=8, classes=CLASSES):
    """Two convolutions: "backbone.conv" and "head"."""
    image = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(4, 3, padding="same", name="backbone.conv")(image)
    if norm:
        synchronized = norm == "sync_batch"
        x = keras.layers.BatchNormalization(synchronized=synchronized, name="backbone.bn")(x)
    x = keras.layers.Activation("tanh")(x)
    if dropout:
        x = keras.layers.Dropout(dropout)(x)
    logits = keras.layers.Conv2D(classes, 1, name="head")(x)
    if not aux:
        return keras.Model(image, logits)
    return keras.Model(
        image,
        {"logits": logits, "aux": keras.layers.Conv2D(classes, 3, padding="same", name="aux")(x)},
    )


def batch(k, rows=4, size=8):
    """Batch k: the first rows are nearly all ignored, the last not at all."""
    rng = np.random.default_rng([7, k])
    image = rng.normal(0, 1, (rows, size, size, 3)).astype(np.float32)
    mask = np.digitize(image[..., 0], [-0.4, 0.4]).astype(np.int32)
    mask[: rows // 2, 1:] = 255
    weights = rng.uniform(0.2, 5, mask.shape).astype(np.float32)
    return {"image": image, "mask": mask, "weights": weights}


def dataset(start=0, rows=4, size=8, corrupt=None):
    """Batches from ``start`` on, named "k-row"; batch ``corrupt`` has an infinite pixel."""

    def make(k):
        def numpy(k):
            made = batch(int(k), rows, size)
            if k == corrupt:
                made["image"][-1, 0, 0, 0] = np.inf
            return tuple(made.values())

        tensors = tf.numpy_function(numpy, [k], [tf.float32, tf.int32, tf.float32])
        shapes = [(rows, size, size, 3), (rows, size, size), (rows, size, size)]
        named = {
            key: tf.ensure_shape(value, shape)
            for key, value, shape in zip(("image", "mask", "weights"), tensors, shapes, strict=True)
        }
        names = tf.strings.join(
            [tf.strings.as_string(k), tf.strings.as_string(tf.range(rows))], "-"
        )
        return {"name": names, **named}

    return tf.data.Dataset.counter(start).map(make)


LOSS = SemanticLoss(use_pixel_weights=True, class_weights=[1.0, 2.0, 0.5], aux_weight=0.4)


class OfOutputs:
    """A loss given as a function of the model's outputs and the batch."""

    def __init__(self, function):
        self.function = function

    def parts(self, model, batch, training=True):
        return self.function(model(batch["image"], training=training), batch)


def optimizer(**options):
    return config.Optimizer(**{"learning_rate": 0.1, **options})


class Stepper:
    """A `TrainStep` over in-memory batches, with what it is made of at hand."""

    def __init__(
        self,
        build,
        settings,
        *,
        strategy=None,
        loss=LOSS,
        rows=4,
        average=None,
        signature=None,
        **options,
    ):
        self.strategy = strategy or tf.distribute.get_strategy()
        keras.utils.set_random_seed(1)
        with self.strategy.scope():
            self.model = build()
            rule = UpdateRule(settings, self.model)
            self.average = average and average(self.model)
        self.rule, self.progress = rule, Progress()
        self.step = TrainStep(
            self.model,
            loss,
            rule,
            self.progress,
            strategy=self.strategy,
            learning_rate=lambda step: tf.constant(settings.learning_rate),
            signature=signature or self.spread([batch(0, rows)]).element_spec,
            average=self.average,
            **options,
        )

    def spread(self, batches):
        data = tf.data.Dataset.from_generator(
            lambda: iter(batches),
            output_signature=tf.nest.map_structure(tf.type_spec_from_value, batches[0]),
        )
        return self.strategy.experimental_distribute_dataset(data)

    def run(self, batches):
        """The scalars of each step."""
        return [{k: float(v) for k, v in self.step(b).items()} for b in self.spread(list(batches))]

    def values(self):
        """The model's variables, as the first replica has them."""
        return [v.numpy() for v in self.model.variables]


def train_settings(**options):
    return config.Train(
        **{
            "steps": 12,
            "batch_size": 4,
            "log_every": 4,
            "best_metric": "score",
            "optimizer": optimizer(momentum=0.9, ema_decay=0.9),
            "schedule": config.Schedule(name="poly"),
            **options,
        }
    )


def trainer(run_dir, *, corrupt=None, build=None, settings=None, data=None, **options):
    return Trainer(
        build or (lambda: network("batch", dropout=0.3)),
        LOSS,
        settings or train_settings(),
        run_dir,
        dataset=data or (lambda start: dataset(start, corrupt=corrupt)),
        **options,
    )


def score(model):
    """A validation: how far the mean logit of a fixed image is from 3."""
    return {"score": -abs(float(tf.reduce_mean(model(batch(99)["image"]))) - 3.0)}
