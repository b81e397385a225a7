import keras
import pytest

import tfseg
from tfseg.complexity import activation_bytes, count_macs
from tfseg.layers.upsample import DepthwiseConv2DTranspose


def model_of(*layers, channels=3):
    image = x = keras.Input((None, None, channels))
    for layer in layers:
        x = layer(x)
    return keras.Model(image, x)


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (keras.layers.Conv2D(8, 3, padding="same"), 20 * 30 * 9 * 3 * 8),
        (keras.layers.Conv2D(8, 3), 18 * 28 * 9 * 3 * 8),
        (keras.layers.Conv2D(8, 3, strides=2, padding="same"), 10 * 15 * 9 * 3 * 8),
        (keras.layers.Conv2D(8, 3, dilation_rate=2, padding="same"), 20 * 30 * 9 * 3 * 8),
        (keras.layers.Conv2D(6, 3, groups=3, padding="same"), 20 * 30 * 9 * 1 * 6),
        (keras.layers.DepthwiseConv2D(5, padding="same"), 20 * 30 * 25 * 3),
        (keras.layers.Conv2DTranspose(8, 2, strides=2), 20 * 30 * 4 * 3 * 8),
        (DepthwiseConv2DTranspose(4, 2, padding=1), 20 * 30 * 16 * 3),
        (keras.layers.Dense(7), 20 * 30 * 3 * 7),
    ],
)
def test_macs_of_one_layer(layer, expected):
    assert count_macs(model_of(layer), 20, 30) == expected


def test_macs_of_a_shared_layer_count_at_each_use():
    conv = keras.layers.Conv2D(3, 3, padding="same")
    model = model_of(conv, keras.layers.MaxPool2D(), conv)
    assert count_macs(model, 8, 8) == (64 + 16) * 9 * 3 * 3


def test_macs_of_an_unknown_kernel_are_refused():
    model = model_of(keras.layers.SeparableConv2D(4, 3), keras.layers.Reshape((-1, 4)))
    model = keras.Model(model.input, keras.layers.Conv1D(2, 3)(model.output))
    with pytest.raises(ValueError, match="Conv1D"):
        count_macs(model, 8, 8)


@pytest.mark.parametrize(
    ("name", "classes", "size", "giga"),
    [
        ("deconvnet_vgg16", 21, 224, 32.75),
        ("deeplab_largefov_vgg16", 21, 321, 50.9),
        ("deeplab_largefov_vgg16", 21, 513, 128.6),
        ("fcn8s_vgg16", 21, 500, 181.5),
        ("fusionnet", 1, 640, 483.4),
        ("psp_resnet50", 150, 473, 161.5),
        ("psp_resnet101", 21, 473, 229.8),
        ("unet", 2, 572, 150.4),
    ],
)
def test_macs_of_published_networks(name, classes, size, giga):
    # Weights without values, which take no time.
    with keras.StatelessScope(initialize_variables=False):
        macs = count_macs(tfseg.build(name, classes), size, size)
    # most reference counts agree to their last digit, PSPNet101's are 0.15 % higher
    assert macs / 1e9 == pytest.approx(giga, rel=0.001)


def test_activations_are_the_outputs_of_all_calls():
    conv = keras.layers.Conv2D(3, 3, padding="same")
    model = model_of(conv, keras.layers.MaxPool2D(), conv, keras.layers.GlobalAveragePooling2D())
    # the image itself is not counted
    assert activation_bytes(model, 8, 10) == 4 * (80 * 3 + 20 * 3 + 20 * 3 + 3)
