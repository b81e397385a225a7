import keras
import numpy as np
import pytest
import tensorflow as tf

import tfseg
from tfseg.benchmark import _randomise_norms
from tfseg.layers.conv import GroupedConv2D, PackedConv2D, WideConv2D
from tfseg.layers.fold import fold_norms

Norm = keras.layers.BatchNormalization


def _norms(model):
    return [layer.name for layer in model.layers if isinstance(layer, Norm)]


def _randomised(model, seed=0):
    """Positive weights of all kinds, so that no factor or offset hides behind a 0 or a 1."""
    rng = np.random.default_rng(seed)
    model.set_weights([rng.uniform(0.2, 1.5, weight.shape) for weight in model.weights])
    return model


def _assert_same(model, folded, size=(9, 11)):
    shape = (2, *size, model.inputs[0].shape[-1])
    images = np.random.default_rng(1).normal(size=shape).astype("float32")
    wanted, found = (m(images, training=False) for m in (model, folded))
    keras.tree.assert_same_structure(wanted, found)
    for a, b in zip(keras.tree.flatten(wanted), keras.tree.flatten(found), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-5 * np.abs(a).max())


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        (keras.layers.Conv2D, {"filters": 6, "kernel_size": 3, "padding": "same"}),
        (keras.layers.Conv2D, {"filters": 6, "kernel_size": 3, "strides": 2, "use_bias": False}),
        (keras.layers.DepthwiseConv2D, {"kernel_size": 3, "depth_multiplier": 2}),
        (keras.layers.Conv2DTranspose, {"filters": 6, "kernel_size": 4, "strides": 2}),
        (GroupedConv2D, {"filters": 6, "kernel_size": 3, "groups": 2, "use_bias": False}),
        (WideConv2D, {"filters": 6, "kernel_size": 3, "dilation_rate": 3, "padding": "same"}),
    ],
    ids=["biased", "strided", "depthwise", "transposed", "grouped", "wide"],
)
def test_norm_behind_a_convolution(kind, options):
    x = keras.Input((None, None, 4))
    y = keras.layers.ReLU()(Norm(epsilon=1e-3)(kind(**options)(x)))
    model = _randomised(keras.Model(x, keras.layers.Conv2D(2, 1)(y)))
    folded = fold_norms(model)
    assert not _norms(folded)
    _assert_same(model, folded)


@pytest.mark.parametrize("options", [{}, {"strides": 2}, {"padding": "same", "use_bias": False}])
def test_large_convolutions_are_packed(monkeypatch, options):
    monkeypatch.setattr("tfseg.layers.fold.LARGE", 4 * 6 * 9 - 1)
    x = keras.Input((None, None, 4))
    y = Norm()(keras.layers.Conv2D(6, 3, activation="relu", **options)(x))
    y = keras.layers.Conv2D(6, 3, dilation_rate=2, padding="same")(y)
    model = _randomised(keras.Model(x, keras.layers.Conv2D(3, 3)(y)))
    assert fold_norms(model) is model
    folded = fold_norms(model, packed=True)
    kinds = [type(layer) for layer in folded.layers if isinstance(layer, keras.layers.Conv2D)]
    assert kinds == [PackedConv2D, keras.layers.Conv2D, keras.layers.Conv2D]
    serve = tf.function(folded, input_signature=[tf.TensorSpec((None, None, None, 4))])
    for size in ((12, 13), (40, 31)):  # as a map and as a volume
        _assert_same(model, folded, size)
        images = np.random.default_rng(2).normal(size=(1, *size, 4)).astype("float32")
        np.testing.assert_allclose(serve(images), model(images), rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("options", [{"scale": False}, {"center": False}])
def test_norms_without_a_scale_or_an_offset(options):
    x = keras.Input((None, None, 3))
    model = _randomised(keras.Model(x, Norm(**options)(keras.layers.Conv2D(4, 3)(x))))
    folded = fold_norms(model)
    assert not _norms(folded)
    _assert_same(model, folded)


def test_norms_that_must_stay():
    x = keras.Input((None, None, 3))
    first = Norm(name="of_the_input")(x)
    taken = keras.layers.Conv2D(3, 1)(first)  # another layer reads it without the norm
    second = Norm(name="beside")(taken)
    active = Norm(name="behind_a_relu")(keras.layers.Conv2D(3, 1, activation="relu")(second))
    shared = keras.layers.Conv2D(3, 1)
    third = Norm(name="of_a_shared_one")(shared(active))
    shown = keras.layers.Conv2D(3, 1)(shared(third))
    last = Norm(name="of_an_output")(shown)
    model = _randomised(keras.Model(x, {"a": last, "b": taken + third, "c": shown}))
    folded = fold_norms(model)
    assert len(_norms(model)) == 5
    assert folded is model


def test_sequential_models():
    layers = [keras.layers.Conv2D(4, 3), Norm(), keras.layers.ReLU()]
    model = _randomised(keras.Sequential([keras.Input((None, None, 3)), *layers], name="small"))
    folded = fold_norms(model)
    assert (_norms(folded), folded.name) == ([], "small")
    _assert_same(model, folded)


def test_the_model_keeps_its_weights_and_the_copy_its_own():
    x = keras.Input((None, None, 3))
    model = _randomised(keras.Model(x, Norm()(keras.layers.Conv2D(4, 3)(x)), name="small"))
    before = model.get_weights()
    folded = fold_norms(model)
    assert folded.name == "small"
    wanted = folded(np.ones((1, 5, 5, 3), "float32")).numpy()
    for kept, weight in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(weight, kept)
    model.set_weights([0 * weight for weight in before])
    np.testing.assert_array_equal(folded(np.ones((1, 5, 5, 3), "float32")), wanted)


@pytest.mark.parametrize("name", ["psp_mobilenet_v2", "shufflenet_v2_x0_5"])
def test_networks_have_no_norm_left(name):
    model = tfseg.build(name, 3)
    _randomise_norms(model)
    folded = fold_norms(model)
    assert _norms(model)
    assert not _norms(folded)
    _assert_same(model, folded, (65, 97))
