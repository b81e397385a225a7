"""Imported first, it spares this process the import of TensorFlow, which no reader needs."""

import importlib.util
import sys
import types

# The package imports the loading into models; its modules do not.
_PACKAGE = "tfseg.weights"

_spec = importlib.util.find_spec(_PACKAGE)
assert _spec is not None
_module = types.ModuleType(_PACKAGE)
_module.__path__ = _spec.submodule_search_locations
sys.modules[_PACKAGE] = _module
