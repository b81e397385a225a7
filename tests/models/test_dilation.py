import itertools

import keras
import numpy as np
import pytest

import tfseg
from tfseg.models.dilation import LARGE, BlockIdentity
from tfseg.weights import load_weights, maps

CONTEXTS = ("dilated7_vgg16", "dilated8_vgg16", "dilated8_large_vgg16", "dilated10_vgg16")


def narrow(name, classes=3, **options):
    return tfseg.build(name, classes, base_filters=2, fc_filters=4, **options)


def context(model):
    """The context module alone, scores to scores."""
    return keras.Model(model.get_layer("final").output, model.get_layer("ctx_final").output)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "classes", "expected"),
    [
        ("dilated_vgg16", 21, 134_346_581),
        ("dilated_vgg16", 19, 134_338_387),
        ("dilated_vgg16", 11, 134_305_611),
        ("dilated7_vgg16", 11, 134_312_343),
        ("dilated8_vgg16", 11, 134_313_443),
        ("dilated8_vgg16", 21, 134_346_581 + 28_392),
        ("dilated8_large_vgg16", 21, 141_149_720),
        ("dilated10_vgg16", 19, 134_373_043),
    ],
)
def test_released_parameter_counts(name, classes, expected):
    assert tfseg.build(name, classes).count_params() == expected


@pytest.mark.parametrize(
    ("name", "expected"), [("dilated8_vgg16", 28_392), ("dilated8_large_vgg16", 6_803_139)]
)
def test_parameters_of_table_1(name, expected):
    """Nine C x C + C for the 3x3 convolutions and one for the 1x1: 64 C^2 + 8 C."""
    layers = [layer for layer in narrow(name, 21).layers if layer.name.startswith("ctx_")]
    assert sum(layer.count_params() for layer in layers) == expected


@pytest.mark.parametrize(
    ("sides", "expected"),
    [
        ((500, 900), (16, 66)),  # VOC's crop and input
        ((852, 1640), (60, 159)),  # KITTI's input: 158.5, rounded up by the third pool
        ((380, 372 + 8 * 64), (1, 64)),
    ],
)
def test_sizes(sides, expected):
    model = narrow("dilated_vgg16")
    assert model.compute_output_shape((1, *sides, 3)) == (1, *expected, 3)


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("dilated7_vgg16", 35),
        ("dilated8_vgg16", 67),
        ("dilated8_large_vgg16", 67),
        ("dilated10_vgg16", 67 + 2 * (32 + 64)),
    ],
)
def test_receptive_fields_of_table_1(name, field):
    module = context(narrow(name, 2))
    for layer in module.layers:
        if layer.weights:
            layer.kernel.assign(np.full(layer.kernel.shape, 0.01))
    side = field + 6
    x = np.zeros((1, side, side, 2), "float32")
    x[0, side // 2, side // 2] = 1
    y = np.asarray(module(x))[0, ..., 0]
    assert y.shape == (side, side)
    # Dilations up to half the field leave no gaps.
    assert (y[3:-3, 3:-3] > 0).all()
    assert y.sum() == pytest.approx(y[3:-3, 3:-3].sum())


def test_the_large_module_pads_once_and_the_basic_one_everywhere():
    """The releases differ: per-layer zeros would replace what earlier layers made of the pad."""
    basic, large = narrow("dilated8_vgg16"), narrow("dilated8_large_vgg16")
    pads = {layer.name: layer.padding for layer in large.layers if layer.name.endswith(".pad")}
    assert pads == {"ctx_conv1_1.pad": ((33, 33), (33, 33))}
    assert large.get_layer("ctx_fc1").padding == "valid"
    assert not [layer for layer in basic.layers if layer.name.endswith(".pad")]
    assert basic.get_layer("ctx_conv5_1").padding == "same"


def test_block_identity_by_hand():
    kernel = np.asarray(BlockIdentity(2, std=0.0)((3, 3, 4, 8), "float32"))
    # two blocks: inputs 0, 1 go to outputs 0-3, inputs 2, 3 to 4-7, each times 2 / 8
    centre = np.kron(np.eye(2), np.full((2, 4), 0.25))
    np.testing.assert_array_equal(kernel[1, 1], centre)
    assert np.count_nonzero(kernel) == np.count_nonzero(centre)


def test_block_identities_of_the_large_module_are_the_identity():
    widths = [3, *(3 * multiple for multiple in LARGE), 3]
    total = np.eye(3)
    for into, out in itertools.pairwise(widths):
        total = total @ np.asarray(BlockIdentity(3, std=0.0)((1, 1, into, out)))[0, 0]
    np.testing.assert_allclose(total, np.eye(3), atol=1e-6)


def test_noise_of_block_identities():
    basic = np.asarray(BlockIdentity(40, seed=0)((3, 3, 40, 40)))
    np.testing.assert_array_equal(np.diag(basic[1, 1]), np.ones(40))
    others = basic[basic != 1]
    assert others.std() == pytest.approx(0.01, rel=0.03)
    assert abs(others.mean()) < 2e-4
    # the last layer of the large module: 32 C channels to C
    last = np.asarray(BlockIdentity(10, seed=0)((1, 1, 320, 10)))[0, 0]
    assert last[last < 0.5].std() == pytest.approx(0.01 / 32, rel=0.05)
    assert np.count_nonzero(last == 1) == 320


def test_block_identity_refuses_other_shapes():
    for shape in ((3, 3, 4, 6), (2, 2, 4, 4)):
        with pytest.raises(ValueError, match="blocks of channels"):
            BlockIdentity(4)(shape)


@pytest.mark.parametrize("name", CONTEXTS)
def test_identity_initialisation_passes_on_what_is_not_negative(name):
    keras.utils.set_random_seed(0)
    module = context(narrow(name, 5))
    x = np.random.default_rng(0).uniform(0, 1, (1, 20, 24, 5)).astype("float32")
    x[0, 4, 4] = -1
    y = np.asarray(module(x))
    inside = np.maximum(x, 0)
    # noise of 0.01 over 45 inputs of about 0.6, seven times or more
    assert np.abs(y - inside).mean() < 0.2
    assert np.corrcoef(y.ravel(), inside.ravel())[0, 1] > 0.9
    assert y[0, 4, 4].max() < 0.5


@pytest.mark.parametrize("name", CONTEXTS)
def test_random_initialisation_does_not(name):
    keras.utils.set_random_seed(0)
    module = context(narrow(name, 5, context_init="random"))
    x = np.random.default_rng(0).uniform(0, 1, (1, 20, 24, 5)).astype("float32")
    assert abs(np.corrcoef(np.asarray(module(x)).ravel(), x.ravel())[0, 1]) < 0.5
    kernel = module.get_layer("ctx_fc1").kernel.numpy()
    limit = np.sqrt(6 / (9 * sum(kernel.shape[2:])))
    assert 0.9 * limit < np.abs(kernel).max() <= limit


def test_a_front_end_goes_on_under_a_context_module():
    keras.utils.set_random_seed(0)
    front, joint = narrow("dilated_vgg16"), narrow("dilated10_vgg16", dropout=0.0)
    arrays = {f"{x.name}/{w.name}": w.numpy() for x in front.layers for w in x.weights}
    before = joint.get_layer("ctx_fc1").get_weights()[0]
    load_weights(joint, arrays, "tfseg", partial=True)
    x = np.random.default_rng(0).normal(size=(1, 380, 388, 3), scale=50).astype("float32")
    scores = keras.Model(joint.input, joint.get_layer("final").output)
    np.testing.assert_array_equal(scores(x), front(x))
    np.testing.assert_array_equal(joint.get_layer("ctx_fc1").get_weights()[0], before)
    assert joint.get_layer("backbone.drop6").rate == 0


def test_the_upsampling_is_bilinear_and_frozen():
    model = narrow("dilated10_vgg16")
    layer = model.get_layer("ctx_upsample")
    assert not layer.trainable_weights
    x = np.random.default_rng(0).normal(size=(1, 5, 6, 3)).astype("float32")
    expected = keras.ops.image.resize(x, (40, 48), interpolation="bilinear")
    # Inside, half-pixel bilinear interpolation; the border fades to the zeros beyond it.
    np.testing.assert_allclose(layer(x)[:, 4:-4, 4:-4], expected[:, 4:-4, 4:-4], atol=1e-5)


def test_released_names():
    large = maps.layer_names(narrow("dilated8_large_vgg16"), "caffe")
    assert large["backbone.features.28"] == "conv5_3"
    assert large["backbone.fc6"] == "fc6"
    assert large["final"] == "fc-final"
    assert large["ctx_conv1_2"] == "ct_conv1_2"
    assert large["ctx_final"] == "ct_final"
    basic = maps.layer_names(narrow("dilated8_vgg16"), "caffe")
    assert basic["final"] == "final"
    assert basic["ctx_conv5_1"] == "ctx_conv5_1"
    trunk, _ = maps.backbone_layer_names(narrow("dilated_vgg16"), "caffe")
    assert {"backbone.fc6", "backbone.fc7"} < trunk.keys()
    assert "final" not in trunk


@pytest.mark.parametrize(
    ("name", "options", "mean"),
    [
        ("dilated_vgg16", {}, (102.93, 111.36, 116.52)),
        ("dilated8_large_vgg16", {}, (102.93, 111.36, 116.52)),
        ("dilated8_vgg16", {}, (110.70313206, 108.77808759, 105.41212523)),
        ("dilated8_vgg16", {"mean": "voc2012"}, (102.93, 111.36, 116.52)),
        ("dilated7_vgg16", {}, (96.19429688, 95.55136972, 91.34692262)),
        ("dilated10_vgg16", {}, (72.39, 82.91, 73.16)),
    ],
)
def test_means_of_the_releases(name, options, mean):
    preprocessing = narrow(name, **options).spec.preprocessing
    assert (preprocessing.channels, preprocessing.mean) == ("bgr", mean)


@pytest.mark.parametrize("options", [{"mean": "coco"}, {"context_init": "xavier"}])
def test_bad_options(options):
    with pytest.raises(ValueError, match=str(next(iter(options.values())))):
        narrow("dilated8_vgg16", **options)
