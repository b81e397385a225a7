import re

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import zoom
from scipy.special import softmax

import tfseg
from tfseg import config
from tfseg.experiment import make_predictor
from tfseg.predict import DenseCRF, Predictor, RefinedPredictor
from tfseg.predict.crf import PRESETS
from tfseg.predict.lattice import PermutohedralLattice

SMALL = {
    "gaussian_sigma": 1.5,
    "gaussian_weight": 2,
    "bilateral_sigma_xy": 4,
    "bilateral_sigma_rgb": 20,
    "bilateral_weight": 3,
}


def scene(height=9, width=11, classes=4, seed=0):
    """Two halves of unlike colours with noise, and noisy probabilities."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 30, (height, width, 3))
    image[:, width // 2 :] += 120
    scores = rng.normal(size=(height, width, classes))
    return image.astype(np.uint8), softmax(scores, axis=-1).astype(np.float32)


def kernels(image, values, filtered):
    """Both kernels' features and weights; ``filtered`` makes an (N, N) matrix of features."""
    height, width = image.shape[:2]
    place = [(x, y) for y in range(height) for x in range(width)]
    near = [np.divide(p, values["gaussian_sigma"]) for p in place]
    alike = [
        [
            *np.divide(p, values["bilateral_sigma_xy"]),
            *image[p[1], p[0]] / values["bilateral_sigma_rgb"],
        ]
        for p in place
    ]
    return [
        (filtered(np.array(near)), values["gaussian_weight"]),
        (filtered(np.array(alike)), values["bilateral_weight"]),
    ]


def gaussians(points):
    return np.array([[np.exp(-0.5 * np.sum((p - q) ** 2)) for q in points] for p in points])


def on_the_lattice(points):
    identity = np.eye(len(points), dtype=np.float32)
    return PermutohedralLattice(points.T.astype(np.float32)).filter(identity).astype(np.float64)


def brute_force(image, probabilities, values, filtered, *, normalization="symmetric", cost=None):
    """Mean field in float64, one pixel and one pair of labels at a time."""
    classes = probabilities.shape[2]
    cost = 1 - np.eye(classes) if cost is None else cost
    energy = -np.log(np.clip(probabilities.reshape(-1, classes).astype(np.float64), 1e-5, 1))
    matrix = 0
    for kernel, weight in kernels(image, values, filtered):
        sums = kernel.sum(axis=1)
        by = sums[:, None] if normalization == "after" else np.sqrt(sums[:, None] * sums)
        matrix = matrix + weight * kernel / by
    q = softmax(-energy, axis=1)
    for _ in range(10):
        scores = np.empty_like(q)
        for i, row in enumerate(matrix):
            message = sum(k * q[j] for j, k in enumerate(row))
            for label in range(classes):
                penalty = sum(cost[label, other] * message[other] for other in range(classes))
                scores[i, label] = -energy[i, label] - penalty
        q = softmax(scores, axis=1)
    return q.reshape(probabilities.shape)


@pytest.mark.parametrize("normalization", ["symmetric", "after"])
@pytest.mark.parametrize(
    ("filter_", "filtered"), [("exact", gaussians), ("lattice", on_the_lattice)]
)
def test_equals_brute_force(filter_, filtered, normalization):
    image, probabilities = scene()
    crf = DenseCRF(**SMALL, filter=filter_, normalization=normalization)
    found = crf(image, probabilities)
    expected = brute_force(image, probabilities, SMALL, filtered, normalization=normalization)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
    assert abs(expected - probabilities).max() > 0.5


def test_a_learned_compatibility_equals_brute_force():
    image, probabilities = scene()
    cost = np.random.default_rng(3).normal(size=(4, 4))
    found = DenseCRF(**SMALL, filter="exact", compatibility=cost)(image, probabilities)
    expected = brute_force(image, probabilities, SMALL, gaussians, cost=(cost + cost.T) / 2)
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("offset", [0, 1])
def test_a_learned_potts_matrix_equals_potts(offset):
    image, probabilities = scene(30, 40)
    learned = DenseCRF.preset("deeplab_v2", compatibility=offset - np.eye(4))
    potts = DenseCRF.preset("deeplab_v2")
    np.testing.assert_allclose(
        learned(image, probabilities), potts(image, probabilities), atol=1e-5
    )


def test_the_lattice_is_near_the_gaussians():
    image, probabilities = scene(20, 30)
    near = DenseCRF(**SMALL)(image, probabilities)
    exact = DenseCRF(**SMALL, filter="exact")(image, probabilities)
    assert np.mean(near.argmax(-1) == exact.argmax(-1)) > 0.98
    assert np.mean(abs(near - exact)) < 0.02


def pydensecrf(image, probabilities, values, cost=None, normalization="NORMALIZE_SYMMETRIC"):
    dcrf = pytest.importorskip("pydensecrf.densecrf")
    from pydensecrf.utils import unary_from_softmax

    height, width, classes = probabilities.shape
    cost = -np.eye(classes) if cost is None else cost
    learned = [
        np.ascontiguousarray(cost * values[weight], np.float32)
        for weight in ("gaussian_weight", "bilateral_weight")
    ]
    kind = getattr(dcrf, normalization)
    crf = dcrf.DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(unary_from_softmax(np.ascontiguousarray(probabilities.transpose(2, 0, 1))))
    crf.addPairwiseGaussian(sxy=values["gaussian_sigma"], compat=learned[0], normalization=kind)
    crf.addPairwiseBilateral(
        sxy=values["bilateral_sigma_xy"],
        srgb=values["bilateral_sigma_rgb"],
        rgbim=np.ascontiguousarray(image),
        compat=learned[1],
        normalization=kind,
    )
    return np.array(crf.inference(10)).reshape(classes, height, width).transpose(1, 2, 0)


def photographs(shared):
    """(image, probabilities) of street, COCO and VOC: labels or noise at an eighth of the size."""
    rng = np.random.default_rng(0)
    street = sorted(shared("data/camvid/val").iterdir())[7]
    labels = shared("data/camvid/valannot") / f"{street.stem}.png"
    voc = sorted(shared("data/voc_palette/JPEGImages").iterdir())[0]
    voc_labels = shared("data/voc_palette/SegmentationClass") / f"{voc.stem}.png"
    coco = sorted(shared("data/coco128/images").iterdir())[3]
    for path, truth, classes in ((street, labels, 12), (voc, voc_labels, 21), (coco, None, 21)):
        image = np.array(Image.open(path).convert("RGB"))
        scores = rng.normal(scale=1.2, size=(*image[4::8, 4::8].shape[:2], classes))
        if truth is not None:
            mask = np.array(Image.open(truth))[4::8, 4::8]
            scores += 3 * np.eye(256)[mask][..., :classes]
        factors = (image.shape[0] / scores.shape[0], image.shape[1] / scores.shape[1], 1)
        yield image, softmax(zoom(scores, factors, order=1), axis=-1).astype(np.float32)


@pytest.mark.slow
@pytest.mark.parametrize("preset", PRESETS)
def test_equals_pydensecrf_on_photographs(shared, preset):
    for image, probabilities in photographs(shared):
        found = DenseCRF.preset(preset)(image, probabilities)
        expected = pydensecrf(image, probabilities, PRESETS[preset])
        assert np.mean(found.argmax(-1) == expected.argmax(-1)) > 0.9999
        assert np.mean(abs(found - expected)) < 1e-5


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("normalization", ["symmetric", "after"])
def test_equals_pydensecrf(preset, normalization):
    image, probabilities = scene(40, 60)
    cost = np.random.default_rng(4).normal(size=(4, 4)).astype(np.float32)
    for matrix in (None, cost):
        crf = DenseCRF.preset(preset, normalization=normalization, compatibility=matrix)
        named = f"NORMALIZE_{normalization.upper()}"
        expected = pydensecrf(image, probabilities, PRESETS[preset], matrix, named)
        np.testing.assert_allclose(crf(image, probabilities), expected, atol=1e-3)


@pytest.mark.parametrize("preset", PRESETS)
def test_where_nothing_differs_nothing_changes(preset):
    image = np.full((30, 40, 3), 90, np.uint8)
    uniform = np.full((30, 40, 5), 0.2, np.float32)
    np.testing.assert_allclose(DenseCRF.preset(preset)(image, uniform), uniform, atol=1e-6)


@pytest.mark.parametrize("preset", PRESETS)
def test_an_outlier_joins_its_surroundings(preset):
    image = np.full((31, 31, 3), 90, np.uint8)
    probabilities = np.tile(np.float32([0.8, 0.2]), (31, 31, 1))
    probabilities[15, 15] = 0.1, 0.9
    found = DenseCRF.preset(preset)(image, probabilities)
    assert np.all(found.argmax(-1) == 0)
    np.testing.assert_allclose(found.sum(axis=-1), 1, atol=1e-6)


def test_labels_follow_the_edges_of_the_image():
    """Probabilities that end three pixels beside the image's edge are moved to it."""
    image = np.full((40, 40, 3), 40, np.uint8)
    image[:, 20:] = 200
    probabilities = np.tile(np.float32([0.7, 0.3]), (40, 40, 1))
    probabilities[:, 23:] = 0.3, 0.7
    found = DenseCRF.preset("deeplab_v1")(image, probabilities)
    np.testing.assert_array_equal(found.argmax(-1), np.indices((40, 40))[1] >= 20)


def test_a_mirrored_image_gives_mirrored_probabilities():
    image, probabilities = scene(30, 40)
    crf = DenseCRF.preset("deeplab_v1")
    plain = crf(image, probabilities)
    mirrored = crf(image[:, ::-1], probabilities[:, ::-1])[:, ::-1]
    assert np.mean(abs(plain - mirrored)) < 0.02
    assert np.mean(plain.argmax(-1) == mirrored.argmax(-1)) > 0.98
    exact = DenseCRF.preset("deeplab_v1", filter="exact")
    again = exact(image[:, ::-1], probabilities[:, ::-1])[:, ::-1]
    np.testing.assert_allclose(exact(image, probabilities), again, atol=1e-4)


def test_gray_is_three_equal_channels_and_zeros_and_float64_are_taken():
    image, probabilities = scene()
    probabilities[0, 0] = 1, 0, 0, 0
    crf = DenseCRF(**SMALL)
    gray = crf(image[..., :1], probabilities)
    np.testing.assert_array_equal(gray, crf(np.repeat(image[..., :1], 3, axis=2), probabilities))
    assert np.isfinite(gray).all()
    np.testing.assert_allclose(crf(image[..., :1], probabilities.astype(np.float64)), gray)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"gaussian_sigma": 0}, "must be positive"),
        ({"bilateral_sigma_rgb": np.inf}, "must be positive"),
        ({"bilateral_weight": -1}, "0 or more"),
        ({"iterations": 0}, "at least 1"),
        ({"filter": "exac"}, "did you mean 'exact'"),
        ({"normalization": "symetric"}, "did you mean 'symmetric'"),
        ({"compatibility": np.ones((2, 3))}, "(C, C), this one has shape (2, 3)"),
        ({"compatibility": [[np.nan]]}, "finite"),
    ],
)
def test_wrong_parameters(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        DenseCRF(**(SMALL | changes))


def test_unknown_presets_name_the_nearest():
    with pytest.raises(ValueError, match=r"'deeplab_v3'; did you mean .*'deeplab_v"):
        DenseCRF.preset("deeplab_v3")


def test_wrong_arrays():
    image, probabilities = scene()
    crf = DenseCRF(**SMALL)
    wrong = [
        (image.astype(np.float32), probabilities, "uint8"),
        (image[..., :2], probabilities, "(9, 11, 2)"),
        (image, probabilities[..., 0], "float (H, W, C)"),
        (image, (probabilities * 255).astype(np.uint8), "these uint8"),
        (image, probabilities[1:], "the CRF's image is (9, 11, 3), but its probabilities are"),
        (image[:0], probabilities[:0], "(0, 11, 3)"),
        (image, np.log(probabilities), "within 0..1"),
        (image, probabilities * np.nan, "within 0..1"),
    ]
    for picture, values, message in wrong:
        with pytest.raises(ValueError, match=re.escape(message)):
            crf(picture, values)
    with pytest.raises(ValueError, match="of 3 classes, the probabilities are of 4"):
        DenseCRF(**SMALL, compatibility=np.eye(3))(image, probabilities)
    with pytest.raises(ValueError, match="up to 10000 pixels, not 10100"):
        DenseCRF(**SMALL, filter="exact")(
            np.zeros((100, 101, 3), np.uint8), np.ones((100, 101, 1), np.float32)
        )


@pytest.fixture(scope="module")
def model():
    return tfseg.build("unet", 4, in_channels=3, base_filters=2, padding="same")


def predict_section(crf):
    tree = {
        "name": "x",
        "model": {"name": "unet", "num_classes": 4},
        "data": {"train": {"reader": "shapes"}},
        "train": {"steps": 1, "batch_size": 1, "optimizer": {"learning_rate": 0.1}},
        "predict": {"crf": crf},
    }
    parsed = config.parse(tree)
    assert config.parse(parsed.model_dump(mode="json")) == parsed
    return parsed.predict


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("deeplab_v1", DenseCRF.preset("deeplab_v1")),
        ({"preset": "deconvnet", "iterations": 2}, DenseCRF.preset("deconvnet", iterations=2)),
        (SMALL | {"normalization": "after"}, DenseCRF(**SMALL, normalization="after")),
        (
            SMALL | {"compatibility": [[0, 1, 1, 0]] * 4},
            DenseCRF(**SMALL, compatibility=[[0, 1, 1, 0]] * 4),
        ),
    ],
)
def test_a_config_refines_a_predictor(model, section, expected):
    image = scene(20, 24)[0]
    predictor = make_predictor(model, predict_section(section))
    plain = Predictor(model, model.spec.preprocessing)
    counted = []
    found = predictor(image, lambda done, total: counted.append((done, total)))
    np.testing.assert_array_equal(found, expected(image, plain(image)))
    assert counted == [(1, 1)]
    assert predictor.num_classes == 4
    assert predictor.network.model is model


def test_configs_without_a_crf_or_with_a_wrong_one(model):
    assert isinstance(make_predictor(model, predict_section(None)), Predictor)
    with pytest.raises(config.ConfigError, match="crf needs a preset or gaussian_weight, bilat"):
        predict_section({"gaussian_sigma": 3})
    with pytest.raises(config.ConfigError, match=r"predict.crf.itrations: .*'iterations'"):
        predict_section({"preset": "deeplab_v1", "itrations": 3})
    with pytest.raises(ValueError, match="did you mean 'deconvnet'"):
        make_predictor(model, predict_section("deconvent"))
    with pytest.raises(ValueError, match="of 3 classes"):
        RefinedPredictor(
            Predictor(model, model.spec.preprocessing),
            DenseCRF(**SMALL, compatibility=np.eye(3)),
        )
