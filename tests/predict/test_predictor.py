import keras
import numpy as np
import pytest
from scipy.special import softmax

import tfseg
from tfseg.predict import Predictor
from tfseg.registry import Preprocessing

RGB = Preprocessing("rgb", (120.0, 110.0, 100.0), (60.0, 50.0, 40.0))
GRAY = Preprocessing("gray", (127.5,), (255.0,))


def image(height, width, channels=3, seed=0):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, channels), dtype=np.uint8)


def randomize(model, seed=0, scale=0.6):
    rng = np.random.default_rng(seed)
    model.set_weights([rng.normal(size=w.shape, scale=scale) for w in model.get_weights()])
    return model


def pointwise(classes=3):
    """Logits of a pixel from that pixel alone: windows and whole images agree."""
    x = keras.Input((None, None, 3))
    return randomize(keras.Model(x, keras.layers.Conv2D(classes, 1)(x)))


def contextual(classes=3):
    """Logits that depend on neighbours, left and right not alike, as a dict with an aux head."""
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(classes, 3, padding="same", name="logits")(x)
    return randomize(keras.Model(x, {"logits": y, "aux": keras.layers.Conv2D(classes, 1)(x)}))


def lossy(pool=True):
    """Valid convolutions around a pooling: a side of n gives n - 12 where n is even."""
    x = keras.Input((None, None, 1))
    y = keras.layers.Conv2D(4, 3, activation="relu")(x)
    if pool:
        y = keras.layers.MaxPooling2D(2)(y)
        y = keras.layers.Conv2D(4, 3, activation="relu")(y)
        y = keras.layers.Conv2DTranspose(4, 2, strides=2)(y)
        y = keras.layers.Conv2D(4, 3, activation="relu")(y)
    y = keras.layers.Conv2D(2, 5)(y)
    return randomize(keras.Model(x, y), scale=0.3)


def prepared(picture):
    return (picture.astype(np.float64) - RGB.mean) / RGB.std


def contextual_logits(model, x):
    """The 3x3 convolution of `contextual` in NumPy: x (H, W, 3) with zeros around it."""
    kernel, bias = model.get_layer("logits").get_weights()
    height, width = x.shape[:2]
    x = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    return bias + sum(
        x[dy : dy + height, dx : dx + width] @ kernel[dy, dx].astype(np.float64)
        for dy in range(3)
        for dx in range(3)
    )


def test_whole_is_softmax_of_the_preprocessed_image():
    model = contextual()
    result = Predictor(model, RGB)(image(13, 22))
    expected = softmax(contextual_logits(model, prepared(image(13, 22))), axis=-1)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected, atol=1e-5)


def test_sizes_and_batches_share_one_trace():
    predictor = Predictor(contextual(), RGB)
    for size in ((8, 9), (10, 31), (64, 5)):
        assert predictor(image(*size)).shape == (*size, 3)
    assert predictor.network.forward.experimental_get_tracing_count() == 1


def test_gray_image_on_a_colour_network():
    predictor = Predictor(pointwise(), RGB)
    gray = image(6, 7, channels=1)
    np.testing.assert_allclose(predictor(gray), predictor(np.repeat(gray, 3, 2)), atol=1e-6)


def test_predicts_the_weights_of_the_moment():
    model = pointwise()
    predictor = Predictor(model, RGB)
    before = predictor(image(4, 5))
    randomize(model, seed=1)
    np.testing.assert_allclose(predictor(image(4, 5)), Predictor(model, RGB)(image(4, 5)))
    assert np.abs(predictor(image(4, 5)) - before).max() > 0.1


def test_batch_norm_and_dropout_are_in_inference_mode():
    x = keras.Input((None, None, 3))
    y = keras.layers.Dropout(0.9)(keras.layers.BatchNormalization(epsilon=0)(x))
    model = keras.Model(x, y)
    model.layers[1].set_weights([np.ones(3), np.zeros(3), np.full(3, 2.0), np.full(3, 4.0)])
    result = Predictor(model, RGB)(image(5, 5))
    np.testing.assert_allclose(result, softmax((prepared(image(5, 5)) - 2) / 2, -1), atol=1e-5)


def test_float16_model_gives_float32_probabilities():
    x = keras.Input((None, None, 3))
    y = keras.layers.Conv2D(2, 1, dtype="mixed_float16")(x)
    result = Predictor(keras.Model(x, y), RGB)(image(5, 6))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result.sum(-1), 1, atol=1e-6)


@pytest.mark.parametrize("size", [(21, 33), (9, 30), (5, 6)])
@pytest.mark.parametrize("batch_size", [1, 4])
def test_sliding_of_a_pointwise_model_is_whole(size, batch_size):
    model = pointwise()
    sliding = Predictor(model, RGB, mode="sliding", crop_size=(9, 12), batch_size=batch_size)
    whole = Predictor(model, RGB)
    np.testing.assert_allclose(sliding(image(*size)), whole(image(*size)), atol=1e-6)


@pytest.mark.parametrize("size", [(21, 33), (7, 30), (5, 6)])
@pytest.mark.parametrize("flip", [False, True])
def test_sliding_is_the_released_procedure(size, flip):
    """caffe_process.m and scale_process.m in NumPy: pad, add logits, softmax, add, divide."""
    crop, step = 9, 6
    model = contextual()
    predictor = Predictor(model, RGB, mode="sliding", crop_size=(9, 9), flip=flip, batch_size=3)

    x = prepared(image(*size))
    height, width = max(size[0], crop), max(size[1], crop)
    x = np.pad(x, ((0, height - size[0]), (0, width - size[1]), (0, 0)))
    total, count = np.zeros((height, width, 3)), np.zeros((height, width, 1))
    for row in range(-(-(height - crop) // step) + 1):
        for column in range(-(-(width - crop) // step) + 1):
            y, left = min(row * step, height - crop), min(column * step, width - crop)
            window = x[y : y + crop, left : left + crop]
            logits = contextual_logits(model, window)
            if flip:
                logits = logits + contextual_logits(model, window[:, ::-1])[:, ::-1]
            total[y : y + crop, left : left + crop] += softmax(logits, axis=-1)
            count[y : y + crop, left : left + crop] += 1
    expected = (total / count)[: size[0], : size[1]]
    np.testing.assert_allclose(predictor(image(*size)), expected, atol=1e-5)


def test_base_size_scales_average():
    model = pointwise()
    picture = np.full((10, 20, 3), 77, np.uint8)
    seen = []
    predictor = Predictor(
        model, RGB, mode="sliding", crop_size=(16, 16), base_size=32, scales=(0.5, 1.0)
    )
    result = predictor(picture, lambda done, total: seen.append((done, total)))
    np.testing.assert_allclose(result, Predictor(model, RGB)(picture), atol=1e-5)
    # long sides 17 and 33, short 9 and 17; step 11: 2 windows, then 2 x 3
    assert seen == [(n, 8) for n in range(1, 9)]


def test_scales_average_the_resized_predictions():
    model = contextual()
    picture = image(12, 18)
    half = Predictor(model, RGB, scales=(0.5,))(picture)
    double = Predictor(model, RGB, scales=(2.0,))(picture)
    both = Predictor(model, RGB, scales=(0.5, 2.0))(picture)
    np.testing.assert_allclose(both, (half + double) / 2, atol=1e-6)
    assert np.abs(half - double).max() > 0.05


def test_flip_of_whole_images_averages_probabilities():
    model = contextual()
    x = prepared(image(7, 10))
    straight = softmax(contextual_logits(model, x), axis=-1)
    mirrored = softmax(contextual_logits(model, x[:, ::-1]), axis=-1)[:, ::-1]
    result = Predictor(model, RGB, flip=True)(image(7, 10))
    np.testing.assert_allclose(result, (straight + mirrored) / 2, atol=1e-5)


def test_rotations_average_eight_orientations():
    model = contextual()
    x = prepared(image(6, 9))
    total = 0
    for transpose in (False, True):
        for up in (1, -1):
            for left in (1, -1):
                view = x[::up, ::left]
                view = view.transpose(1, 0, 2) if transpose else view
                p = softmax(contextual_logits(model, view), axis=-1)
                p = p.transpose(1, 0, 2) if transpose else p
                total = total + p[::up, ::left]
    result = Predictor(model, RGB, rotations=True)(image(6, 9))
    np.testing.assert_allclose(result, total / 8, atol=1e-5)


@pytest.mark.parametrize("mode", [{}, {"mode": "sliding", "crop_size": (8, 11)}])
def test_rotations_of_an_equivariant_model_are_plain(mode):
    result = Predictor(pointwise(), RGB, rotations=True, **mode)(image(9, 14))
    np.testing.assert_allclose(result, Predictor(pointwise(), RGB)(image(9, 14)), atol=1e-6)


@pytest.mark.parametrize("pool", [True, False])
@pytest.mark.parametrize("size", [(40, 37), (6, 50), (3, 2)])
def test_overlap_tiles_are_the_network_on_the_whole_mirrored_image(pool, size):
    model = lossy(pool)
    picture = image(*size, channels=1)
    tiles = Predictor(model, GRAY, mode="overlap_tile", tile_size=(10, 8), batch_size=3)
    margin = 6 if pool else 3
    whole = np.pad(picture, ((margin, margin), (margin, margin), (0, 0)), "reflect")
    whole = np.pad(whole, ((0, 10), (0, 11), (0, 0)), "reflect")
    whole = whole[:, : whole.shape[1] // 2 * 2][: whole.shape[0] // 2 * 2]
    expected = tiles.network.probabilities(whole[None]).numpy()[0][: size[0], : size[1]]
    np.testing.assert_allclose(tiles(picture), expected, atol=1e-6)
    assert np.ptp(expected[..., 0]) > 0.02


def test_overlap_tiles_of_the_unet_are_its_whole_prediction():
    keras.utils.set_random_seed(0)
    model = tfseg.build("unet", num_classes=2, base_filters=2)
    picture = image(150, 201, channels=1)
    tiles = Predictor(model, GRAY, mode="overlap_tile", tile_size=(68, 52), batch_size=2)
    # 150 and 201 extended to 16 k - 124, and by the 92 that are lost on each end
    whole = np.pad(picture, ((92, 92), (92, 92), (0, 0)), "reflect")
    whole = np.pad(whole, ((0, 14), (0, 11), (0, 0)), "reflect")
    expected = tiles.network.probabilities(whole[None]).numpy()[0, :150, :201]
    np.testing.assert_allclose(tiles(picture), expected, atol=1e-5)
    assert np.ptp(expected[..., 0]) > 0.02


def test_one_tile_is_the_whole_prediction():
    model = lossy()
    picture = image(20, 20, channels=1)
    tile = Predictor(model, GRAY, mode="overlap_tile", tile_size=(20, 20))
    mirrored = np.pad(picture, ((6, 6), (6, 6), (0, 0)), "reflect")
    expected = softmax(model((mirrored[None] - 127.5) / np.float32(255)), axis=-1)[0]
    np.testing.assert_allclose(tile(picture), expected, atol=1e-6)


def test_overlap_tiles_rotate_and_count():
    model = lossy()
    picture = image(21, 30, channels=1)
    seen = []
    rotating = Predictor(
        model, GRAY, mode="overlap_tile", tile_size=(10, 20), rotations=True, batch_size=4
    )
    result = rotating(picture, lambda done, total: seen.append((done, total)))
    single = Predictor(model, GRAY, mode="overlap_tile", tile_size=(20, 20))
    total = 0
    for quarters in range(4):
        turned = np.rot90(picture, quarters)
        total = total + np.rot90(single(turned), -quarters)
        total = total + np.rot90(single(turned[:, ::-1])[:, ::-1], -quarters)
    np.testing.assert_allclose(result, total / 8, atol=1e-6)
    # 21 x 30 has 3 x 2 tiles of 10 x 20, 30 x 21 has 3 x 2
    assert seen[-1] == (48, 48)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "slidng", "crop_size": (9, 9)}, "did you mean 'sliding'"),
        ({"mode": "sliding"}, "needs crop_size"),
        ({"crop_size": (9, 9)}, "takes no crop_size"),
        ({"mode": "overlap_tile"}, "needs tile_size"),
        ({"mode": "sliding", "crop_size": (9, 0)}, "positive"),
        ({"scales": ()}, "scales"),
        ({"scales": (1.0, -1.0)}, "scales"),
        ({"stride_rate": 0}, "stride_rate"),
        ({"batch_size": 0}, "batch_size"),
        ({"flip": True, "rotations": True}, "switch flip off"),
        ({"mode": "overlap_tile", "tile_size": (10, 10)}, "valid convolutions"),
    ],
)
def test_unusable_options(options, message):
    with pytest.raises(ValueError, match=message):
        Predictor(pointwise(), RGB, **options)


def test_a_valid_model_is_sent_to_overlap_tiles():
    with pytest.raises(ValueError, match="use mode 'overlap_tile'"):
        Predictor(lossy(), GRAY)
    with pytest.raises(ValueError, match="use mode 'overlap_tile'"):
        Predictor(lossy(), GRAY, mode="sliding", crop_size=(20, 20))


def test_impossible_tiles_name_the_nearest():
    with pytest.raises(ValueError, match=r"no tiles of side 11; .* 10 and 12"):
        Predictor(lossy(), GRAY, mode="overlap_tile", tile_size=(10, 11))


def test_fixed_size_model_slides_over_any_image():
    x = keras.Input((8, 10, 3))
    model = randomize(keras.Model(x, keras.layers.Conv2D(3, 1)(x)))
    with pytest.raises(ValueError, match=r"'sliding' with crop_size \(8, 10\)"):
        Predictor(model, RGB)
    sliding = Predictor(model, RGB, mode="sliding", crop_size=[8, 10])
    expected = Predictor(pointwise(), RGB)(image(11, 13))
    np.testing.assert_allclose(sliding(image(11, 13)), expected, atol=1e-6)


@pytest.mark.parametrize(
    "bad",
    [
        np.zeros((4, 5, 3), np.float32),
        np.zeros((4, 5), np.uint8),
        np.zeros((4, 5, 4), np.uint8),
        np.zeros((0, 5, 3), np.uint8),
    ],
)
def test_unusable_images(bad):
    with pytest.raises(ValueError, match="an image to predict"):
        Predictor(pointwise(), RGB)(bad)


def test_unusable_models():
    with pytest.raises(ValueError, match="takes 3 channels"):
        Predictor(pointwise(), GRAY)
    x = keras.Input((None, None, 3))
    vector = keras.Model(x, keras.layers.GlobalAveragePooling2D()(x))
    with pytest.raises(ValueError, match=r"returns \(None, 3\), expected logits"):
        Predictor(vector, RGB)
