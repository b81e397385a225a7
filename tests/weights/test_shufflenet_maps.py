"""ShuffleNetV2 checkpoints of torchvision and of Megvii."""

import keras
import numpy as np
import pytest

import tfseg
from tfseg import registry
from tfseg.backbones import DEEP_SHUFFLENETS, shufflenet_v2, shufflenet_v2_deep
from tfseg.backbones.shufflenet_v2_large import DeepLayout
from tfseg.weights import WeightsError, load_weights, maps
from tfseg.weights.files import guess_origin

LEAVES = {
    "gamma": "weight",
    "beta": "bias",
    "moving_mean": "running_mean",
    "moving_variance": "running_var",
    "kernel": "weight",
    "bias": "bias",
}
#: as Large and ExLarge, of fewer blocks and channels
NARROW = {
    "shufflenet_v2_large": DeepLayout((4, 4, 8), (2, 1, 1, 1), (32, 32, 32, 32), 8, 1e-9, 24),
    "shufflenet_v2_exlarge": DeepLayout((4, 4, 8), (2, 1, 1, 1), (32, 32, 32, 32), 16),
}


@pytest.fixture
def narrow(monkeypatch):
    for name, layout in NARROW.items():
        monkeypatch.setitem(DEEP_SHUFFLENETS, name, layout)


def _theirs(layer, variable, value):
    """In torch's layout."""
    if variable.name != "kernel":
        return value
    if isinstance(layer, keras.layers.DepthwiseConv2D):
        return value.transpose(2, 3, 0, 1)
    return value.transpose(3, 2, 0, 1) if value.ndim == 4 else value.T


def _checkpoint(model, origin, prefix=""):
    """Random values under the origin's names, and what each of the layers should get of them."""
    rng, arrays, expected = np.random.default_rng(0), {}, {}
    for name, target in maps.layer_names(model, origin).items():
        layer = model.get_layer(name)
        theirs = target if isinstance(target, str) else target.name
        for variable in layer.weights:
            value = rng.uniform(0.5, 1.5, variable.shape).astype("float32")
            arrays[f"{prefix}{theirs}.{LEAVES[variable.name]}"] = _theirs(layer, variable, value)
            expected[f"{name}/{variable.name}"] = value
    arrays[f"{prefix}first_conv.1.num_batches_tracked"] = np.int64(3)
    return arrays, expected


def _assert_loaded(model, expected, prefix=""):
    for layer in model.layers:
        for variable in layer.weights:
            name = f"{layer.name.removeprefix(prefix)}/{variable.name}"
            np.testing.assert_array_equal(variable.numpy(), expected[name], err_msg=name)


def _named(target):
    return target if isinstance(target, str) else target.name


def test_names_of_megvii():
    model = tfseg.build("shufflenet_v2_x0_5", style="megvii")
    names = {ours: _named(theirs) for ours, theirs in maps.layer_names(model, "megvii").items()}
    by_hand = {
        "conv1.0": "first_conv.0",
        "conv1.1": "first_conv.1",
        "stage2.0.branch1.2": "features.0.branch_proj.2",
        "stage2.3.branch2.6": "features.3.branch_main.6",
        "stage3.0.branch1.0": "features.4.branch_proj.0",
        "stage3.7.branch2.3": "features.11.branch_main.3",
        "stage4.0.branch2.0": "features.12.branch_main.0",
        "stage4.3.branch2.5": "features.15.branch_main.5",
        "conv5.0": "conv_last.0",
        "conv5.1": "conv_last.1",
        "fc": "classifier.0",
    }
    assert {ours: names[ours] for ours in by_hand} == by_hand
    assert len(set(names.values())) == len(names)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_of_megvii(prefix):
    model = tfseg.build("shufflenet_v2_x0_5", 3, style="megvii")
    arrays, expected = _checkpoint(model, "megvii", prefix)
    assert guess_origin(arrays) == "megvii"
    load_weights(model, arrays)
    _assert_loaded(model, expected)


@pytest.mark.parametrize("prefix", ["", "module."])
def test_checkpoints_of_deep_networks(narrow, prefix):
    """Files list squeeze-and-excitation twice, and have the training's classifiers."""
    for layout, block, leaf in (
        ("shufflenet_v2_large", "features.0.2b", ""),
        ("shufflenet_v2_exlarge", "features.0.1", ".fc"),
    ):
        # Maps are made of the released layouts, of which the narrow ones have the first blocks.
        model = tfseg.build(layout, 3)
        arrays, expected = _checkpoint(model, "megvii", prefix)
        bias = arrays[f"{prefix}{block}.se_fc1{leaf}.bias"]
        arrays[f"{prefix}{block}.se_block.0{leaf}.bias"] = bias
        arrays[f"{prefix}predict_56.conv.0.conv.weight"] = bias
        load_weights(model, arrays)
        _assert_loaded(model, expected)
        del arrays[f"{prefix}{block}.se_fc1{leaf}.bias"]
        with pytest.raises(WeightsError, match="missing"):
            load_weights(model, arrays)


def _detector(layout, make, **options):
    """A network on the trunk, as far as the maps know."""
    image = keras.Input((None, None, 3))
    model = keras.Model(image, make(image, layout, prefix="backbone.", **options)["c5"])
    model.name = f"mask_rcnn_{layout}_fpn"
    preprocessing = registry.entry(layout).preprocess(registry.entry(layout).options())
    model.spec = registry.Spec(model.name, 3, options, preprocessing=preprocessing)
    return model


@pytest.mark.parametrize("style", ["megvii", "torchvision"])
def test_a_trunk_takes_a_classifiers_checkpoint(style):
    classifier = tfseg.build("shufflenet_v2_x0_5", 3, style=style)
    arrays, expected = _checkpoint(classifier, style)
    model = _detector("shufflenet_v2_x0_5", shufflenet_v2, style=style)
    load_weights(model, arrays, style, part="backbone")
    _assert_loaded(model, expected, "backbone.")


def test_a_deep_trunk_takes_a_classifiers_checkpoint(narrow):
    for layout in NARROW:
        arrays, expected = _checkpoint(tfseg.build(layout, 3), "megvii", "module.")
        model = _detector(layout, shufflenet_v2_deep)
        load_weights(model, arrays, part="backbone")
        _assert_loaded(model, expected, "backbone.")


def test_global_context_stays_at_zero():
    classifier = tfseg.build("shufflenet_v2_x0_5", 3)
    arrays, expected = _checkpoint(classifier, "torchvision")
    model = tfseg.build("shufflenet_v2_x0_5", 3, global_context=True)
    with pytest.raises(WeightsError, match=r"missing \(32\): stage2\.0\.context"):
        load_weights(model, arrays, "torchvision")
    load_weights(model, arrays, "torchvision", partial=True)
    for layer in model.layers:
        if layer.name.endswith(".context"):
            assert not np.any(layer.kernel)
            expected |= {f"{layer.name}/{v.name}": v.numpy() for v in layer.weights}
    _assert_loaded(model, expected)


def test_the_other_style_is_refused():
    model = tfseg.build("shufflenet_v2_x0_5", style="megvii")
    with pytest.raises(ValueError, match="build it with style='torchvision'"):
        maps.layer_names(model, "torchvision")
