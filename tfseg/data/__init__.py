"""Data sets: readers of labelled images, transforms and the training pipeline.

Importing this package imports no TensorFlow; `tfseg.data.pipeline` does.
"""

from tfseg.data.readers import list_readers, open_reader
from tfseg.data.sample import DataError, Sample

__all__ = ["DataError", "Sample", "list_readers", "open_reader"]
