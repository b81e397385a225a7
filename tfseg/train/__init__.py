"""The training engine: one step for one device or many, and the run around it."""

from tfseg.train.distribute import make_strategy
from tfseg.train.errors import RunDirError, SaveError
from tfseg.train.trainer import NonFiniteLoss, Outcome, Trainer
from tfseg.train.workers import WorkerLost

__all__ = [
    "NonFiniteLoss",
    "Outcome",
    "RunDirError",
    "SaveError",
    "Trainer",
    "WorkerLost",
    "make_strategy",
]
