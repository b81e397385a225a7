"""A run that is killed after its tenth step: ``killed.py RUN_DIR``."""

import os
import signal
import sys
from pathlib import Path

import keras
from tiny import score, train_settings, trainer


class KillAt(keras.callbacks.Callback):
    def __init__(self, step):
        super().__init__()
        self.step, self.done = step, 0

    def on_train_batch_end(self, batch, logs=None):
        self.done += 1
        if self.done == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    settings = train_settings(checkpoint_every=4, validate_every=6)
    trainer(Path(sys.argv[1]), settings=settings, validate=score, callbacks=[KillAt(10)]).run()
