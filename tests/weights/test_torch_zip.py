import os
import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hostile import Attack
from torch_pickles import Call, Named, Storage, dumps, tensor

from tfseg.weights import WeightsError, pickles, read_weights, torch_tensors

FILES = Path(__file__).parent / "files"


def archive(path, data, storages=(), **extra):
    """A torch archive with this data.pkl."""
    with zipfile.ZipFile(path, "w", extra.get("method", zipfile.ZIP_STORED)) as file:
        file.writestr("net/data.pkl", data)
        file.writestr("net/byteorder", extra.get("byteorder", "little"))
        for key, content in enumerate(storages):
            file.writestr(f"net/data/{key}", content)
    return path


def test_what_torch_saved_is_read():
    """All dtypes; transposed, strided, shared, expanded and empty tensors; a parameter."""
    arrays, origin = read_weights(FILES / "state.pth")
    assert origin == "torchvision"
    with np.load(FILES / "state.npz") as expected:
        assert arrays.keys() == set(expected.files)
        for name in expected.files:
            np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name, strict=True)
    assert np.shares_memory(arrays["same_storage"], arrays["transposed"])


def test_a_training_checkpoint_is_unwrapped():
    """Beside the state dict are a namespace, a device, a NumPy scalar and an optimizer."""
    arrays, _ = read_weights(FILES / "wrapped.pth")
    assert arrays.keys() == {"fc.weight", "fc.bias"}
    np.testing.assert_array_equal(arrays["fc.weight"], np.arange(6).reshape(2, 3))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("module.pth", r"asks for torch\.nn\.modules\.linear\.Linear, which is refused"),
        ("script.pt", "TorchScript program"),
    ],
)
def test_other_torch_files_say_what_to_do(name, message):
    with pytest.raises(WeightsError, match=message):
        read_weights(FILES / name)


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, protocol):
    touched = tmp_path / "touched"
    attack = {"a": 1, "state_dict": {"w": Attack(os.system, f"touch {touched}")}}
    path = archive(tmp_path / "evil.pth", pickle.dumps(attack, protocol))
    with pytest.raises(WeightsError, match=rf"evil\.pth.*asks for {os.name}\.system, .*refused"):
        read_weights(path)
    assert not touched.exists()
    pickle.loads(pickle.dumps(attack, protocol))
    assert touched.exists()  # the attack is a real one


@pytest.mark.parametrize(
    "attack",
    [
        Attack(eval, "1"),
        Attack(getattr, "", "join"),
        Attack(np.load, "x.npy"),
        Path("x"),
        Named("torch._utils", "_rebuild_tensor_v2.__globals__"),
        Named("collections", "OrderedDict.__init__"),
    ],
    ids=("eval", "getattr", "np.load", "Path", "globals", "init"),
)
def test_other_globals_are_refused(tmp_path, attack):
    with pytest.raises(WeightsError, match="which is refused"):
        read_weights(archive(tmp_path / "evil.pth", dumps({"w": attack})))


def test_attributes_that_a_pickle_sets_are_dropped():
    """A BUILD on an allowed global changes nothing that later files see."""
    before = dict(vars(torch_tensors._tensor)), torch_tensors._tensor.__defaults__
    state = b"}X\x0c\x00\x00\x00__defaults__(K\x07tsb"
    data = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n" + state + b"."
    assert pickles.load(data, torch_tensors._FUNCTIONS, print) is torch_tensors._tensor
    assert (dict(vars(torch_tensors._tensor)), torch_tensors._tensor.__defaults__) == before


ONE = bytes(16)  # four float32


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ({"w": tensor(Storage(4), 1, (2, 2), (2, 1))}, "reaches to value 4 of a storage of 4"),
        ({"w": tensor(Storage(4), 0, (2,), (2**62,))}, "reaches to value"),
        ({"w": tensor(Storage(4), -1, (1,), (1,))}, "offset, size or strides are none"),
        ({"w": tensor(Storage(4), 0, (-2,), (1,))}, "offset, size or strides are none"),
        ({"w": tensor(Storage(4), 0, (2,), (-1,))}, "offset, size or strides are none"),
        ({"w": tensor(Storage(4), 0, (2,), (1, 1))}, "offset, size or strides are none"),
        ({"w": tensor(Storage(4), 0, (1,) * 33, (1,) * 33)}, "offset, size or strides are none"),
        ({"w": tensor(Storage(4), 0, (True,), (1,))}, "offset, size or strides are none"),
        ({"w": tensor(Storage(4), 0, (2**20, 2**20), (0, 0))}, "the limit is"),
        ({"w": tensor(Storage(4), 0, (0, 2**62), (0, 0))}, "the limit is"),
        ({"w": tensor(Storage(5), 0, (5,), (1,))}, "has 16 bytes where 5 values"),
        ({"w": tensor(Storage(2**50), 0, (4,), (1,))}, "has 16 bytes where"),
        ({"w": tensor(Storage(4, key="../9"), 0, (4,), (1,))}, r"no entry 'data/\.\./9'"),
        ({"w": tensor(Storage(4, "UntypedStorage"), 0, (4,), (1,))}, r"torch\.UntypedStorage"),
        ({"w": tensor(3, 0, (4,), (1,))}, "storage, offset"),
        ({"w": Call(Named("torch", "FloatStorage"), 9)}, "made outside the archive"),
        ({"w": Call(Named("collections", "OrderedDict"), [(1, 2, 3)])}, "other than pairs"),
        ({"w": Call(Named("collections", "OrderedDict"), 7)}, "other than pairs"),
        ({"w": Call(Named("collections", "OrderedDict"), [((), 2)])}, "a key of a dict"),
        ({(1, 2): 3}, "a key of a dictionary is a tuple"),
        ([tensor(Storage(4), 0, (4,), (1,))], "holds a list, not a state dict"),
        ({"epoch": 1, "network": {}}, "it has epoch, network"),
    ],
)
def test_hostile_trees(tmp_path, tree, message):
    with pytest.raises(WeightsError, match=message):
        read_weights(archive(tmp_path / "net.pth", dumps(tree), [ONE]))


GOOD = dumps({"w": tensor(Storage(4), 0, (4,), (1,))})


def test_hostile_archives(tmp_path):
    path = tmp_path / "net.pth"
    assert read_weights(archive(path, GOOD, [ONE]))[0]["w"].shape == (4,)
    with pytest.raises(WeightsError, match="compressed"):
        read_weights(archive(path, GOOD, [ONE], method=zipfile.ZIP_DEFLATED))
    with pytest.raises(WeightsError, match="packed with a method"):
        read_weights(archive(path, GOOD, [ONE], method=zipfile.ZIP_LZMA))
    with pytest.raises(WeightsError, match="big-endian"):
        read_weights(archive(path, GOOD, [ONE], byteorder="big"))
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("net/other", b"")
    with pytest.raises(WeightsError, match=r"has 0 data\.pkl"):
        read_weights(path)


@pytest.mark.parametrize(
    "data",
    [b"", b"N", b"N.", b".", b"\x80\x02(", b"0.", b"]\x94s.", b"(t(R.", b"K\x01)R.", b"h\x09."],
)
def test_malformed_pickles(tmp_path, data):
    with pytest.raises(WeightsError, match=r"net\.pth"):
        read_weights(archive(tmp_path / "net.pth", data))


def test_a_memo_place_far_out_costs_no_memory(tmp_path):
    """CPython's unpickler allocates an array up to the largest place that a pickle names."""
    data = b"\x80\x02}r\xff\xff\xff\xff."
    with pytest.raises(WeightsError, match="no tensors"):
        read_weights(archive(tmp_path / "net.pth", data))


def test_a_damaged_or_cut_off_archive_is_refused(tmp_path):
    whole = (FILES / "state.pth").read_bytes()
    path = tmp_path / "net.pth"
    for end in range(0, len(whole), 97):
        path.write_bytes(whole[:end])
        with pytest.raises(WeightsError, match=r"net\.pth"):
            read_weights(path)
    # A storage's bytes: the archive's checksum sees one that changed.
    place = whole.index(np.arange(24, dtype="<f4").tobytes())
    path.write_bytes(whole[:place] + b"\x01" + whole[place + 1 :])
    with pytest.raises(WeightsError, match="CRC"):
        read_weights(path)
