"""What becomes of the process that reads .h5 files reaches the caller as an error."""

import time

import h5py
import numpy as np
import pytest

from tfseg.weights import WeightsError, hdf5

HEAD = (
    "import json, os, signal, sys, time\n"
    "told = {'path': 'a', 'attributes': {}, 'array': {'dtype': '<f4', 'shape': [4]}}\n"
    "def tell(): print(json.dumps({'objects': [told]}), flush=True)\n"
)


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ("os.abort()", r"is damaged: it crashes the HDF5 library \(SIGABRT\)"),
        ("os.kill(os.getpid(), signal.SIGSEGV)", r"it crashes the HDF5 library \(SIGSEGV\)"),
        ("os.kill(os.getpid(), signal.SIGXCPU)", "reading it takes longer, or more memory"),
        ("tell(); os.write(1, bytes(7)); os.abort()", "it crashes"),
        ("raise ImportError('no h5py here')", "no h5py here"),
        ("print(json.dumps({'refused': 'odd'}))", "is cut off or no HDF5 file of numbers: odd"),
    ],
)
def test_its_end_is_an_error(tmp_path, monkeypatch, program, message):
    (tmp_path / "program.py").write_text(HEAD + program)
    monkeypatch.setattr(hdf5, "_PROGRAM", tmp_path / "program.py")
    with pytest.raises(WeightsError, match=message) as error:
        hdf5.read(tmp_path / "net.h5")
    assert "net.h5" in str(error.value)


def test_a_loop_ends_when_its_time_is_over(tmp_path, monkeypatch):
    """The real program's limits, with a second in place of twenty."""
    source = hdf5._PROGRAM.read_text()
    for old, new in (
        ("GIB = 20, 60", "GIB = 1, 1"),
        ("    with h5py", "    while 1: pass\n    with h5py"),
    ):
        assert source.count(old) == 1
        source = source.replace(old, new)
    (tmp_path / "program.py").write_text(source)
    monkeypatch.setattr(hdf5, "_PROGRAM", tmp_path / "program.py")
    (tmp_path / "net.h5").touch()
    began = time.process_time()
    with pytest.raises(WeightsError, match="takes longer"):
        hdf5.read(tmp_path / "net.h5")
    assert time.process_time() - began < 1  # it was not this process that looped


def test_arrays_of_all_kinds_come_through(tmp_path):
    arrays = {
        "float": np.arange(6, dtype=np.float32).reshape(2, 3),
        "big": np.arange(4, dtype=">f8"),
        "flags": np.array([True, False]),
        "scalar": np.int64(7),
        "empty": np.zeros((0, 3), np.float32),
    }
    with h5py.File(tmp_path / "x.h5", "w") as file:
        for name, array in arrays.items():
            file[f"group/{name}"] = array
        file["optimizer/momentum"] = np.ones(3)
    found = hdf5.read(tmp_path / "x.h5")
    assert found.keys() == {"", "group", "optimizer", *(f"group/{name}" for name in arrays)}
    assert not found["group"].is_array
    for name, array in arrays.items():
        np.testing.assert_array_equal(found[f"group/{name}"].array, array)
        assert not found[f"group/{name}"].array.flags.writeable
