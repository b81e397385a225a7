import keras
import numpy as np
import pytest

import tfseg
from tfseg.weights import load_weights, maps


def _randomised(model):
    """Random weights with plausible norms, so that every array matters to the output."""
    rng = np.random.default_rng(0)
    for weight in model.weights:
        if "variance" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        elif "kernel" in weight.path:
            weight.assign(weight.numpy() * rng.uniform(0.8, 1.2, weight.shape))
        else:
            weight.assign(weight.numpy() + 0.1 * rng.normal(size=weight.shape))
    return model


def _arrays(model):
    """{"layer/variable": array}, the names that a legacy Keras file gives."""
    return {
        f"{layer.name}/{weight.name}": weight.numpy()
        for layer in model.layers
        for weight in layer.weights
    }


@pytest.mark.parametrize("size", [(64, 96), (65, 97), (70, 82)])
def test_mobilenet_v2_is_keras_applications(size):
    """The peer pads as its input's parity asks, so it is built for each size."""
    keras.utils.set_random_seed(0)
    peer = keras.applications.MobileNetV2((*size, 3), include_top=False, weights=None)
    peer = _randomised(peer)
    ours = tfseg.build("mobilenet_v2", style="keras")
    head = {f"predictions/{v.name}": v.numpy() for v in ours.get_layer("classifier.1").weights}
    load_weights(ours, _arrays(peer) | head, "keras")
    trunk = keras.Model(ours.input, ours.get_layer("features.18.2").output)
    x = np.random.default_rng(1).normal(size=(1, *size, 3)).astype("float32")
    np.testing.assert_allclose(trunk(x), peer(x), atol=1e-4)


def test_a_trunk_takes_an_imagenet_checkpoint():
    keras.utils.set_random_seed(0)
    peer = keras.applications.MobileNetV2((64, 64, 3), include_top=False, weights=None)
    peer = _randomised(peer)
    ours = tfseg.build("psp_mobilenet_v2", 3, output_stride=32, head_filters=8)
    before = ours.get_layer("head.conv").get_weights()[0]
    load_weights(ours, _arrays(peer), "keras", part="backbone")
    last = ours.get_layer("backbone.features.17.conv.3").output
    trunk = keras.Model(ours.input, last)
    theirs = keras.Model(peer.input, peer.get_layer("block_16_project_BN").output)
    x = np.random.default_rng(1).normal(size=(1, 64, 64, 3)).astype("float32")
    np.testing.assert_allclose(trunk(x), theirs(x), atol=1e-4)
    np.testing.assert_array_equal(ours.get_layer("head.conv").get_weights()[0], before)


def test_released_imagenet_weights(shared):
    path = shared("data/pretrained/mobilenetv2_1.0_notop_dequant.weights.h5")
    peer = keras.applications.MobileNetV2((96, 128, 3), include_top=False, weights=None)
    peer.load_weights(path)
    ours = tfseg.build("psp_mobilenet_v2", 3, output_stride=32, head_filters=8)
    load_weights(ours, path, part="backbone")
    trunk = keras.Model(ours.input, ours.get_layer("backbone.features.17.conv.3").output)
    theirs = keras.Model(peer.input, peer.get_layer("block_16_project_BN").output)
    x = np.random.default_rng(1).uniform(-1, 1, (1, 96, 128, 3)).astype("float32")
    expected = theirs(x)
    np.testing.assert_allclose(trunk(x), expected, atol=1e-4 * np.abs(expected).max())


def test_the_other_style_is_refused():
    model = tfseg.build("psp_mobilenet_v2", 3, style="torchvision", head_filters=8)
    with pytest.raises(ValueError, match="build it with style='keras'"):
        maps.backbone_layer_names(model, "keras")
    with pytest.raises(ValueError, match="build it with style='torchvision'"):
        maps.backbone_layer_names(tfseg.build("psp_resnet50", 3), "torchvision")


def test_unknown_origins_are_refused():
    model = tfseg.build("unet_release")
    with pytest.raises(ValueError, match="did you mean 'caffe'"):
        maps.layer_names(model, "cafe")
    with pytest.raises(ValueError, match=r"only of \['caffe', 'tfseg'\]"):
        maps.layer_names(model, "keras")


def test_pspnet_layers_have_the_prototxts_names():
    names = maps.layer_names(tfseg.build("psp_resnet50"), "caffe")
    assert names["backbone.conv1"] == "conv1_1_3x3_s2"
    assert names["backbone.bn3"] == "conv1_3_3x3/bn"
    assert names["backbone.layer2.0.conv1"] == "conv3_1_1x1_reduce"
    assert names["backbone.layer2.0.bn2"] == "conv3_1_3x3/bn"
    assert names["backbone.layer4.2.conv3"] == "conv5_3_1x1_increase"
    assert names["backbone.layer1.0.downsample.0"] == "conv2_1_1x1_proj"
    assert names["backbone.layer1.0.downsample.1"] == "conv2_1_1x1_proj/bn"
    assert names["ppm.bin6.conv"] == "conv5_3_pool6_conv"
    assert names["ppm.bin6.bn"] == "conv5_3_pool6_conv/bn"
    assert names["head.classifier"] == "conv6"
