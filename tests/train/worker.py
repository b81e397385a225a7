"""One of two workers: ``worker.py INDEX HOST:PORT,HOST:PORT FOLDER TASK``; see test_workers.py."""

import os
import signal
import sys
import time
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tiny import batch, network, optimizer, score, train_settings, trainer

from tfseg.cluster import VARIABLE, tf_config
from tfseg.train import WorkerLost, make_strategy
from tfseg.train.precision import LossScale
from tfseg.train.workers import own_folder

INDEX = int(sys.argv[1])
FOLDER = Path(sys.argv[3])


class Signal(keras.callbacks.Callback):
    """Sends this process a signal after so many steps; FOLDER/signalled tells when."""

    def __init__(self, number, steps):
        super().__init__()
        self.number, self.left = number, steps

    def on_train_batch_end(self, batch, logs=None):
        self.left -= 1
        if self.left == 0:
            (FOLDER / "signalled").write_text(str(time.time()))
            os.kill(os.getpid(), self.number)


def settings(**options):
    rule = optimizer(momentum=0.9, clip_norm=0.5, ema_decay=0.9)
    return train_settings(checkpoint_every=4, validate_every=6, optimizer=rule, **options)


def rows(corrupt=None):
    """A worker's rows of the batches, from memory: no thread of theirs is in Python at the end."""
    made = [batch(k) for k in range(12)]
    if corrupt is not None:
        made[corrupt]["image"][-1, 0, 0, 0] = np.inf
    whole = {key: np.stack([one[key] for one in made]) for key in made[0]}

    def give(start, share):
        own = {key: value[:, share.rows(4)] for key, value in whole.items()}
        return tf.data.Dataset.from_tensor_slices(own).repeat().skip(start)

    return give


def run(name, *, corrupt=None, dropout=0.0, **options):
    """Trains, and leaves the variables of model, loss scale and all in NAME-INDEX.npz."""
    strategy = make_strategy("multi_worker")
    with own_folder(strategy, FOLDER / name) as folder:
        made = trainer(
            folder,
            build=lambda: network("sync_batch", dropout=dropout),
            settings=options.pop("settings", settings()),
            data=rows(corrupt),
            validate=options.pop("validate", score),
            strategy=strategy,
            **options,
        )
        start = made.start
        outcome = made.run()
    values = {f"v{i:02d}": v.numpy() for i, v in enumerate(made.model.variables)}
    seeds = [v.numpy() for v in made.model.variables if v.name == "seed_generator_state"]
    scale = made._step.loss_scale
    np.savez(
        FOLDER / f"{name}-{INDEX}.npz",
        **values,
        start=start,
        step=outcome.step,
        interrupted=outcome.interrupted or "",
        **({"seed": seeds[0]} if seeds else {}),
        **({} if scale is None else {"scale": scale.scale.numpy() / LossScale.INITIAL}),
    )


def slow_score(model):
    """A validation that takes longer than a heartbeat may be late."""
    time.sleep(15)
    return score(model)


def together():
    """Everything that two living workers do."""
    run("whole")
    on_one = [Signal(signal.SIGTERM, 5)] if INDEX == 1 else []
    run("stopped", callbacks=on_one)
    run("stopped", resume=True, validate=slow_score)
    run("dropout", dropout=0.5)
    run("bfloat16", settings=settings(precision="bfloat16"))
    LossScale.GROWTH_STEPS = 3
    # The second worker has the last row, whose pixel is infinite.
    run("float16", corrupt=5, settings=settings(precision="float16"))


if __name__ == "__main__":
    os.environ[VARIABLE] = tf_config(sys.argv[2], INDEX)
    task = sys.argv[4]
    try:
        if task == "together":
            together()
        elif task == "resume":
            run("killed", resume=True)
        else:
            number = getattr(signal, task)
            run("killed", callbacks=[Signal(number, 7)] if INDEX == 1 else [])
    except WorkerLost as e:
        print(f"Error: {e}", file=sys.stderr)
        sys.exit(1)
