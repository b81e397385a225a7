"""torch's files before 1.6: what torch itself saved, and what Python 2 and attackers may."""

import os
import pickle
import struct
from pathlib import Path

import numpy as np
import pytest
from hostile import Attack, assert_damage_is_refused
from torch_pickles import Call, Named, Storage, dumps, tensor

from tfseg.weights import WeightsError, read_weights

FILES = Path(__file__).parent / "files"
MAGIC, VERSION = 0x1950A86A20F9469CFC6C, 1001
MACHINE = {"protocol_version": 1001, "little_endian": True, "type_sizes": {"int": 4}}
FOUR = np.arange(4, dtype="<f4")


def storage(key="0", count=4, kind="FloatStorage", view=None):
    return Storage(count, kind, key, view)


def legacy(path, tree, keys=("0",), storages=(FOUR,), **other):
    """A file of torch's format before 1.6."""
    parts = [
        other.get("magic", MAGIC),
        other.get("version", VERSION),
        other.get("machine", MACHINE),
    ]
    data = b"".join(pickle.dumps(part, 2) for part in parts)
    data += tree if isinstance(tree, bytes) else dumps(tree, other.get("python2", False))
    data += pickle.dumps(list(keys), 2)
    for values in storages:
        data += struct.pack("<q", other.get("count", len(values))) + values.tobytes()
    path.write_bytes(data)
    return path


def whole(**more):
    return {"w": tensor(storage(**more), 0, (4,), (1,))}


def test_what_torch_saved_is_read():
    """All dtypes; transposed, strided, shared, expanded and empty tensors; a parameter."""
    arrays, origin = read_weights(FILES / "state_legacy.pth")
    assert origin == "torchvision"
    with np.load(FILES / "state.npz") as expected:
        assert arrays.keys() == set(expected.files)
        for name in expected.files:
            np.testing.assert_array_equal(arrays[name], expected[name], err_msg=name, strict=True)
    assert np.shares_memory(arrays["same_storage"], arrays["transposed"])


def test_the_content_decides_before_the_extension(tmp_path):
    path = tmp_path / "net.caffemodel"
    path.write_bytes((FILES / "state_legacy.pth").read_bytes())
    assert "fc.weight" in read_weights(path)[0]


def test_the_first_files_of_torch(tmp_path):
    """Written by Python 2 and torch 0.1: byte strings, an OrderedDict made of its items, tensors
    and parameters under their older names."""
    old = Call(Named("torch._utils", "_rebuild_tensor"), storage("7"), 1, (3,), (1,))
    parameter = Call(Named("torch.nn.parameter", "Parameter"), old)
    tree = Call(Named("collections", "OrderedDict"), [["fc.weight", old], ["fc.bias", parameter]])
    path = legacy(tmp_path / "net.pth", tree, keys=["7"], python2=True)
    arrays, origin = read_weights(path)
    assert origin == "torchvision"
    assert list(arrays) == ["fc.weight", "fc.bias"]
    for name in arrays:
        np.testing.assert_array_equal(arrays[name], [1, 2, 3])


def test_storages_are_read_in_the_order_of_their_keys(tmp_path):
    tree = {
        "a": tensor(storage("10", 4), 0, (4,), (1,)),
        "b": tensor(storage("9", 2, "LongStorage"), 0, (2,), (1,)),
    }
    storages = [np.array([5, 6], "<i8"), FOUR]
    arrays, _ = read_weights(legacy(tmp_path / "n.pth", tree, keys=["9", "10"], storages=storages))
    np.testing.assert_array_equal(arrays["a"], FOUR)
    np.testing.assert_array_equal(arrays["b"], [5, 6])


@pytest.mark.parametrize("place", ["magic", "version", "machine", "tree", "keys"])
def test_a_malicious_pickle_is_refused_and_not_run(tmp_path, place):
    touched = tmp_path / "touched"
    attack = Attack(os.system, f"touch {touched}")
    path = tmp_path / "evil.pth"
    if place == "keys":
        legacy(path, whole(), keys=[attack])
    elif place == "tree":
        legacy(path, pickle.dumps({"w": attack}, 2))
    else:
        legacy(path, whole(), **{place: attack})
    with pytest.raises(WeightsError, match=rf"evil\.pth.*({os.name}\.system, .*refused|no format)"):
        read_weights(path)
    assert not touched.exists()


@pytest.mark.parametrize(
    ("other", "message"),
    [
        ({"version": 1002}, "an unknown version"),
        ({"machine": [1]}, "an unknown version"),
        ({"machine": {"little_endian": False}}, "big-endian"),
        ({"machine": {}}, "big-endian"),
        ({"keys": ["0", "0"]}, "list of storages is malformed"),
        ({"keys": ["1"]}, "list of storages is malformed"),
        ({"keys": [["0"]]}, "list of storages is malformed"),
        ({"keys": []}, "has no storage '0'"),
        ({"storages": [FOUR[:3]]}, "cut off: the storage 0 ends at byte"),
        ({"storages": []}, "cut off"),
        ({"count": 5}, "has 5 values where 4 are declared"),
        ({"count": -1}, "has -1 values"),
    ],
)
def test_hostile_files(tmp_path, other, message):
    with pytest.raises(WeightsError, match=message):
        read_weights(legacy(tmp_path / "net.pth", whole(), **other))


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (whole(view=("1", 0, 4)), "view of another"),
        (whole(count=2**60), "cut off: the storage 0 ends at byte"),
        (whole(count=-4), "reference to a storage is malformed"),
        ({"w": tensor(Storage(4), 0, (4,), (1,))}, "reference to a storage is malformed"),
        ({**whole(), "v": tensor(storage(count=5), 0, (5,), (1,))}, "two different storages"),
        ({"w": tensor(storage(), 1, (4,), (1,))}, "reaches to value 4 of a storage of 4"),
        ([*whole().values()], "holds a list, not a state dict"),
    ],
)
def test_hostile_trees(tmp_path, tree, message):
    with pytest.raises(WeightsError, match=message):
        read_weights(legacy(tmp_path / "net.pth", tree))


def test_the_tar_format_says_what_to_do(tmp_path):
    path = tmp_path / "resnet50-19c8e357.pth"
    path.write_bytes(b"sys_info".ljust(257, b"\0") + b"ustar".ljust(1000, b"\0"))
    with pytest.raises(WeightsError, match=r"tar format before 0\.1\.10"):
        read_weights(path)


def test_cut_off_and_damaged_files_raise_weights_errors_only(tmp_path):
    data = (FILES / "state_legacy.pth").read_bytes()
    assert_damage_is_refused(tmp_path / "net.pth", data, step=41, seed=0)
