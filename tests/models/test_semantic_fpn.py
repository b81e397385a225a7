import keras
import numpy as np
import pytest

import tfseg
from tfseg.layers.fpn import feature_pyramid
from tfseg.layers.resize import Enlarge
from tfseg.predict import Predictor


def _count(model):
    """Parameters with norms' scales and offsets, without their statistics."""
    weights = [v for layer in model.layers for v in layer.weights if "moving" not in v.path]
    return sum(int(np.prod(v.shape)) for v in weights)


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    return tfseg.build("semantic_fpn_resnet50", 7)


def test_counts(model):
    # detectron2's 54 classes give 28,483,190, 129 for each class
    assert _count(model) == 28_483_190 - 129 * (54 - 7)


@pytest.mark.slow
def test_the_winners_count():
    model = tfseg.build("semantic_fpn_resnext152_32x8d", 92)
    assert _count(model) == 125_006_620 + 296_832


def test_any_size_is_padded_with_the_mean_to_strides_of_32(model):
    x = np.random.default_rng(0).normal(size=(1, 65, 97, 3)).astype("float32")
    padded = np.pad(x, ((0, 0), (0, 31), (0, 31), (0, 0)))
    np.testing.assert_allclose(model(x), model(padded)[:, :65, :97], atol=1e-5)
    assert model.compute_output_shape((2, 65, 97, 3)) == (2, 65, 97, 7)


def test_predicts_images_of_any_size_in_one_graph(model):
    predictor = Predictor(model, model.spec.preprocessing)
    for size in ((65, 97), (40, 33)):
        x = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
        logits = model(predictor.network.prepare(x[None]), training=False)
        expected = keras.ops.softmax(logits)[0]
        np.testing.assert_allclose(predictor(x), expected, atol=1e-5)


def test_levels_reach_stride_4_by_their_number_of_doublings(model):
    names = [layer.name for layer in model.layers]
    for level, convolutions in ((2, 1), (3, 1), (4, 2), (5, 3)):
        found = [n for n in names if n.startswith(f"sem_seg_head.p{level}.")]
        assert len([n for n in found if n.endswith(".norm")]) == convolutions
        ups = [n for n in found if isinstance(model.get_layer(n), Enlarge)]
        assert len(ups) == level - 2


def test_without_norms_the_convolutions_have_biases():
    model = tfseg.build("semantic_fpn_resnet50", 3, head_norm="none", filters=8)
    assert model.get_layer("sem_seg_head.p5.4").use_bias
    assert "sem_seg_head.p5.4.norm" not in [layer.name for layer in model.layers]
    with pytest.raises(ValueError, match="head_norm must be"):
        tfseg.build("semantic_fpn_resnet50", 3, head_norm="batch")


def test_the_pyramid_by_hand():
    """Identity convolutions: a level is its map plus the repeated level above."""
    sides = {"c2": 8, "c3": 4, "c4": 2, "c5": 1}
    inputs = {n: keras.Input((side, side, 1), name=n) for n, side in sides.items()}
    pyramid = keras.Model(inputs, feature_pyramid(inputs, 1))
    for layer in pyramid.layers:
        if isinstance(layer, keras.layers.Conv2D):
            kernel = np.zeros(layer.kernel.shape)
            kernel[kernel.shape[0] // 2, kernel.shape[1] // 2] = 1
            layer.set_weights([kernel, np.zeros(1)])
    rng = np.random.default_rng(0)
    maps = {n: rng.normal(size=(1, s, s, 1)).astype("float32") for n, s in sides.items()}
    found = pyramid(maps)
    above = maps["c5"]
    np.testing.assert_allclose(found["p5"], above, rtol=1e-6)
    for name in ("4", "3", "2"):
        above = maps[f"c{name}"] + above.repeat(2, 1).repeat(2, 2)
        np.testing.assert_allclose(found[f"p{name}"], above, rtol=1e-6)
