"""Mask R-CNN of tfseg and of torchvision as contenders of a benchmark.

Importing this package imports neither torch nor TensorFlow nor JAX.
"""
