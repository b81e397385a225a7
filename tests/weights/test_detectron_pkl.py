"""Model files of Detectron and detectron2, as NumPy and Python 2 and 3 pickle them."""

import os
import pickle
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
from hostile import Attack, assert_damage_is_refused

from tfseg.weights import WeightsError, pickles, read_weights

FILES = Path(__file__).parent / "files"
ARRAYS = {
    "backbone.bottom_up.stem.conv1.weight": np.arange(6, dtype=np.float32).reshape(2, 3),
    "fortran": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    "half": np.float16([1.5, -2]),
    "counter": np.array(7),
    "bytes": np.uint8([[0, 127], [128, 255]]),
    "flags": np.array([True, False]),
    "big_endian": np.array([1, 2**40], ">i8"),
    "zeros": np.zeros((2, 2), np.float32),
}
ZOO = {"model": ARRAYS, "__author__": "Detectron2 Model Zoo", "matching_heuristics": True}


def _write(path, tree, protocol=4):
    path.write_bytes(pickle.dumps(tree, protocol))
    return path


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
@pytest.mark.parametrize("core", ["numpy.core", "numpy._core"])
def test_what_numpy_pickles_is_read(tmp_path, protocol, core):
    """Of both names that NumPy's core had."""
    data = pickle.dumps(ZOO, protocol)
    if core == "numpy.core" and protocol < 4:  # longer protocols state the names' lengths
        data = data.replace(b"numpy._core", b"numpy.core")
    path = tmp_path / "model_final_c10459.pkl"
    path.write_bytes(data)
    arrays, origin = read_weights(path)
    assert origin == "detectron2"
    assert list(arrays) == list(ARRAYS)
    for name, expected in ARRAYS.items():
        np.testing.assert_array_equal(arrays[name], expected, err_msg=name, strict=True)
        assert not arrays[name].flags.writeable


def test_a_file_of_python_2():
    """Byte strings, momentum beside the weights, a config beside the blobs."""
    arrays, origin = read_weights(FILES / "detectron.pkl")
    assert origin == "detectron"
    expected = {
        "conv1_w": np.arange(12, dtype=np.float32).reshape(2, 3, 2, 1),
        "res_conv1_bn_s": np.array([0.5, -2], np.float32),
        "fpn_inner_res5_2_sum_w": np.arange(6, dtype=np.float32).reshape(3, 2).T,
        "double_big_endian": np.array([1.5, 1e300], ">f8"),
        "steps": np.array(2**40),
    }
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name, strict=True)


def test_trunks_have_the_names_at_the_top(tmp_path):
    tree = OrderedDict(conv1_w=np.ones((2, 2)), lr=0.1, scalar=np.float32(3), none=None)
    arrays, origin = read_weights(_write(tmp_path / "R-50.pkl", tree))
    assert origin == "detectron"
    assert list(arrays) == ["conv1_w"]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol):
    touched = tmp_path / "touched"
    attack = {"model": {**ARRAYS, "w": Attack(os.system, f"touch {touched}")}}
    path = _write(tmp_path / "evil.pkl", attack, protocol)
    with pytest.raises(WeightsError, match=rf"evil\.pkl.*asks for {os.name}\.system, .*refused"):
        read_weights(path)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"w": np.array([{}], object)}, "something other than numbers"),
        ({"w": np.array(["text"])}, "something other than numbers"),
        ({"w": np.zeros(2, [("a", "f4")])}, "something other than numbers"),
        ({"w": np.complex64([1])}, "something other than numbers"),
        ({"w": Attack(np.ndarray, (2**40,))}, "calls NumPy's array class"),
        ({"w": Attack(np.load, "x.npy")}, r"asks for numpy\.load"),
        ({"w": Attack(eval, "1")}, r"asks for builtins\.eval"),
        ({"model": {"epoch": 1}}, "has no arrays"),
        ([np.zeros(2)], "holds a list"),
        ({(1, 2): 3}, "a key of a dictionary is a tuple"),
    ],
)
def test_what_is_no_checkpoint_is_named(tmp_path, tree, message):
    with pytest.raises(WeightsError, match=message):
        read_weights(_write(tmp_path / "x.pkl", tree))


_RECONSTRUCT = np.zeros(0).__reduce__()[0]


class _State:
    """Pickles as an array with this state."""

    def __init__(self, *state):
        self.state = state

    def __reduce__(self):
        return _RECONSTRUCT, (np.ndarray, (0,), b"b"), self.state


F4 = np.dtype("f4")


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (_State(1, (2**40,), F4, False, bytes(8)), "declares the shape"),
        (_State(1, (3,), F4, False, bytes(8)), "that is 3 values, but holds 2"),
        (_State(1, (2,), F4, False, bytes(7)), "the bytes of w are no array"),
        (_State(1, (1,), F4, False, "€uro"), "the bytes of w are no array"),
        (_State(1, (-2,), F4, False, bytes(8)), "the shape or the type"),
        (_State(1, [2], F4, False, bytes(8)), "the shape or the type"),
        (_State(1, (2,), "f4", False, bytes(8)), "the shape or the type"),
        (_State(1, (2,), F4, False, [1, 2]), "are no bytes"),
        (_State(1, (2,), F4, False), "made of something other than bytes"),
        (_State(1, (1,) * 33, F4, False, bytes(4)), "the shape or the type"),
        (_State(1, (0, 2**60), F4, False, b""), "declares the shape"),
    ],
)
def test_hostile_arrays(tmp_path, array, message):
    with pytest.raises(WeightsError, match=message):
        read_weights(_write(tmp_path / "x.pkl", {"w": array}))


def test_bytes_that_many_arrays_share_are_counted_for_each(tmp_path, monkeypatch):
    """A few bytes a reference would else unpack to gigabytes."""
    monkeypatch.setattr("tfseg.weights.common.MAX_BYTES", 2**16)
    data = bytes(2**12)
    tree = {f"w{n}": _State(1, (2**10,), F4, False, data) for n in range(17)}
    for protocol in (2, 4):
        path = _write(tmp_path / "x.pkl", tree, protocol)
        assert path.stat().st_size < 2**14
        with pytest.raises(WeightsError, match="declares 69632 bytes of arrays"):
            read_weights(path)


def test_pickles_of_endless_opcodes_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(pickles, "_MAX_OPCODES", 1000)
    path = tmp_path / "x.pkl"
    path.write_bytes(b"\x80\x02" + b"}" * 2000 + b".")
    with pytest.raises(WeightsError, match="more than 1000 opcodes"):
        read_weights(path)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_cut_off_and_damaged_files_raise_weights_errors_only(tmp_path, protocol):
    data = pickle.dumps(ZOO, protocol)
    assert_damage_is_refused(tmp_path / "x.pkl", data, step=13, seed=protocol)
