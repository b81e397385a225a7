import keras
import numpy as np
import pytest
import tensorflow as tf

import tfseg
from tfseg.backbones.vgg import layer_names
from tfseg.weights import load_weights
from tfseg.weights.common import WeightsError

NARROW = {"base_filters": 4, "fc_filters": 8}


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return tfseg.build("deconvnet_vgg16", 3, **NARROW)


def _image(height, width, batch=1):
    shape = (batch, height, width, 3)
    return np.random.default_rng(0).normal(size=shape).astype("float32")


def test_sizes_of_the_paper(model):
    names = ["backbone.features.43", "backbone.fc7", "fc6-deconv", "unpool5", "unpool1"]
    outputs = [model.get_layer(name).output for name in names]
    maps = keras.Model(model.input, outputs)(_image(224, 224))
    assert [m.shape[1] for m in maps] == [7, 1, 7, 14, 224]
    assert [m.shape[2] for m in maps] == [7, 1, 7, 14, 224]
    assert model(_image(224, 224)).shape == (1, 224, 224, 3)


@pytest.mark.parametrize("size", [(193, 193), (225, 250), (256, 289)])
def test_any_size_from_193(model, size):
    assert model(_image(*size)).shape == (1, *size, 3)
    assert model.compute_output_shape((1, *size, 3)) == (1, *size, 3)


def test_smaller_images_are_refused(model):
    message = r"at least 193 x 193 pixels, not of 192 x 224"
    with pytest.raises(ValueError, match=message):
        model(_image(192, 224))
    with pytest.raises(ValueError, match=message):
        model.compute_output_shape((1, 192, 224, 3))


def test_norms_as_released(model):
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 29
    assert not any(isinstance(x, keras.layers.Dropout) for x in model.layers)
    for norm in norms:
        assert norm.epsilon == 1e-9
        np.testing.assert_array_equal(norm.gamma, np.ones(norm.gamma.shape))
        np.testing.assert_allclose(norm.beta, 0.001)


def test_decoder_starts_as_released(model):
    kernel = model.get_layer("fc6-deconv").kernel.numpy()
    assert kernel.shape == (7, 7, 32, 8)
    assert abs(kernel.std() - 0.01) < 3e-4
    assert abs(model.get_layer("deconv5_1").kernel.numpy().std() - 0.01) < 5e-4


def test_unpooling_goes_back_to_the_maxima(model):
    """Where conv5_3's map is no maximum of its window, unpool5 is zero."""
    before = model.get_layer("backbone.features.42").output
    both = keras.Model(model.input, [before, model.get_layer("unpool5").output])
    source, unpooled = (np.asarray(x)[0] for x in both(_image(224, 224)))
    windows = source.reshape(7, 2, 7, 2, -1)
    maxima = np.broadcast_to(windows.max(axis=(1, 3), keepdims=True), windows.shape)
    elsewhere = source < maxima.reshape(source.shape)
    assert elsewhere.any()
    assert not unpooled[elsewhere].any()


def test_every_variable_learns(model):
    x = _image(225, 257, batch=2)
    with tf.GradientTape() as tape:
        y = model(x, training=True)
        loss = tf.reduce_sum(y * tf.random.stateless_normal(y.shape, (1, 2)))
    variables = model.trainable_variables
    for v, g in zip(variables, tape.gradient(loss, variables), strict=True):
        assert np.isfinite(g).all(), v.path
        assert np.abs(g).max() > 0, v.path


def test_saved_and_loaded(model, tmp_path):
    path = tmp_path / "model.keras"
    x = _image(224, 224)
    expected = model(x, training=False)
    model.save(path)
    again = keras.models.load_model(path)(x, training=False)
    np.testing.assert_allclose(again, expected, atol=1e-5)


def _classifier(origin):
    """A narrow ImageNet VGG16, without norms, in the layout of this origin."""
    caffe = origin == "caffe"
    leaf = ("/0", "/1") if caffe else (".weight", ".bias")
    widths = [4, 4, 8, 8, 16, 16, 16, *[32] * 6]
    arrays, channels, random = {}, 3, np.random.default_rng(0)
    for (torch, released), width in zip(layer_names().items(), widths, strict=True):
        name = released if caffe else torch
        arrays[name + leaf[0]] = random.normal(size=(width, channels, 3, 3)).astype("float32")
        arrays[name + leaf[1]] = random.normal(size=width).astype("float32")
        channels = width
    names = ("fc6", "fc7", "fc8") if caffe else ("classifier.0", "classifier.3", "classifier.6")
    for name, shape in zip(names, ((8, 32 * 49), (8, 8), (5, 8)), strict=True):
        arrays[name + leaf[0]] = random.normal(size=shape).astype("float32")
        arrays[name + leaf[1]] = random.normal(size=shape[0]).astype("float32")
    return arrays


@pytest.mark.parametrize("origin", ["caffe", "torchvision"])
def test_imagenet_trunk_without_norms(origin, caplog):
    model = tfseg.build("deconvnet_vgg16", 3, style=origin, **NARROW)
    arrays = _classifier(origin)
    with pytest.raises(WeightsError, match=r"missing \(60\)"):
        load_weights(model, arrays, origin, part="backbone")
    load_weights(model, arrays, origin, part="backbone", partial=True)
    names = {"caffe": ("conv5_3/0", "fc6/0"), "torchvision": ("features.28.weight",)}[origin]
    kernel = model.get_layer("backbone.features.40").kernel
    np.testing.assert_array_equal(kernel, arrays[names[0]].transpose(2, 3, 1, 0))
    fc6 = arrays["fc6/0" if origin == "caffe" else "classifier.0.weight"]
    expected = fc6.reshape(8, 32, 7, 7).transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(model.get_layer("backbone.fc6").kernel, expected)
    np.testing.assert_allclose(model.get_layer("backbone.features.41").beta, 0.001)
    assert "backbone.features.41" in caplog.text
    assert "backbone.features.40" not in caplog.text


def test_released_norms_have_no_statistics():
    model = tfseg.build("deconvnet_vgg16", 3, **NARROW)
    arrays, random = {}, np.random.default_rng(0)
    released = {f"backbone.{ours}": caffe for ours, caffe in layer_names(norms=True).items()}
    for layer in (x for x in model.layers if x.weights):
        name = released.get(layer.name, layer.name.removeprefix("backbone."))
        if isinstance(layer, keras.layers.BatchNormalization):
            arrays[f"{name}/gamma"] = random.normal(size=layer.gamma.shape).astype("float32")
            arrays[f"{name}/beta"] = random.normal(size=layer.beta.shape).astype("float32")
            layer.moving_mean.assign(layer.moving_mean + 3)
        else:
            shape = layer.kernel.shape[::-1][:2] + layer.kernel.shape[:2]
            arrays[f"{name}/0"] = random.normal(size=shape).astype("float32")
            arrays[f"{name}/1"] = random.normal(size=layer.bias.shape).astype("float32")
    load_weights(model, arrays, "caffe")
    norm = model.get_layer("debn4_3")
    x = random.normal(size=(1, 2, 2, 16)).astype("float32")
    expected = x * arrays["debn4_3/gamma"] + arrays["debn4_3/beta"]
    np.testing.assert_allclose(norm(x, training=False), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(
        model.get_layer("deconv4_3").kernel, arrays["deconv4_3/0"].transpose(2, 3, 1, 0)
    )
