"""The training engine: one step for one device or many, and the run around it."""

from tfseg.train.checkpoints import RunDirError
from tfseg.train.distribute import make_strategy
from tfseg.train.trainer import NonFiniteLoss, Outcome, Trainer

__all__ = ["NonFiniteLoss", "Outcome", "RunDirError", "Trainer", "make_strategy"]
