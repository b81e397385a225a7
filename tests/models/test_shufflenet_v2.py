import keras
import numpy as np
import pytest

import tfseg
from tfseg.backbones import DEEP_SHUFFLENETS, SHUFFLENETS, shufflenet_v2, shufflenet_v2_deep
from tfseg.backbones.shufflenet_v2 import shuffled_halves
from tfseg.backbones.shufflenet_v2_large import DeepLayout
from tfseg.layers.context import add_global_context
from tfseg.registry import Preprocessing

LAYOUTS = sorted(SHUFFLENETS)
LEVELS = ("c2", "c3", "c4", "c5")
#: as Large and ExLarge, of fewer blocks and channels
NARROW = {
    "shufflenet_v2_large": DeepLayout((4, 4, 8), (2, 1, 2, 2), (32, 32, 64, 64), 8, 1e-9, 24),
    "shufflenet_v2_exlarge": DeepLayout((4, 4, 8), (2, 1, 2, 2), (32, 32, 64, 64), 16),
}


@pytest.fixture
def narrow(monkeypatch):
    for name, layout in NARROW.items():
        monkeypatch.setitem(DEEP_SHUFFLENETS, name, layout)


def _without_weights(name, **options):
    with keras.StatelessScope(initialize_variables=False):
        return tfseg.build(name, **options)


def _parameters(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


def _trunk(layout, level=None, **options):
    """A trunk of randomised norms, so that every one of them counts."""
    keras.utils.set_random_seed(0)
    image = keras.Input((None, None, 3))
    make = shufflenet_v2 if layout in SHUFFLENETS else shufflenet_v2_deep
    features = make(image, layout, **options)
    model = keras.Model(image, features if level is None else features[level])
    rng = np.random.default_rng(0)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            shape = layer.gamma.shape
            layer.set_weights(
                [
                    rng.uniform(0.5, 1.5, shape),
                    0.1 * rng.normal(size=shape),
                    0.1 * rng.normal(size=shape),
                    rng.uniform(0.5, 1.5, shape),
                ]
            )
    return model


def _image(height=65, width=97, batch=1):
    rng = np.random.default_rng(1)
    return rng.normal(size=(batch, height, width, 3)).astype("float32")


@pytest.mark.parametrize(
    ("layout", "whole", "trunk"),
    zip(
        LAYOUTS,
        (1_365_792, 2_278_760, 3_506_720, 7_402_600),
        (143_136, 777_576, 1_759_776, 3_351_656),
        strict=True,
    ),
)
def test_parameters_of_megviis_networks(layout, whole, trunk):
    """As the released code has them; the trunk is without the last convolution."""
    assert _parameters(_without_weights(layout, style="megvii")) == whole
    assert _parameters(_trunk(layout, "c5", style="megvii")) == trunk


def test_parameters_of_exlarge():
    """The released README counts 254.7 M: kernels and biases, without what the norms learn."""
    model = _without_weights("shufflenet_v2_exlarge")
    names = {v.name: 0 for v in model.weights}
    for v in model.weights:
        names[v.name] += int(np.prod(v.shape))
    assert names["kernel"] + names["bias"] == 254_767_848
    assert names["gamma"] + names["beta"] == 606_656
    assert names["moving_mean"] + names["moving_variance"] == 606_656


@pytest.mark.parametrize("style", ["megvii", "torchvision"])
def test_levels(style):
    features = _trunk("shufflenet_v2_x1_0", style=style)(_image())
    assert features["last"].shape == (1, 3, 4, 1024)
    # 65 x 97 halves, rounding up, once for the stem and once a level.
    assert [tuple(features[level].shape) for level in LEVELS] == [
        (1, 17, 25, 24),
        (1, 9, 13, 116),
        (1, 5, 7, 232),
        (1, 3, 4, 464),
    ]


def test_levels_of_deep_networks(narrow):
    for layout, net in NARROW.items():
        features = _trunk(layout)(_image())
        sizes = [(17, 25), (9, 13), (5, 7), (3, 4)]
        for level, size, channels in zip(LEVELS, sizes, net.channels, strict=True):
            assert features[level].shape == (1, *size, channels), (layout, level)
        assert ("last" in features) == (net.last is not None)


def test_a_block_of_megvii_starts_with_the_even_channels():
    image = keras.Input((None, None, 8))
    model = keras.Model(image, shuffled_halves(image, "block"))
    x = np.arange(2 * 3 * 5 * 8, dtype="float32").reshape(2, 3, 5, 8)
    even, odd = model(x)
    np.testing.assert_array_equal(even, x[..., ::2])
    np.testing.assert_array_equal(odd, x[..., 1::2])


@pytest.mark.parametrize("style", ["megvii", "torchvision"])
def test_a_block_passes_half_of_the_channels_on(style):
    trunk = _trunk("shufflenet_v2_x0_5", "c3", style=style)
    last = "shuffle" if style == "torchvision" else "concat"
    names = [f"stage2.2.{last}", f"stage2.3.{last}"]
    taps = keras.Model(trunk.input, [trunk.get_layer(name).output for name in names])
    before, after = (keras.ops.convert_to_numpy(x) for x in taps(_image()))
    if style == "torchvision":  # the first half comes out dealt among the others
        np.testing.assert_array_equal(after[..., ::2], before[..., :24])
    else:  # the even channels come out first
        np.testing.assert_array_equal(after[..., :24], before[..., ::2])


def _relu(x):
    return np.maximum(x, 0)


@pytest.mark.parametrize(
    ("layout", "block", "first", "main", "leaf", "out", "projection", "after"),
    [
        ("exlarge", "0.1", "1.0", "3", ".fc", "concat", "relu", np.asarray),
        ("large", "0.2b", "1.3a", "2", "", "relu", "bn", _relu),
    ],
)
def test_blocks_of_deep_networks(narrow, layout, block, first, main, leaf, out, projection, after):
    """The residual is inside: a block adds what it computes to the odd channels.

    Large has a ReLU behind all channels, ExLarge behind the sum alone.
    """
    trunk = _trunk(f"shufflenet_v2_{layout}", "c3")
    before = f"features.0.{'0' if layout == 'exlarge' else '2a'}.{out}"
    names = {"input": before, "kept": f"features.{first}.proj.{projection}"}
    for key, name in (("", f"features.{block}"), ("first ", f"features.{first}")):
        names[f"{key}main"] = f"{name}.branch_main.{main}.bn"
        names[f"{key}gate"] = f"{name}.se_fc2{leaf}"
        names[f"{key}output"] = f"{name}.{out}"
    outputs = {key: trunk.get_layer(name).output for key, name in names.items()}
    tapped = keras.Model(trunk.input, outputs)(_image())
    v = {key: keras.ops.convert_to_numpy(value) for key, value in tapped.items()}
    half = v["output"].shape[-1] // 2
    np.testing.assert_array_equal(v["output"][..., :half], v["input"][..., ::2])
    computed = _relu(v["input"][..., 1::2] + v["main"] * v["gate"])
    np.testing.assert_allclose(v["output"][..., half:], computed, atol=1e-5)
    # A stage's first block keeps a convolution, and has no residual.
    np.testing.assert_array_equal(v["first output"][..., :half], after(v["kept"]))
    computed = after(v["first main"] * v["first gate"])
    np.testing.assert_allclose(v["first output"][..., half:], computed, atol=1e-5)


def test_where_large_convolves_behind_its_blocks(narrow):
    names = [layer.name for layer in _trunk("shufflenet_v2_large").layers]
    downs = [name for name in names if name.endswith(".down.conv")]
    assert downs == [f"features.{n}.{n + 2}a.down.conv" for n in (1, 2, 3)]


@pytest.mark.parametrize("style", ["megvii", "torchvision"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_a_dilated_trunk_has_the_strided_ones_values(style, output_stride):
    """The same weights see the same pixels: the strided map is a lattice of the dilated one."""
    x, options = _image(), {"layout": "shufflenet_v2_x0_5", "level": "c5", "style": style}
    strided, dilated = _trunk(**options), _trunk(**options, output_stride=output_stride)
    dilated.set_weights(strided.get_weights())
    step = 32 // output_stride
    expected, found = (keras.ops.convert_to_numpy(model(x)) for model in (strided, dilated))
    assert found.shape[1:3] == (-(-65 // output_stride), -(-97 // output_stride))
    np.testing.assert_allclose(found[:, ::step, ::step], expected, atol=1e-4)


def _still(model):
    """Without squeeze-and-excitation, whose averages are over other pixels in a dilated trunk."""
    for layer in model.layers:
        if ".se_fc2" in layer.name:
            layer.set_weights([np.zeros_like(w) for w in layer.get_weights()])
    return model


@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilated_deep_trunks(narrow, output_stride):
    x, step = _image(), 32 // output_stride
    for layout, level in (("shufflenet_v2_large", "last"), ("shufflenet_v2_exlarge", "c5")):
        strided = _still(_trunk(layout, level))
        dilated = _trunk(layout, level, output_stride=output_stride)
        dilated.set_weights(strided.get_weights())
        expected, found = strided(x), dilated(x)[:, ::step, ::step]
        np.testing.assert_allclose(found, expected, atol=1e-4, err_msg=layout)


def test_global_context_is_the_pooled_term():
    image = keras.Input((None, None, 3))
    model = keras.Model(image, add_global_context(image, "block"))
    x = np.random.default_rng(0).normal(size=(2, 5, 7, 3)).astype("float32")
    np.testing.assert_array_equal(model(x), x)  # from its start
    kernel, bias = np.float32([[1, 2, 0], [0, -1, 0], [3, 0, 0]]), np.float32([0, 0.5, -1])
    model.get_layer("block.context").set_weights([kernel[None, None], bias])
    expected = x + (x.mean((1, 2)) @ kernel + bias)[:, None, None]
    np.testing.assert_allclose(model(x), expected, atol=1e-5)


@pytest.mark.parametrize("style", ["megvii", "torchvision"])
def test_global_context_in_every_block(style):
    plain, context = (
        _trunk("shufflenet_v2_x0_5", "c5", style=style, global_context=value)
        for value in (False, True)
    )
    added = [layer for layer in context.layers if layer.name.endswith(".context")]
    assert len(added) == 4 + 8 + 4
    for layer in plain.layers:
        if layer.weights:
            context.get_layer(layer.name).set_weights(layer.get_weights())
    x = _image(63, 70)
    np.testing.assert_array_equal(context(x), plain(x))
    added[0].bias.assign(np.ones(added[0].filters))
    assert not np.allclose(context(x), plain(x))


def test_global_context_in_deep_networks(narrow):
    for layout, net in NARROW.items():
        model = _trunk(layout, "c5", global_context=True)
        added = [layer for layer in model.layers if layer.name.endswith(".context")]
        assert len(added) == sum(net.blocks)


@pytest.mark.parametrize("size", [(33, 65), (50, 71), (1, 1)])
@pytest.mark.parametrize("style", ["megvii", "torchvision"])
def test_any_size(style, size):
    model = tfseg.build("shufflenet_v2_x0_5", 5, style=style, global_context=True)
    assert model(_image(*size)).shape == (1, 5)


def test_initialisation():
    """torch's own is uniform within fan-in ** -0.5, Megvii's gaussian of deviation 1 / inputs."""
    keras.utils.set_random_seed(0)
    for style, deviation, pointwise, offset in (
        ("torchvision", 1 / 3 / 3**0.5, 1 / (3 * 488) ** 0.5, 0.0),
        ("megvii", 1.0, 1 / 488, 1e-4),
    ):
        model = tfseg.build("shufflenet_v2_x2_0", 10, style=style)
        depthwise = np.concatenate(
            [model.get_layer(f"stage4.{n}.branch2.3").kernel.numpy().ravel() for n in range(4)]
        )
        assert depthwise.std() == pytest.approx(deviation, rel=0.05)
        kernel = model.get_layer("stage4.1.branch2.5").kernel.numpy()
        assert kernel.std() == pytest.approx(pointwise, rel=0.05)
        np.testing.assert_allclose(model.get_layer("conv5.1").beta.numpy(), offset)


def test_norms_of_deep_networks(narrow):
    """Large's epsilon is 1e-9."""
    for layout, epsilon in (("shufflenet_v2_large", 1e-9), ("shufflenet_v2_exlarge", 1e-5)):
        norm = tfseg.build(layout, 3, norm="frozen_batch").get_layer("first_conv.0.bn")
        assert norm.epsilon == epsilon
        assert not norm.trainable


def test_preprocessing_is_the_styles():
    build = tfseg.build
    raw = Preprocessing("bgr", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))
    assert build("shufflenet_v2_x0_5", style="megvii").spec.preprocessing == raw
    assert build("shufflenet_v2_x0_5").spec.preprocessing.channels == "rgb"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "shufflenet_v2_x3_0"}, "layout must be one of"),
        ({"layout": "shufflenet_v2_x1_0", "style": "caffe"}, "style must be one of"),
        ({"layout": "shufflenet_v2_x1_0", "output_stride": 4}, "output_stride must be 8, 16"),
    ],
)
def test_what_there_is_not(options, message):
    with pytest.raises(ValueError, match=message):
        shufflenet_v2(keras.Input((None, None, 3)), **options)
    del options["layout"]
    with pytest.raises(ValueError, match="layout must be one of"):
        shufflenet_v2_deep(keras.Input((None, None, 3)), "shufflenet_v2_x1_0")
