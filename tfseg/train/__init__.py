"""The training engine: one step for one device or many, and the run around it."""

from tfseg.train.checkpoints import RunDirError
from tfseg.train.trainer import NonFiniteLoss, Outcome, Trainer, make_strategy

__all__ = ["NonFiniteLoss", "Outcome", "RunDirError", "Trainer", "make_strategy"]
