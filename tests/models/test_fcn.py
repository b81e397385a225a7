import keras
import numpy as np
import pytest

import tfseg
from tfseg.weights import load_weights

NARROW = {"base_filters": 4, "fc_filters": 8}


def _narrow(name, **options):
    keras.utils.set_random_seed(1)
    return tfseg.build(name, 3, **NARROW, **options)


def _random_scores(model, seed=0):
    """Classifiers start at zero: give them something to say."""
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if layer.name.startswith("score_") and layer.weights:
            layer.set_weights([rng.normal(size=w.shape) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize("name", ["fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16"])
@pytest.mark.parametrize("size", [(1, 1), (17, 40), (65, 97)])
def test_any_size_gives_its_own_size(name, size):
    model = _narrow(name)
    assert model(np.zeros((1, *size, 3), "float32")).shape == (1, *size, 3)


@pytest.mark.parametrize("style", ["caffe", "torchvision"])
def test_googlenet_takes_any_size_from_its_stride_on(style):
    model = tfseg.build("fcn32s_googlenet", 2, style=style)
    for height in range(32, 70):
        shape = model.compute_output_shape((1, height, 97, 3))
        assert tuple(shape) == (1, height, 97, 2)
    assert model(np.zeros((1, 62, 126, 3), "float32")).shape == (1, 62, 126, 2)


def test_scores_start_at_zero_and_upsampling_is_fixed():
    model = _narrow("fcn8s_vgg16")
    x = np.random.default_rng(0).normal(size=(1, 40, 48, 3)).astype("float32")
    assert not np.any(model(x))
    assert not [v.path for v in model.trainable_variables if "upscore" in v.path]
    learned = _narrow("fcn8s_vgg16", learned_upsampling=True)
    paths = [v.path for v in learned.trainable_variables if "upscore" in v.path]
    assert paths == ["upscore2/kernel", "upscore_pool4/kernel"]


@pytest.mark.parametrize(("coarse", "fine"), [("32", "16"), ("16", "8")])
def test_a_new_skip_that_starts_at_zero_changes_only_the_interpolation(coarse, fine):
    """What staged training relies on: the finer network starts as the coarser one."""
    first = _random_scores(_narrow(f"fcn{coarse}s_vgg16"))
    second = _narrow(f"fcn{fine}s_vgg16")
    arrays = {f"{x.name}/{v.name}": v.numpy() for x in first.layers for v in x.weights}
    load_weights(second, arrays, "tfseg", partial=True)
    x = np.random.default_rng(0).normal(size=(1, 320, 320, 3)).astype("float32")
    a, b = first(x).numpy(), second(x).numpy()
    assert a.std() > 0
    # Interpolating in two steps or in one differs by less than the scores vary.
    inner = slice(96, -96)
    assert np.abs(a - b)[:, inner, inner].mean() < 0.2 * a[:, inner, inner].std()


def test_the_at_once_network_scales_its_skips_down():
    model = _random_scores(_narrow("fcn8s_atonce_vgg16"))
    x = np.random.default_rng(0).normal(size=(1, 64, 64, 3)).astype("float32")
    names = ("backbone.features.23", "scale_pool4", "backbone.features.16", "scale_pool3")
    taps = keras.Model(model.input, [model.get_layer(name).output for name in names])(x)
    np.testing.assert_allclose(taps[1], 0.01 * np.array(taps[0]), rtol=1e-6)
    np.testing.assert_allclose(taps[3], 0.0001 * np.array(taps[2]), rtol=1e-6)


def test_a_classifier_becomes_a_trunk():
    """fc6 over the whole 7x7 map is the fully connected layer."""
    keras.utils.set_random_seed(0)
    rng = np.random.default_rng(0)
    model = _narrow("fcn32s_vgg16", style="torchvision")
    assert model.spec.preprocessing.channels == "rgb"
    arrays = {}
    for layer in model.layers:
        if layer.name.startswith("backbone.") and layer.weights:
            kernel, bias = layer.get_weights()
            number = layer.name.removeprefix("backbone.fc")
            name = {"6": "classifier.0", "7": "classifier.3"}.get(number, layer.name[9:])
            array = rng.normal(size=kernel.shape[::-1]).transpose(0, 1, 3, 2)
            if number in "67":
                array = array.reshape(len(array), -1)
            arrays[f"{name}.weight"] = array.astype("float32")
            arrays[f"{name}.bias"] = rng.normal(size=bias.shape).astype("float32")
    arrays |= {"classifier.6.weight": np.ones((5, 8)), "classifier.6.bias": np.ones(5)}
    with pytest.raises(ValueError, match="build it with style='torchvision'"):
        load_weights(_narrow("fcn32s_vgg16"), arrays, part="backbone")
    load_weights(model, arrays, part="backbone")
    features = rng.normal(size=(1, 7, 7, 32)).astype("float32")
    dense = arrays["classifier.0.weight"] @ features[0].transpose(2, 0, 1).ravel()
    found = model.get_layer("backbone.fc6")(features)
    np.testing.assert_allclose(
        np.ravel(found), dense + arrays["classifier.0.bias"], rtol=1e-4, atol=1e-4
    )


@pytest.mark.slow
def test_deepest_counts():
    """All variables, fixed deconvolutions included, as the released prototxts have."""
    expected = {
        "fcn32s_vgg16": 136_152_917,
        "fcn16s_vgg16": 134_815_994,
        "fcn8s_vgg16": 134_489_759,
        "fcn32s_alexnet": 58_704_590,
    }
    for name, count in expected.items():
        assert tfseg.build(name).count_params() == count, name
    learned = tfseg.build("fcn8s_vgg16", learned_upsampling=True)
    trainable = sum(int(np.prod(v.shape)) for v in learned.trainable_variables)
    assert trainable == 134_362_751 + 2 * 4 * 4 * 21 * 21
    assert tfseg.build("fcn8s_vgg16", 60).count_params() == 135_589_364


def _caffe_checkpoint(model, names, dense):
    """Random arrays under Caffe's names, in Caffe's layout, for a trunk's layers."""
    rng = np.random.default_rng(0)
    arrays = {}
    for layer in model.layers:
        if layer.name.startswith("backbone.") and layer.weights:
            kernel, bias = layer.get_weights()
            name = names(layer.name.removeprefix("backbone."))
            array = rng.normal(size=kernel.transpose(3, 2, 0, 1).shape).astype("float32")
            arrays[f"{name}/0"] = array.reshape(len(array), -1) if name in dense else array
            arrays[f"{name}/1"] = rng.normal(size=bias.shape).astype("float32")
    return arrays


def test_caffenet_becomes_a_trunk():
    model = tfseg.build("fcn32s_alexnet", 2, fc_filters=8)
    arrays = _caffe_checkpoint(model, str, ("fc6", "fc7"))
    arrays |= {"fc8/0": np.ones((5, 8), np.float32), "fc8/1": np.ones(5, np.float32)}
    load_weights(model, arrays, part="backbone")
    # The fully connected layer sees the whole 6x6 map, channels first.
    features = np.random.default_rng(1).normal(size=(1, 6, 6, 256)).astype("float32")
    expected = arrays["fc6/0"] @ features[0].transpose(2, 0, 1).ravel() + arrays["fc6/1"]
    found = np.ravel(model.get_layer("backbone.fc6")(features))
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-3)
    kernel = model.get_layer("backbone.conv2").get_weights()[0]
    np.testing.assert_array_equal(kernel, arrays["conv2/0"].transpose(2, 3, 1, 0))


def test_bvlc_googlenet_becomes_a_trunk():
    stem = {"conv1": "conv1/7x7_s2", "conv2": "conv2/3x3_reduce", "conv3": "conv2/3x3"}
    units = {
        "branch1": "1x1",
        "branch2.0": "3x3_reduce",
        "branch2.1": "3x3",
        "branch3.0": "5x5_reduce",
        "branch3.1": "5x5",
        "branch4.1": "pool_proj",
    }

    def bvlc(name):
        name = name.removesuffix(".conv")
        block, _, unit = name.partition(".")
        return stem[name] if name in stem else f"inception_{block[-2:]}/{units[unit]}"

    model = tfseg.build("fcn32s_googlenet", 2)
    arrays = _caffe_checkpoint(model, bvlc, ())
    for head in ("loss1/classifier", "loss2/fc", "loss3/classifier"):
        arrays[f"{head}/0"] = np.ones((5, 8), np.float32)
    load_weights(model, arrays, part="backbone")
    kernel = model.get_layer("backbone.inception4d.branch3.1.conv").get_weights()[0]
    assert kernel.shape == (5, 5, 32, 64)
    np.testing.assert_array_equal(kernel, arrays["inception_4d/5x5/0"].transpose(2, 3, 1, 0))
