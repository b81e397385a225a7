"""The wire format is encoded here by hand, from caffe.proto's field numbers."""

import struct

import numpy as np
import pytest

from tfseg.weights import WeightsError, read_weights


def varint(number):
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*out, number])


def field(number, value):
    """A number, or length-delimited bytes or text."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


def legacy_blob(array):
    """BlobProto of the first generation: num, channels, height, width, packed data, a diff."""
    shape = (1,) * (4 - array.ndim) + array.shape
    dims = b"".join(field(i, n) for i, n in enumerate(shape, start=1))
    data = array.astype("<f4").tobytes()
    return dims + field(5, data) + field(6, bytes(len(data)))


def blob(array):
    """BlobProto with a BlobShape."""
    dims = field(1, b"".join(map(varint, array.shape)))
    return field(7, dims) + field(5, array.astype("<f4").tobytes())


def v1_layer(name, kind, *blobs):
    head = field(2, "bottom") + field(3, "top") + field(4, name) + field(5, kind)
    return field(2, head + b"".join(field(6, b) for b in blobs))


def layer(name, kind, *blobs):
    head = field(1, name) + field(2, kind) + field(3, "bottom") + field(4, "top")
    return field(100, head + b"".join(field(7, b) for b in blobs))


def values(*shape, start=1.0):
    return (start + np.arange(np.prod(shape))).reshape(shape).astype(np.float32)


@pytest.fixture
def saved(tmp_path):
    def write(data, name="net.caffemodel"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


def read(path):
    arrays, origin = read_weights(path)
    assert origin == "caffe"
    return arrays


def assert_equal(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        assert arrays[name].dtype == np.float32
        np.testing.assert_array_equal(arrays[name], array, err_msg=name, strict=True)


def test_bytes_written_out(saved):
    """layer { name: "c" type: "Convolution" blobs { shape { dim: 2 } data: [1, -2] } }."""
    data = bytes.fromhex("a20621 0a0163 120b 436f6e766f6c7574696f6e 3a0f 3a03 0a01 02 2a08")
    assert_equal(
        read(saved(data + struct.pack("<2f", 1, -2))), {"c/0": np.array([1, -2], np.float32)}
    )


def test_the_first_generation(saved):
    conv, bias, dense = values(2, 3, 1, 1), values(2), values(4, 5)
    up, gamma, beta = values(3, 1, 2, 2), values(2), values(2, start=7)
    net = (
        field(1, "net")
        + v1_layer("data", 5)
        + v1_layer("conv", 4, legacy_blob(conv), legacy_blob(bias))
        + v1_layer("fc", 14, legacy_blob(dense), legacy_blob(values(4)))
        + v1_layer("up", 39, legacy_blob(up))
        + v1_layer("bn", 43, *(legacy_blob(b.reshape(1, 2, 1, 1)) for b in (gamma, beta)))
    )
    expected = {
        "conv/0": conv,
        "conv/1": bias,
        "fc/0": dense,
        "fc/1": values(4),
        "up/0": up,
        "bn/gamma": gamma,
        "bn/beta": beta,
    }
    assert_equal(read(saved(net)), expected)


def test_the_second_generation_names_norms_by_what_they_hold(saved):
    four = [values(1, 2, 1, 1, start=s) for s in (10, 20, 30, 40)]
    net = (
        layer("conv1/bn", "BN", *map(blob, four))
        + layer("norm", "BatchNorm", blob(values(2)), blob(values(2, start=5)), blob(values(1) * 4))
        + layer("fresh", "BatchNorm", blob(values(2)), blob(values(2)), blob(np.zeros(1)))
        + layer("scale", "Scale", blob(values(2)), blob(values(2, start=3)))
        + layer("fc", "InnerProduct", blob(values(3, 2)), blob(values(3)))
        + layer("conv", "Convolution", blob(values(1, 1, 1, 3)))
        + layer("relu", "PReLU", blob(values(2)))
    )
    expected = {
        "conv1/bn/gamma": four[0].reshape(2),
        "conv1/bn/beta": four[1].reshape(2),
        "conv1/bn/mean": four[2].reshape(2),
        "conv1/bn/var": four[3].reshape(2),
        "norm/mean": values(2) / 4,
        "norm/var": values(2, start=5) / 4,
        "fresh/mean": np.zeros(2, np.float32),
        "fresh/var": np.zeros(2, np.float32),
        "scale/gamma": values(2),
        "scale/beta": values(2, start=3),
        "fc/0": values(3, 2),
        "fc/1": values(3),
        "conv/0": values(1, 1, 1, 3),
        "relu/0": values(2),
    }
    assert_equal(read(saved(net)), expected)


def test_unpacked_and_double_data(saved):
    unpacked = b"".join(varint(5 << 3 | 5) + struct.pack("<f", v) for v in (1, 2, 3))
    doubles = field(8, struct.pack("<2d", 0.5, 4))
    net = layer("a", "Bias", field(7, field(1, 3)) + unpacked)
    net += layer("b", "Bias", field(7, field(1, 2)) + doubles)
    expected = {"a/0": values(3), "b/0": np.array([0.5, 4], np.float32)}
    assert_equal(read(saved(net)), expected)


def test_one_dimensional_convolutions_of_one_value_keep_four_dimensions(saved):
    net = v1_layer("c", 4, legacy_blob(values(1, 1, 1, 1)), legacy_blob(values(1)))
    net += v1_layer("f", 14, legacy_blob(values(1, 3)))
    arrays = read(saved(net))
    assert arrays["c/0"].shape == (1, 1, 1, 1)
    assert arrays["c/1"].shape == (1,)
    assert arrays["f/0"].shape == (1, 3)


def test_a_file_cut_off_anywhere_is_refused_or_lacks_whole_layers(saved):
    net = layer("a", "Convolution", blob(values(2, 1, 3, 3)), blob(values(2)))
    net += layer("b", "Scale", blob(values(2)))
    whole = len(layer("a", "Convolution", blob(values(2, 1, 3, 3)), blob(values(2))))
    for end in range(1, len(net)):
        if end == whole:
            assert read(saved(net[:end])).keys() == {"a/0", "a/1"}
            continue
        with pytest.raises(WeightsError, match=r"net\.caffemodel"):
            read(saved(net[:end]))


HUGE = field(7, field(1, 2**40)) + field(5, b"")
BAD = {
    "values, but holds 2": layer("a", "Bias", field(7, field(1, 3)) + field(5, bytes(8))),
    "but holds 0": layer("a", "Bias", HUGE),
    r"declares the shape \(0, 18446744073709551615\)": layer(
        "a", "Bias", field(7, field(1, varint(0) + varint(2**64 - 1))) + field(5, b"")
    ),
    "layer 'a': 7 bytes are no whole number of float32": layer("a", "Bias", field(5, bytes(7))),
    "two layers are called 'a'": layer("a", "Bias", blob(values(1))) * 2,
    "a BN has 2 or 4 blobs, not 3": layer("a", "BN", *[blob(values(1))] * 3),
    "mean, variance and one factor, not 2": layer("a", "BatchNorm", *[blob(values(1))] * 2),
    "longer than ten bytes": b"\xff" * 11,
    "unknown wire type 3": b"\x0b",
    r"is 1099511627776 bytes long where only 1 are left": b"\x12" + varint(2**40) + b"a",
    "upgrade_net_proto_binary": field(2, field(1, field(1, "conv1"))),
    "no layer with weights": field(1, "net") + v1_layer("data", 5),
    "no .caffemodel": b"<!DOCTYPE html><html>Not found</html>",
    "is empty": b"",
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_refused(message, saved):
    with pytest.raises(WeightsError, match=message) as error:
        read(saved(BAD[message]))
    assert "net.caffemodel" in str(error.value)
