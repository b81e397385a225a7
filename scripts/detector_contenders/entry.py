"""How each contender gets ready; only its own process imports its framework."""

from detector_contenders.inputs import DetectorJob
from tfseg.benchmark import Session


def tensorflow(job: DetectorJob) -> Session:
    """tfseg on TensorFlow."""
    from detector_contenders import tensorflow_contender

    return tensorflow_contender.session(job)


def tensorflow_frozen(job: DetectorJob) -> Session:
    """tfseg on TensorFlow with constant weights."""
    from detector_contenders import tensorflow_contender

    return tensorflow_contender.session(job, freeze=True)


def jax(job: DetectorJob) -> Session:
    """tfseg on JAX."""
    from detector_contenders import jax_contender

    return jax_contender.session(job)


def torch(job: DetectorJob) -> Session:
    """torchvision."""
    from detector_contenders import torch_contender

    return torch_contender.session(job)
