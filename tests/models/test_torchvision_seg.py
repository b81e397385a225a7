import numpy as np
import pytest

import tfseg


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("fcn_resnet50", 35_322_218),
        ("fcn_resnet101", 54_314_346),
        ("deeplabv3_resnet50", 42_004_074),
        ("deeplabv3_resnet101", 60_996_202),
    ],
)
@pytest.mark.slow
def test_published_parameter_counts(name, expected):
    model = tfseg.build(name, aux_head=True)
    assert sum(int(np.prod(w.shape)) for w in model.trainable_variables) == expected


@pytest.mark.slow
def test_the_auxiliary_head_is_an_output():
    model = tfseg.build("fcn_resnet50", 3, aux_head=True)
    out = model(np.zeros((1, 65, 97, 3), "float32"))
    assert {name: tuple(x.shape) for name, x in out.items()} == {
        "logits": (1, 65, 97, 3),
        "aux": (1, 65, 97, 3),
    }
    assert model.get_layer("aux_classifier.0").input.shape[-1] == 1024
    assert model.get_layer("backbone.layer3.0.conv2").dilation_rate == (1, 1)
    assert model.get_layer("backbone.layer4.1.conv2").dilation_rate == (4, 4)
