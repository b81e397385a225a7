import numpy as np
import pytest
import tensorflow as tf
from detector_stand_in import CLASSES, FRACTIONS, PLAIN, StandIn
from PIL import Image

from tfseg.predict.detect_graph import DetectGraph
from tfseg.predict.detector import DetectionPredictor
from tfseg.registry import Preprocessing

SMALL = {"short_side": 60, "long_side": 100, "divisor": 32}


def image(height, width, channels=3, seed=0):
    """A smooth picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, channels), dtype=np.uint8)
    return tf.cast(tf.image.resize(small, (height, width)), tf.uint8).numpy()


def expected_boxes(height, width):
    return FRACTIONS[[0, 1, 3]] * np.array([width, height, width, height])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((480, 640), (800, 1067)),
        ((640, 480), (1067, 800)),
        ((427, 640), (800, 1199)),
        ((300, 600), (667, 1333)),
        ((1, 5000), (1, 1333)),  # at least a pixel
        ((1000, 1000), (800, 800)),
        ((2400, 3600), (800, 1200)),
    ],
)
def test_sizes_by_hand(size, expected):
    graph = DetectGraph(StandIn(), PLAIN)
    assert tuple(graph.resized_size(tf.constant(size)).numpy()) == expected


def test_sizes_are_detectron2s():
    graph = DetectGraph(StandIn(), PLAIN, short_side=667, long_side=1001)
    rng = np.random.default_rng(0)
    for height, width in rng.integers(10, 2000, (200, 2)).tolist():
        scale = 667 * 1.0 / min(height, width)  # ResizeShortestEdge.get_output_shape
        if height < width:
            high, wide = 667 * 1.0, scale * width
        else:
            high, wide = scale * height, 667 * 1.0
        if max(high, wide) > 1001:
            scale = 1001 * 1.0 / max(high, wide)
            high, wide = high * scale, wide * scale
        expected = [int(high + 0.5), int(wide + 0.5)]
        assert graph.resized_size(tf.constant([height, width])).numpy().tolist() == expected


def test_boxes_come_back_in_original_pixels():
    found = DetectionPredictor(StandIn(keypoints=True), PLAIN, **SMALL)(image(97, 131))
    assert found.size == (97, 131)
    # the third box is empty
    np.testing.assert_allclose(found.boxes, expected_boxes(97, 131), rtol=1e-5)
    assert found.classes.tolist() == [CLASSES[0], CLASSES[1], CLASSES[3]]
    np.testing.assert_allclose(found.scores[1:], found.scores[0] * np.array([0.8, 0.6]), rtol=1e-6)
    centres = (found.boxes[:, :2] + found.boxes[:, 2:]) / 2
    np.testing.assert_allclose(found.keypoints[:, 1, :2], centres, rtol=1e-5)
    np.testing.assert_allclose(found.keypoints[..., 2], 0.9)
    # the masks of the boxes that are left
    firsts = np.array([0, 1, 3]) * 16 % 7
    np.testing.assert_allclose(found.masks[:, 0, 0], (firsts + 2) / 10, rtol=1e-6)
    assert {a.dtype for a in (found.boxes, found.scores, found.masks)} == {np.dtype("float32")}
    assert found.classes.dtype == np.int32


def test_detectrons_boxes_end_with_their_last_pixel():
    """Of 104 x 61 pixels, box 1 ends at 52 x 30.5 with pixel 51 x 29.5, which is scaled."""
    picture, options = image(41, 70), {"short_side": 61, "long_side": 200, "divisor": 32}
    assert DetectGraph(StandIn(), PLAIN, **options).resized_size([41, 70]).numpy()[1] == 104
    half_open = DetectionPredictor(StandIn(), PLAIN, **options)(picture).boxes
    found = DetectionPredictor(StandIn(style="detectron"), PLAIN, **options)(picture).boxes
    np.testing.assert_array_equal(found[[0, 1, 3], :2], half_open[:, :2])
    np.testing.assert_allclose(found[1, 2:], [(52 - 1) * 70 / 104 + 1, (30.5 - 1) * 41 / 61 + 1])
    assert found[0, 3] == 41  # clipped


@pytest.mark.parametrize("size", [(97, 131), (30, 44), (200, 90)])
def test_the_network_sees_the_image_as_pillow_resizes_it(size):
    picture = image(*size, seed=1)
    predictor = DetectionPredictor(StandIn(), PLAIN, **SMALL)
    height, width = predictor.graph.resized_size(tf.constant(size)).numpy()
    resized = Image.fromarray(picture).resize((width, height), Image.Resampling.BILINEAR)
    prepared = predictor.graph.prepare(tf.constant(picture)).numpy()
    assert np.abs(prepared - np.asarray(resized)).max() <= 1
    np.testing.assert_array_equal(prepared, prepared.round())
    assert predictor(picture).scores[0] == pytest.approx(np.mean(resized) / 255, abs=1e-3)


def test_padding_is_zero_after_preprocessing():
    """The mean would not be the image's otherwise."""
    shifted = Preprocessing("bgr", (10.0, 20.0, 30.0), (2.0, 3.0, 4.0))
    picture = image(60, 70, seed=2)  # not resized; padded to 64 x 96
    values = (picture[..., ::-1] - np.array([10, 20, 30])) / np.array([2, 3, 4])
    found = DetectionPredictor(StandIn(dark=-99.0), shifted, **SMALL)(picture)
    assert found.scores[0] == pytest.approx(values.mean() / 255, rel=1e-4)


def test_mixed_sizes_in_batches_equal_single_images():
    pictures = [image(40, 90, seed=1), image(90, 40, seed=2), image(50, 60, seed=3)]
    pictures += [image(60, 50, channels=1, seed=4), image(33, 90, seed=5)]
    model = StandIn(semantic=True, keypoints=True)
    one, three = (DetectionPredictor(model, PLAIN, **SMALL, batch_size=n) for n in (1, 3))
    for picture, found in zip(pictures, three.predict(pictures), strict=True):
        expected = one(picture)
        assert found.size == picture.shape[:2]
        for name in ("boxes", "scores", "classes", "masks", "keypoints", "semantic"):
            got = getattr(found, name)
            np.testing.assert_allclose(got, getattr(expected, name), rtol=1e-5, err_msg=name)
    assert three.predict([]) == []


def test_semantic_labels_at_the_original_size():
    """Brighter than 127.5 is label 0; the padding takes no part."""
    picture = np.full((45, 80, 3), 250, np.uint8)
    picture[:, 40:] = 3
    found = DetectionPredictor(StandIn(semantic=True), PLAIN, **SMALL)(picture)
    assert found.semantic.dtype == np.int32
    np.testing.assert_array_equal(found.semantic, (picture[..., 0] == 3).astype(int))


def test_one_trace_for_all_sizes():
    predictor = DetectionPredictor(StandIn(), PLAIN, **SMALL, batch_size=2)
    predictor.predict([image(40, 90), image(90, 40), image(20, 20)])
    assert predictor._detect.experimental_get_tracing_count() == 1
    assert predictor._inputs._prepare.experimental_get_tracing_count() == 1


def test_frozen_weights_do_not_change():
    model, picture = StandIn(), image(40, 90)
    live = DetectionPredictor(model, PLAIN, **SMALL)
    fixed = DetectionPredictor(model, PLAIN, **SMALL, freeze=True)
    before = live(picture).scores[0]
    assert fixed(picture).scores[0] == pytest.approx(before)
    model.gain.assign(0.5)
    assert live(picture).scores[0] == pytest.approx(before / 2)
    assert fixed(picture).scores[0] == pytest.approx(before)


def test_nothing_in_a_dark_image():
    predictor = DetectionPredictor(StandIn(dark=5.0), PLAIN, **SMALL, batch_size=2)
    dark, bright = predictor.predict([np.zeros((40, 50, 3), np.uint8), image(40, 50)])
    assert len(dark) == 0
    assert dark.boxes.shape == (0, 4)
    assert dark.masks.shape == (0, 4, 4)
    assert len(bright) == 3


def test_buckets():
    predictor = DetectionPredictor(StandIn(), PLAIN, **SMALL, buckets=[(128, 128), (64, 128)])
    assert predictor._inputs.padded_size(np.array([[60, 100]])) == (64, 128)
    assert predictor._inputs.padded_size(np.array([[60, 100], [100, 60]])) == (128, 128)
    assert predictor._inputs.padded_size(np.array([[129, 60]])) == (160, 64)


def test_score_threshold():
    found = DetectionPredictor(StandIn(), PLAIN, **SMALL, score_threshold=0.55)(
        np.full((40, 40, 3), 200, np.uint8)
    )
    np.testing.assert_allclose(found.scores, [200 / 255, 160 / 255], rtol=1e-5)


def test_errors():
    predictor = DetectionPredictor(StandIn(), PLAIN)
    with pytest.raises(ValueError, match="uint8"):
        predictor(np.zeros((4, 5, 3), np.float32))
    with pytest.raises(ValueError, match="batch_size"):
        DetectionPredictor(StandIn(), PLAIN, batch_size=0)
    with pytest.raises(ValueError, match="multiples of 32"):
        DetectionPredictor(StandIn(), PLAIN, buckets=[(800, 1216), (801, 800)])
    with pytest.raises(ValueError, match="no less than short_side"):
        DetectionPredictor(StandIn(), PLAIN, short_side=800, long_side=600)
