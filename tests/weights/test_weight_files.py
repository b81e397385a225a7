import io
import json
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from tfseg.weights import WeightsError, files, read_weights

ARRAYS = {
    "conv1/0": np.arange(6, dtype=np.float32).reshape(2, 3),
    "conv1/1": np.asfortranarray(np.arange(6.0).reshape(3, 2)),
    "half": np.float16([1.5]),
    "scalar": np.int64(3),
    "empty": np.zeros((0, 3), np.float32),
}


def _assert_equal(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name)
        assert arrays[name].dtype == np.asarray(array).dtype


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_npz(tmp_path, save):
    save(tmp_path / "x.npz", **ARRAYS)
    arrays, origin = read_weights(tmp_path / "x.npz")
    assert origin == "caffe"
    _assert_equal(arrays, ARRAYS)


def test_safetensors(tmp_path):
    expected = {name: np.ascontiguousarray(array) for name, array in ARRAYS.items()}
    half = np.array([1.5, -2.25], ml_dtypes.bfloat16)
    safetensors.numpy.save_file({**expected, "b": half}, tmp_path / "x.safetensors")
    arrays, origin = read_weights(tmp_path / "x.safetensors")
    assert origin == "caffe"
    _assert_equal(arrays, {**expected, "b": half.astype(np.float32)})


def _npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _header(shape, dtype="<f4"):
    file = io.BytesIO()
    header = {"descr": dtype, "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(file, header)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (_npy(np.array([{"a": 1}], object)), "object, not numbers"),
        (_npy(np.array(["text"])), "not numbers"),
        (_header((2**40,)) + bytes(8), r"shape \(1099511627776,\) of float32 does not fit"),
        (_header((0, 2**70)), "w is no plain array"),
        (_header((-1,)) + bytes(4), "does not fit"),
        (_header((3,)) + bytes(8), "does not fit"),
        (b"\x93NUMPY\x09\x00", "unknown version"),
        (b"not an array", "w is no plain array"),
        (b"", "w is no plain array"),
    ],
)
def test_hostile_npz(tmp_path, content, message):
    with zipfile.ZipFile(tmp_path / "x.npz", "w") as file:
        file.writestr("w.npy", content)
    with pytest.raises(WeightsError, match=message):
        read_weights(tmp_path / "x.npz")


def test_an_entry_that_reaches_beyond_the_archive_is_refused_before_it_is_read(tmp_path):
    path = tmp_path / "x.npz"
    np.savez(path, w=np.zeros(8, np.float32))
    data = bytearray(path.read_bytes())
    place = data.index(b"PK\x01\x02") + 20  # the compressed size in the archive's directory
    data[place : place + 4] = (2**31).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="entries overlap or reach beyond its end"):
        read_weights(path)


def test_a_compression_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr("tfseg.weights.common.MAX_BYTES", 2**20)
    np.savez_compressed(tmp_path / "x.npz", w=np.zeros(2**19, np.float32))
    assert (tmp_path / "x.npz").stat().st_size < 2**12
    with pytest.raises(WeightsError, match=r"declares 20\d+ bytes of arrays, the limit is 1048576"):
        read_weights(tmp_path / "x.npz")


@pytest.mark.parametrize(
    "header",
    [
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 800]}},
        {"w": {"dtype": "F32", "shape": [2**40], "data_offsets": [0, 8]}},
        {"w": {"dtype": "F32", "shape": [2], "data_offsets": [8, 0]}},
        {"w": {"dtype": "X32", "shape": [2], "data_offsets": [0, 8]}},
    ],
)
def test_hostile_safetensors(tmp_path, header):
    text = json.dumps(header).encode()
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(8))
    with pytest.raises(WeightsError, match=r"x\.safetensors"):
        read_weights(path)


@pytest.mark.parametrize("extension", ["npz", "safetensors", "h5", "pth", "pkl"])
def test_files_of_other_content_are_refused(tmp_path, extension):
    path = tmp_path / f"x.{extension}"
    for content in (b"", b"PK\x03\x04", b"<!DOCTYPE html>", bytes(100), b"\xff" * 100):
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=rf"x\.{extension}"):
            read_weights(path)


def test_content_decides_before_the_extension(tmp_path):
    np.savez(tmp_path / "x.npz", **{"a/0": np.ones(2)})
    (tmp_path / "x.npz").rename(tmp_path / "x.caffemodel")
    assert read_weights(tmp_path / "x.caffemodel")[0].keys() == {"a/0"}


def test_missing_files_and_unknown_formats(tmp_path):
    with pytest.raises(WeightsError, match=r"x\.pth: No such file"):
        read_weights(tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="Is a directory"):
        read_weights(tmp_path)
    (tmp_path / "x.bin").write_bytes(b"\x80\x04N.")
    with pytest.raises(WeightsError, match=r"x\.bin is of no known format: expected \.caffemodel"):
        read_weights(tmp_path / "x.bin")


@pytest.mark.parametrize(
    ("names", "origin"),
    [
        (["conv1/0", "conv1/1", "bn/gamma", "bn/var"], "caffe"),
        (["Conv1/kernel", "bn_Conv1/gamma", "bn_Conv1/moving_mean"], "keras"),
        (["layer1.0.conv1.weight", "layer1.0.bn1.running_mean"], "torchvision"),
        (["backbone.body.conv1.weight", "rpn.head.cls_logits.bias"], "torchvision"),
        (["backbone.bottom_up.stem.conv1.weight", "proposal_generator.x.bias"], "detectron2"),
        (["backbone.res2.0.shortcut.weight", "roi_heads.x.bias"], "detectron2"),
        (["stem.conv1.weight", "res2.0.shortcut.norm.running_mean"], "detectron2"),
        (["conv1_w", "res_conv1_bn_s", "res2_0_branch2a_w", "fpn_inner_res5_2_sum_w"], "detectron"),
        (["a", "b"], None),
        ([], None),
    ],
)
def test_origins_are_told_by_names(names, origin):
    assert files.guess_origin(names) == origin


def test_origins_of_the_goldens(shared, monkeypatch):
    monkeypatch.syspath_prepend(str(shared("goldens")))
    import golden

    for name in golden.names():
        reference = name.split("__")[0]
        expected = reference if reference in ("torchvision", "detectron2") else "caffe"
        assert files.guess_origin(golden.Golden(name).meta["params"]) == expected, name
