import h5py
import keras
import ml_dtypes
import numpy as np
import pytest

from tfseg.weights import WeightsError, read_weights


def _peer():
    """Every kind of layer that has known variables, and one that has not."""
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 4))
    x = keras.layers.Conv2D(6, 3, groups=2, name="a.conv")(image)
    x = keras.layers.BatchNormalization(name="bn")(x)
    x = keras.layers.BatchNormalization(name="frozen", trainable=False)(x)
    x = keras.layers.BatchNormalization(scale=False, name="centred")(x)
    x = keras.layers.DepthwiseConv2D(3, use_bias=False, name="depthwise")(x)
    x = keras.layers.Conv2DTranspose(4, 2, name="up")(x)
    x = keras.layers.GroupNormalization(2, name="gn")(x)
    x = keras.layers.PReLU(shared_axes=(1, 2), name="prelu")(x)
    x = keras.layers.Dropout(0.5, name="dropout")(x)
    inner = keras.Sequential([keras.Input((5, 5, 4)), keras.layers.Dense(3, name="dense")])
    model = keras.Model(image, inner(x))
    rng = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(rng.uniform(size=weight.shape))
    return model


def _expected(model):
    arrays = {f"{v.path}": v.numpy() for layer in model.layers for v in layer.weights}
    nested = {n: a for n, a in arrays.items() if n.count("/") > 1}
    return {n: a for n, a in arrays.items() if n not in nested} | {
        n.split("/", 1)[1]: a for n, a in nested.items()
    }


def _assert_equal(arrays, expected):
    assert arrays.keys() == expected.keys()
    for name, array in expected.items():
        np.testing.assert_array_equal(arrays[name], array, err_msg=name, strict=True)


def test_keras_3_layout(tmp_path):
    model = _peer()
    model.compile(keras.optimizers.SGD(momentum=0.9), "mse")
    model.fit(np.ones((2, 8, 8, 4)), np.ones((2, 5, 5, 3)), verbose=0)
    path = tmp_path / "peer.weights.h5"
    model.save_weights(path)
    arrays, origin = read_weights(path)
    expected = _expected(model)
    # Which of its three a norm lacks, and what unknown classes hold, the file does not say.
    for index, variable in enumerate(("beta", "moving_mean", "moving_variance")):
        expected[f"centred/{index}"] = expected.pop(f"centred/{variable}")
    expected["prelu/0"] = expected.pop("prelu/alpha")
    assert origin == "keras"
    _assert_equal(arrays, expected)


def test_legacy_layout_of_keras_3(tmp_path):
    """The whole-model .h5 keeps variables' names."""
    model = _peer()
    model.save(tmp_path / "peer.h5")
    _assert_equal(read_weights(tmp_path / "peer.h5")[0], _expected(model))


def test_legacy_layout_of_keras_2(tmp_path):
    """Bytes for names, ":0" behind them, and lists of names split over attributes."""
    rng = np.random.default_rng(0)
    weights = {
        "Conv1": {"Conv1/kernel:0": rng.normal(size=(3, 3, 3, 2))},
        "dw": {"dw_1/depthwise_kernel:0": rng.normal(size=(3, 3, 2, 1))},
        "inner": {"c1/kernel:0": rng.normal(size=(2, 2)), "c2/kernel:0": rng.normal(size=(3,))},
        "relu": {},
    }
    with h5py.File(tmp_path / "old.h5", "w") as file:
        file.attrs["layer_names0"] = [b"Conv1", b"dw"]
        file.attrs["layer_names1"] = [b"inner", b"relu"]
        for layer, arrays in weights.items():
            group = file.create_group(layer)
            group.attrs["weight_names"] = [name.encode() for name in arrays]
            for name, array in arrays.items():
                group[name] = array
    expected = {
        "Conv1/kernel": weights["Conv1"]["Conv1/kernel:0"],
        "dw/depthwise_kernel": weights["dw"]["dw_1/depthwise_kernel:0"],
        "c1/kernel": weights["inner"]["c1/kernel:0"],
        "c2/kernel": weights["inner"]["c2/kernel:0"],
    }
    _assert_equal(read_weights(tmp_path / "old.h5")[0], expected)


def test_layers_without_names_are_called_as_in_the_file(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file["layers/conv2d_3/vars/0"] = np.ones((1, 1, 2, 2), np.float32)
        file["layers/conv2d_3/vars/1"] = np.ones(2, np.float32)
    assert read_weights(tmp_path / "x.h5")[0].keys() == {"conv2d_3/kernel", "conv2d_3/bias"}


def test_bfloat16_becomes_float32(tmp_path):
    values = np.array([1.5, -2.25, 3e38], ml_dtypes.bfloat16)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        file.create_dataset("layers/dense/vars/0", data=values)
    arrays, _ = read_weights(tmp_path / "x.h5")
    np.testing.assert_array_equal(arrays["dense/kernel"], values.astype(np.float32), strict=True)


def test_released_file(shared):
    path = shared("data/pretrained/mobilenetv2_1.0_notop_dequant.weights.h5")
    arrays, origin = read_weights(path)
    assert origin == "keras"
    assert len(arrays) == 52 * 4 + 52  # norms of four variables, convolutions of one
    assert arrays["Conv1/kernel"].shape == (3, 3, 3, 32)
    assert arrays["block_3_depthwise/kernel"].shape == (3, 3, 144, 1)
    # Folded norms: the variance makes up for Keras' epsilon of 1e-3.
    np.testing.assert_allclose(arrays["Conv_1_bn/moving_variance"], 0.999)


def _external_link(file, secret):
    file.create_group("layers/dense/vars")["0"] = h5py.ExternalLink(secret, "x")


def _external_group(file, secret):
    file["layers"] = h5py.ExternalLink(secret, "layers")


def _external_storage(file, secret):
    file.create_dataset("layers/dense/vars/0", (4,), "f4", external=str(secret))


def _virtual(file, secret):
    layout = h5py.VirtualLayout((4,), "f4")
    layout[:] = h5py.VirtualSource(secret, "x", (4,))
    file.create_virtual_dataset("layers/dense/vars/0", layout)


def _legacy_link(file, secret):
    file.attrs["layer_names"] = ["a"]
    file["a"] = h5py.ExternalLink(secret, "layers")


def _legacy_missing(file, secret):
    file.attrs["layer_names"] = ["a"]
    file.create_group("a").attrs["weight_names"] = ["a/kernel"]


def _legacy_group(file, secret):
    file.attrs["layer_names"] = ["a"]
    file.create_group("a").attrs["weight_names"] = ["a/kernel"]
    file.create_group("a/a/kernel")


def _huge(file, secret):
    file.create_dataset("layers/dense/vars/0", (2**40,), "f4", chunks=(1024,))


def _unwritten(file, secret):
    file.create_dataset("layers/dense/vars/0", (2**20,), "f4")


def _text(file, secret):
    file["layers/dense/vars/0"] = "text"


def _twice(file, secret):
    for group in ("dense", "dense_1"):
        file[f"layers/{group}/vars/0"] = np.ones(2)
        file[f"layers/{group}/vars"].attrs["name"] = "fc"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (_external_link, "no layer with weights"),
        (_external_group, "no layer with weights"),
        (_external_storage, "lies in another file"),
        (_virtual, "lies in another file"),
        (_legacy_link, "lists the layer 'a', but has none"),
        (_legacy_missing, "lists the weight 'a/kernel' of 'a', but has none"),
        (_legacy_group, "is no array"),
        (_huge, "the limit is"),
        (_unwritten, "declares 4194304 bytes, but holds 0"),
        (_text, "not numbers|bytes"),
        (_twice, "two arrays called fc/kernel"),
        (lambda file, secret: None, "no Keras weight file"),
    ],
)
def test_hostile_files(tmp_path, write, message):
    """Above all: no other file's content is read through this one."""
    secret = tmp_path / "secret.h5"
    with h5py.File(secret, "w") as file:
        file["x"] = file["layers/dense/vars/0"] = np.ones(4, np.float32)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write(file, secret)
    with pytest.raises(WeightsError, match=message) as error:
        read_weights(tmp_path / "x.h5")
    assert "x.h5" in str(error.value)


def test_a_file_cut_off_is_refused(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        file["layers/dense/vars/0"] = np.ones((30, 30), np.float32)
    whole = path.read_bytes()
    for end in range(0, len(whole), 211):
        path.write_bytes(whole[:end])
        with pytest.raises(WeightsError, match=r"x\.h5"):
            read_weights(path)
