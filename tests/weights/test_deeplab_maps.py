"""The released names of DeepLab's and torchvision's segmentation networks."""

import keras
import numpy as np
import pytest

import tfseg
from tfseg.weights import WeightsError, load_weights, maps
from tfseg.weights.maps import Target, deeplab

NARROW = {"base_filters": 2, "fc_filters": 4}


def _checkpoint(model, origin, suffixes):
    """The model's own weights under a checkpoint's names."""
    names = maps.layer_names(model, origin)
    arrays = {}
    for layer in model.layers:
        for weight in layer.weights:
            target = names[layer.name]
            base = target if isinstance(target, str) else target.name
            value = weight.numpy()
            value = value.transpose(3, 2, 0, 1) if value.ndim == 4 else value
            arrays[base + suffixes[weight.name]] = value
    return arrays


@pytest.mark.parametrize("name", ["deeplab_largefov_vgg16", "deeplab_aspp_vgg16"])
@pytest.mark.parametrize("suffix", ["", "_pascal", "_${EXP}", "_coco_largefov"])
def test_classifiers_are_found_under_any_name(name, suffix):
    keras.utils.set_random_seed(0)
    model = tfseg.build(name, 3, **NARROW)
    arrays = _checkpoint(model, "caffe", {"kernel": "/0", "bias": "/1"})
    assert {"conv1_1/0", "conv5_3/1"} <= set(arrays)
    renamed = {key.replace("fc8_voc12", f"fc8{suffix}"): value for key, value in arrays.items()}
    other = tfseg.build(name, 3, **NARROW)
    load_weights(other, renamed, "caffe")
    for mine, theirs in zip(other.get_weights(), model.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, theirs)


def test_two_classifiers_are_one_too_many():
    model = tfseg.build("deeplab_largefov_vgg16", 3, **NARROW)
    arrays = _checkpoint(model, "caffe", {"kernel": "/0", "bias": "/1"})
    for blob in "01":
        arrays[f"fc8_pascal/{blob}"] = arrays[f"fc8_voc12/{blob}"]
    with pytest.raises(WeightsError, match=r"unexpected \(2\): fc8_pascal/0, fc8_pascal/1"):
        load_weights(model, arrays, "caffe")
    del arrays["fc8_pascal/0"], arrays["fc8_pascal/1"], arrays["fc8_voc12/0"]
    with pytest.raises(WeightsError, match=r"missing \(1\): fc8_voc12/0"):
        load_weights(model, arrays, "caffe")


def test_other_classes_are_left_out_on_demand(caplog):
    source = tfseg.build("deeplab_msc_largefov_vgg16", 3, **NARROW)
    arrays = _checkpoint(source, "caffe", {"kernel": "/0", "bias": "/1"})
    model = tfseg.build("deeplab_msc_largefov_vgg16", 5, **NARROW)
    load_weights(model, arrays, "caffe", skip_heads=True)
    assert "data_ms, pool1_ms, pool2_ms, pool3_ms, pool4_ms" in caplog.text.replace("fc8, ", "")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("backbone.conv1", "conv1"),
        ("backbone.bn1", Target("bn_conv1", norm="scale_conv1")),
        ("backbone.layer1.0.downsample.0", "res2a_branch1"),
        ("backbone.layer1.2.conv2", "res2c_branch2b"),
        ("backbone.layer2.0.conv1", "res3a_branch2a"),
        ("backbone.layer2.3.bn3", Target("bn3b3_branch2c", norm="scale3b3_branch2c")),
        ("backbone.layer3.22.conv3", "res4b22_branch2c"),
        ("backbone.layer4.0.downsample.1", Target("bn5a_branch1", norm="scale5a_branch1")),
        ("backbone.layer4.1.conv1", "res5b_branch2a"),
        ("fc1_c3", Target("fc1_voc12_c3", pattern=r"fc1(_.+)?_c3")),
    ],
)
def test_resnet_names_are_the_prototxts(name, expected):
    translate = deeplab.ARCHITECTURE.networks[1].translate
    assert translate(name) == expected


def test_vgg_trunk_takes_imagenet_weights_decimated():
    """fc6: taps 0, 3 and 6 of 7 x 7; every fourth filter."""
    model = tfseg.build("deeplab_aspp_vgg16", 3, **NARROW)
    names, unused = maps.backbone_layer_names(model, "caffe")
    assert unused == ("fc",)
    assert names["backbone.features.28"] == "conv5_3"
    rng = np.random.default_rng(0)
    fc6 = rng.normal(size=(16, 2 * 49)).astype("float32")
    target = names["backbone.fc6_3"]
    assert target.name == "fc6"
    kernel = target.convert["kernel"](fc6, (3, 3, 2, 4))
    expected = fc6.reshape(16, 2, 7, 7)[::4, :, ::3, ::3].transpose(2, 3, 1, 0)
    np.testing.assert_array_equal(kernel, expected)
    with pytest.raises(ValueError, match="build it with style='torchvision'"):
        maps.backbone_layer_names(model, "torchvision")


@pytest.mark.slow
def test_released_torchvision_files_load_with_and_without_the_auxiliary_head():
    suffixes = {
        "kernel": ".weight",
        "bias": ".bias",
        "gamma": ".weight",
        "beta": ".bias",
        "moving_mean": ".running_mean",
        "moving_variance": ".running_var",
    }
    keras.utils.set_random_seed(0)
    full = tfseg.build("fcn_resnet50", 3, aux_head=True)
    arrays = _checkpoint(full, "torchvision", suffixes)
    assert "aux_classifier.4.bias" in arrays
    plain = tfseg.build("fcn_resnet50", 3)
    load_weights(plain, arrays)
    x = np.random.default_rng(0).normal(size=(1, 33, 33, 3)).astype("float32")
    np.testing.assert_allclose(plain(x), full(x)["logits"], atol=1e-5)
    trunk = {key: value for key, value in arrays.items() if not key.startswith("aux_")}
    with pytest.raises(WeightsError, match=r"aux_classifier\.0\.weight"):
        load_weights(full, trunk)
    load_weights(full, trunk, skip_heads=True)
