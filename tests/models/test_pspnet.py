import keras
import numpy as np
import pytest

import tfseg


def _parameters(model):
    return sum(int(np.prod(v.shape)) for v in model.trainable_variables)


@pytest.mark.parametrize(
    ("name", "classes", "aux", "expected"),
    [
        ("psp_resnet101", 21, True, 68_073_706),
        ("psp_resnet101", 19, False, 65_707_475),
        ("psp_resnet101", 19, True, 68_072_166),
        ("psp_resnet50", 150, True, 49_180_908),
    ],
)
@pytest.mark.slow
def test_published_parameter_counts(name, classes, aux, expected):
    assert _parameters(tfseg.build(name, classes, aux_head=aux)) == expected


def test_sizes_at_the_papers_crop():
    model = tfseg.build("psp_mobilenet_v2", 3, aux_head=True, head_filters=8)
    out = model(np.zeros((1, 473, 473, 3), "float32"))
    assert out["logits"].shape == out["aux"].shape == (1, 473, 473, 3)
    inner = keras.Model(model.input, model.get_layer("ppm.concat").output)
    assert inner(np.zeros((1, 473, 473, 3), "float32")).shape[1:3] == (60, 60)


@pytest.mark.parametrize("style", ["keras", "torchvision"])
@pytest.mark.parametrize(("stride", "side"), [(8, 9), (16, 5), (32, 3)])
def test_output_stride(style, stride, side):
    model = tfseg.build("psp_mobilenet_v2", 2, style=style, output_stride=stride)
    inner = keras.Model(model.input, model.get_layer("ppm.concat").output)
    assert inner(np.zeros((1, 65, 65, 3), "float32")).shape[1:3] == (side, side)


def test_style_chooses_the_preprocessing():
    caffe = tfseg.build("psp_resnet50").spec.preprocessing
    torch = tfseg.build("psp_resnet50", style="torchvision").spec.preprocessing
    assert caffe.channels == "bgr"
    assert caffe.std == (1, 1, 1)
    assert torch.channels == "rgb"
    with pytest.raises(ValueError, match="'pytorch'"):
        tfseg.build("psp_resnet50", style="pytorch")


def test_frozen_backbone_keeps_its_statistics():
    model = tfseg.build("psp_mobilenet_v2", 2, backbone_norm="frozen_batch", head_filters=8)
    frozen = model.get_layer("backbone.features.0.1")
    trained = model.get_layer("head.bn")
    before = frozen.moving_mean.numpy(), trained.moving_mean.numpy()
    model(np.random.default_rng(0).normal(size=(2, 33, 33, 3)).astype("float32"), training=True)
    np.testing.assert_array_equal(frozen.moving_mean.numpy(), before[0])
    assert np.abs(trained.moving_mean.numpy() - before[1]).max() > 0


def test_bfloat16_logits_are_float32():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tfseg.build("psp_mobilenet_v2", 2, head_filters=8)
    finally:
        keras.config.set_dtype_policy("float32")
    assert model(np.zeros((1, 33, 33, 3), "float32")).dtype == "float32"
