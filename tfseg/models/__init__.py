"""One readable file a paper; importing a file registers its networks."""

import importlib

_FILES = ("classification", "pspnet", "unet")


def register_all() -> None:
    """Imports every file of this package, once, so that the registry knows its networks."""
    for file in _FILES:
        importlib.import_module(f"tfseg.models.{file}")
