"""DeconvNet's aggregation of proposals, beside a plain restatement of the released script."""

import sys
from types import ModuleType

import keras
import numpy as np
import pytest
from scipy.special import softmax

from tfseg.models.classification import CAFFE_BGR_MEAN
from tfseg.predict import views
from tfseg.predict.proposals import EDeconvNet, ProposalPredictor, edge_boxes


def _model(kernel, bias):
    """A 1x1 convolution as the network."""
    image = keras.Input((None, None, 3))
    layer = keras.layers.Conv2D(len(bias), 1)
    model = keras.Model(image, layer(image))
    layer.set_weights([np.asarray(kernel, "float32")[None, None], np.asarray(bias, "float32")])
    return model


@pytest.fixture
def model():
    random = np.random.default_rng(0)
    return _model(random.normal(size=(3, 4)) / 50, random.normal(size=4))


@pytest.fixture
def image():
    return np.random.default_rng(1).integers(0, 256, (90, 120, 3)).astype(np.uint8)


def _released(model, image, windows, size):
    """generate_EDeconvNet_CRF_results.m: a padded image and a padded canvas of zeros."""
    height, width = image.shape[:2]
    pad = ((width, width), (height, height), (0, 0))
    padded = np.pad(image, pad).astype(np.float32)
    canvas = np.zeros((*padded.shape[:2], 4), np.float32)
    mean = np.array(CAFFE_BGR_MEAN.mean, np.float32)
    for x1, y1, x2, y2 in windows + np.array([height, width, height, width]):
        crop = views.resize_bilinear(padded[y1:y2, x1:x2], (size, size))
        scores = model((crop[..., ::-1] - mean)[None]).numpy()[0]
        scores = views.resize_bilinear(scores, (y2 - y1, x2 - x1))
        canvas[y1:y2, x1:x2] = np.maximum(canvas[y1:y2, x1:x2], scores)
    return canvas[width : width + height, height : height + width]


@pytest.mark.parametrize("batch_size", [1, 3])
def test_equals_the_released_script(model, image, batch_size):
    boxes = np.array([[10, 10, 60, 40], [70, 5, 120, 85], [0, 0, 120, 90], [30, 60, 80, 90]])
    predictor = ProposalPredictor(
        model,
        CAFFE_BGR_MEAN,
        lambda _: boxes,
        min_side=20,
        input_size=32,
        batch_size=batch_size,
    )
    windows = np.array(
        [[5, -5, 65, 55], [47, -3, 143, 93], [-12, -27, 132, 117], [25, 45, 85, 105]]
    )
    expected = _released(model, image, windows, 32)
    assert (expected > 0).any()
    scores = predictor.scores(image)
    np.testing.assert_allclose(scores, expected, atol=1e-4)
    probabilities = predictor(image)
    assert probabilities.dtype == np.float32
    np.testing.assert_allclose(probabilities, softmax(expected, -1), atol=1e-5)


def test_the_maximum_and_zero_win():
    """Constant scores: 2 in class 1, -3 in class 2, nothing outside the window."""
    constant = _model(np.zeros((3, 3)), [0.5, 2.0, -3.0])
    image = np.zeros((60, 80, 3), np.uint8)
    predictor = ProposalPredictor(
        constant, CAFFE_BGR_MEAN, lambda _: np.array([[20, 10, 40, 30]]), min_side=1, input_size=8
    )
    scores = predictor.scores(image)
    np.testing.assert_allclose(scores[20, 30], [0.5, 2, 0], atol=1e-6)
    # the window is 24 pixels wide about (30, 20)
    assert scores[20, 18, 1] > 0
    assert not scores[20, 17].any()
    assert not scores[:8].any()
    np.testing.assert_allclose(predictor(image)[0, 0], 1 / 3)


def test_small_windows_do_not_count(model, image):
    """Sides are of the window with its context: 100 makes 120, 90 makes 108."""
    seen = []
    boxes = [[0, 0, 90, 90], [0, 0, 100, 50], [5, 0, 105, 50], [8, 0, 108, 50]]
    predictor = ProposalPredictor(
        model, CAFFE_BGR_MEAN, lambda _: np.array(boxes), max_proposals=2, input_size=8
    )
    predictor.scores(image, lambda done, total: seen.append((done, total)))
    assert seen == [(1, 2), (2, 2)]
    chosen = np.array([[-10, -35, 110, 85], [-5, -35, 115, 85]])
    np.testing.assert_allclose(
        predictor.scores(image), _released(model, image, chosen, 8), atol=1e-4
    )


def test_no_proposals_give_equal_classes(model, image):
    predictor = ProposalPredictor(model, CAFFE_BGR_MEAN, lambda _: np.zeros((0, 4)))
    probabilities = predictor(image)
    np.testing.assert_array_equal(probabilities, np.full((90, 120, 4), 0.25, np.float32))
    assert not probabilities.argmax(-1).any()


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros((3, 5)), r"float64 \(3, 5\)"),
        (np.full((1, 4), np.nan), "finite"),
        (np.array([[30, 30, 20, 20]]), "x1 < x2"),
    ],
)
def test_wrong_proposals(model, image, boxes, message):
    predictor = ProposalPredictor(model, CAFFE_BGR_MEAN, lambda _: boxes)
    with pytest.raises(ValueError, match=message):
        predictor(image)


def test_wrong_options_and_images(model, image):
    with pytest.raises(ValueError, match="max_proposals must be positive, not 0"):
        ProposalPredictor(model, CAFFE_BGR_MEAN, lambda _: [], max_proposals=0)
    predictor = ProposalPredictor(model, CAFFE_BGR_MEAN, lambda _: np.zeros((0, 4)))
    with pytest.raises(ValueError, match="float32"):
        predictor(image.astype(np.float32))


def test_ensemble_is_the_product_of_positive_scores(model, image):
    random = np.random.default_rng(2)
    fcn = _model(random.normal(size=(3, 4)) / 50, random.normal(size=4))
    boxes = np.array([[0, 0, 120, 90]])
    deconvnet = ProposalPredictor(model, CAFFE_BGR_MEAN, lambda _: boxes, input_size=16)
    ensemble = EDeconvNet(deconvnet, fcn, CAFFE_BGR_MEAN, canvas=100)
    mean = np.array(CAFFE_BGR_MEAN.mean, np.float32)
    direct = fcn((image[..., ::-1] - mean)[None].astype("float32")).numpy()[0]
    expected = deconvnet.scores(image) * np.maximum(direct, 0)
    assert (expected > 0).any()
    np.testing.assert_allclose(ensemble.scores(image), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(ensemble(image), softmax(expected, -1), atol=1e-5)


def test_ensemble_pads_after_preprocessing(model):
    """FCN-8s sees the image in a square of zeros, larger images as they are."""
    image = keras.Input((None, None, 3))
    total = keras.layers.Lambda(
        lambda x: (
            keras.ops.zeros_like(x[..., :1])
            + keras.ops.cast(keras.ops.shape(x)[1] * 1000 + keras.ops.shape(x)[2], "float32")
            + keras.ops.sum(keras.ops.abs(x[:, 50:]), (1, 2, 3), keepdims=True)
        )
    )(image)
    sizes = keras.Model(image, keras.layers.Concatenate()([total] * 4))
    ones = _model(np.zeros((3, 4)), np.ones(4))
    boxes = np.array([[0, 0, 120, 120]])
    deconvnet = ProposalPredictor(ones, CAFFE_BGR_MEAN, lambda _: boxes, input_size=8)
    ensemble = EDeconvNet(deconvnet, sizes, CAFFE_BGR_MEAN, canvas=100)
    scores = ensemble.scores(np.full((50, 120, 3), 7, np.uint8))
    np.testing.assert_allclose(scores, 100 * 1000 + 120)


def test_ensemble_of_other_classes(model):
    deconvnet = ProposalPredictor(model, CAFFE_BGR_MEAN, lambda _: [])
    with pytest.raises(ValueError, match=r"4 classes, .* 2"):
        EDeconvNet(deconvnet, _model(np.zeros((3, 2)), np.ones(2)), CAFFE_BGR_MEAN)


class _Detector:
    """Stands in for OpenCV's: edges are the mean of the channels."""

    def detectEdges(self, image):
        assert image.dtype == np.float32
        assert image.shape[2] == 3
        assert 0.9 < image.max() <= 1
        return image.mean(-1)

    def computeOrientation(self, edges):
        return edges * 0 + 2

    def edgesNms(self, edges, orientation):
        return edges * orientation


class _Boxes:
    found = ((), None)

    def getBoundingBoxes(self, edges, orientation):
        assert edges.max() > 1.8
        return self.found


@pytest.fixture
def opencv(monkeypatch):
    cv2, ximgproc = ModuleType("cv2"), ModuleType("cv2.ximgproc")
    ximgproc.createStructuredEdgeDetection = lambda path: _Detector()
    ximgproc.createEdgeBoxes = lambda maxBoxes: _Boxes()
    cv2.ximgproc = ximgproc
    monkeypatch.setitem(sys.modules, "cv2", cv2)
    monkeypatch.setitem(sys.modules, "cv2.ximgproc", ximgproc)
    return cv2


def test_edge_boxes(opencv, monkeypatch, tmp_path, image):
    path = tmp_path / "model.yml.gz"
    path.touch()
    propose = edge_boxes(path)
    assert propose(image).shape == (0, 4)
    boxes = np.array([[1, 2, 30, 40], [5, 6, 7, 8]], np.int32)
    monkeypatch.setattr(_Boxes, "found", (boxes, np.array([0.1, 0.9], np.float32)))
    for pixels in (image, image[..., :1]):
        assert propose(pixels).tolist() == [[5, 6, 12, 14], [1, 2, 31, 42]]


def test_edge_boxes_without_a_model(opencv, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"absent\.yml\.gz is missing.*structured edge"):
        edge_boxes(tmp_path / "absent.yml.gz")


@pytest.mark.parametrize("module", [None, ModuleType("cv2")])
def test_edge_boxes_without_opencv_contrib(module, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "cv2", module)
    monkeypatch.delitem(sys.modules, "cv2.ximgproc", raising=False)
    with pytest.raises(ImportError, match=r"tfseg\[proposals\]"):
        edge_boxes(tmp_path / "model.yml.gz")
