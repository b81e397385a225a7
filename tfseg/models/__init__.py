"""One readable file a paper; importing a file registers its networks."""

import importlib
import pkgutil


def register_all() -> None:
    """Imports every file of this package, once, so that the registry knows its networks."""
    for file in pkgutil.iter_modules(__path__):
        importlib.import_module(f"tfseg.models.{file.name}")
