"""The experiment file's schema: what `tfseg train CONFIG` reads, checks and saves."""

from tfseg.config.detection import Combine, Detect, RCNNTraining
from tfseg.config.files import ConfigError, dump, load, load_stages, override, parse
from tfseg.config.scaling import scaled
from tfseg.config.sections import (
    CRF,
    Data,
    Experiment,
    Loss,
    Metrics,
    Model,
    Optimizer,
    Predict,
    Proposals,
    Schedule,
    Split,
    Stage,
    Train,
)

__all__ = [
    "CRF",
    "Combine",
    "ConfigError",
    "Data",
    "Detect",
    "Experiment",
    "Loss",
    "Metrics",
    "Model",
    "Optimizer",
    "Predict",
    "Proposals",
    "RCNNTraining",
    "Schedule",
    "Split",
    "Stage",
    "Train",
    "dump",
    "load",
    "load_stages",
    "override",
    "parse",
    "scaled",
]
