"""What every registered network must do; of those that find objects see test_rcnn_contract.py."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfseg
from tfseg import registry

#: trainable parameters at the published number of classes
PARAMETERS = {
    "alexnet": 61_100_840,
    "deconvnet_vgg16": 251_805_653,
    "deeplab_aspp_resnet101": 43_943_188,
    "deeplab_aspp_vgg16": 37_877_652,
    "deeplab_largefov_vgg16": 20_505_429,
    "deeplab_msc_largefov_vgg16": 21_711_550,
    "deeplabv3_resnet101": 58_630_997,
    "deeplabv3_resnet50": 39_638_869,
    "dilated10_vgg16": 134_368_179,
    "dilated7_vgg16": 134_312_343,
    "dilated8_large_vgg16": 141_149_720,
    "dilated8_vgg16": 134_313_443,
    "dilated_vgg16": 134_346_581,
    "fcn16s_vgg16": 134_357_354,
    "fcn32s_alexnet": 56_954_261,
    "fcn32s_googlenet": 5_995_077,
    "fcn32s_vgg16": 134_346_581,
    "fcn8s_atonce_vgg16": 134_362_751,
    "fcn8s_vgg16": 134_362_751,
    "fcn_resnet101": 51_949_141,
    "fcn_resnet50": 32_957_013,
    "fusionnet": 62_804_545,
    "googlenet": 6_624_904,
    "mobilenet_v2": 3_504_872,
    "psp_mobilenet_v2": 3_395_221,
    "psp_resnet101": 65_708_501,
    "psp_resnet50": 46_782_550,
    "resnet101": 44_549_160,
    "resnet152": 60_192_808,
    "resnet50": 25_557_032,
    "resnext101_32x8d": 88_791_336,
    "resnext101_64x4d": 83_455_272,
    "resnext152_32x8d": 122_372_392,
    "resnext50_32x4d": 25_028_904,
    "semantic_fpn_resnet101": 47_369_974,
    "semantic_fpn_resnet50": 28_430_070,
    "semantic_fpn_resnext101_32x8d": 91_514_614,
    "semantic_fpn_resnext152_32x8d": 125_003_510,
    "shufflenet_v2_exlarge": 255_374_504,
    "shufflenet_v2_large": 125_120_936,
    "shufflenet_v2_x0_5": 1_366_792,
    "shufflenet_v2_x1_0": 2_278_604,
    "shufflenet_v2_x1_5": 3_503_624,
    "shufflenet_v2_x2_0": 7_393_996,
    "unet": 31_030_658,
    "unet_release": 31_100_354,
    "vgg16": 138_357_544,
    "vgg16_bn": 138_365_992,
}
#: cheap enough for the fast suite; the others run with the slow ones
SMALL = ("mobilenet_v2", "psp_mobilenet_v2", "shufflenet_v2_x0_5", "unet")
EACH = [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in PARAMETERS]
#: networks without a size rule of their own take any size
VALID_SIZES = {
    "deconvnet_vgg16": (225, 257),
    "dilated10_vgg16": (388, 404),
    "dilated7_vgg16": (388, 404),
    "dilated8_large_vgg16": (388, 404),
    "dilated8_vgg16": (388, 404),
    "dilated_vgg16": (388, 404),
    "unet": (188, 204),
    "unet_release": (188, 204),
}
#: what networks with a size rule make of those sizes
OUTPUT_SIZES = {
    "deconvnet_vgg16": (225, 257),
    "dilated10_vgg16": (16, 32),
    "dilated7_vgg16": (2, 4),
    "dilated8_large_vgg16": (2, 4),
    "dilated8_vgg16": (2, 4),
    "dilated_vgg16": (2, 4),
    "unet": (4, 20),
    "unet_release": (4, 20),
}


def _image(name, channels, seed=0):
    height, width = VALID_SIZES.get(name, (65, 97))
    shape = (2, height, width, channels)
    return np.random.default_rng(seed).normal(size=shape).astype("float32")


def test_every_network_is_pinned():
    detectors = {name for task in registry.DETECTION_TASKS for name in tfseg.list_models(task)}
    assert sorted({*PARAMETERS, *detectors}) == tfseg.list_models()


@pytest.mark.parametrize("name", EACH)
def test_network(name, tmp_path):
    keras.utils.set_random_seed(0)
    model = tfseg.build(name)
    assert sum(int(np.prod(v.shape)) for v in model.trainable_variables) == PARAMETERS[name]

    x = _image(name, model.input.shape[-1])
    out = model(x, training=False)
    classes = registry.entry(name).num_classes
    if registry.entry(name).task == "classification":
        assert out.shape == (2, classes)
    else:
        assert out.shape == (2, *OUTPUT_SIZES.get(name, (65, 97)), classes)

    # Classifiers that start at zero would let no gradient through.
    for v in model.trainable_variables:
        if v.name == "kernel" and not np.any(v):
            v.assign(0.01 * np.random.default_rng(1).normal(size=v.shape))
    with tf.GradientTape() as tape:
        # A random projection: a plain sum has no gradient through a last batch norm.
        y = model(x, training=True)
        loss = tf.reduce_sum(y * tf.random.stateless_normal(y.shape, (1, 2)))
    for v, g in zip(
        model.trainable_variables, tape.gradient(loss, model.trainable_variables), strict=True
    ):
        assert np.isfinite(g).all(), v.path
        assert np.abs(g).max() > 0, v.path

    path = tmp_path / "model.keras"
    expected = model(x, training=False)
    model.save(path)
    del model
    again = keras.models.load_model(path)(x, training=False)
    np.testing.assert_allclose(again, expected, atol=1e-5)
