"""Shared fixtures: real data and goldens that live beside the checkout."""

import gc
import os
import shutil
import tempfile
from pathlib import Path

import pytest

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

SHARED = Path(__file__).resolve().parents[1].parent / "shared"


@pytest.fixture(autouse=True, scope="session")
def _temporary_files(tmp_path_factory):
    """What killed programs and notebooks leave among temporary files goes with pytest's own."""
    folder = tmp_path_factory.mktemp("temporary")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TMPDIR", str(folder))
        patch.setattr(tempfile, "tempdir", None)
        yield
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def shared():
    """``shared("data/camvid")``: that folder's path; the test skips where it is absent.

    In CI its absence is a failure: there the data is expected.
    """

    def find(path):
        found = SHARED / path
        if not found.exists():
            if os.environ.get("CI"):
                pytest.fail(f"{found} is absent in CI")
            pytest.skip(f"{found} is absent")
        return found

    return find


def _forget():
    """Networks stay in cycles and in Keras' session."""
    import keras

    keras.utils.clear_session()
    gc.collect()


@pytest.fixture(autouse=True, scope="module")
def _free_memory_of_modules():
    yield
    _forget()


@pytest.fixture(autouse=True)
def _free_memory(request):
    yield
    if request.node.get_closest_marker("slow"):  # their networks are large
        _forget()
