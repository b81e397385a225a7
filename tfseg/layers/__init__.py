"""Keras layers over `tfseg.ops`."""
