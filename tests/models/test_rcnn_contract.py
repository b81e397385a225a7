"""What every registered network that finds objects must do."""

from dataclasses import replace

import keras
import numpy as np
import pytest
import tensorflow as tf

import tfseg
from tfseg import registry
from tfseg.weights import load_weights, save_weights

#: parameters at the published number of classes: all, with the norms' scales and offsets; those of
#: the trunk's norms; and those that train, with frozen norms, stem and first stage
PARAMETERS = {
    "faster_rcnn_mobilenet_v2_fpn": (19_194_528, 31_552, 19_148_400),
    "faster_rcnn_resnet101_c4": (52_836_892, 105_344, 52_509_148),
    "faster_rcnn_resnet101_fpn": (60_745_184, 105_344, 60_417_440),
    "faster_rcnn_resnet50_c4": (33_844_764, 53_120, 33_569_244),
    "faster_rcnn_resnet50_c5": (165_634_588, 53_120, 165_359_068),
    "faster_rcnn_resnet50_fpn": (41_753_056, 53_120, 41_477_536),
    "faster_rcnn_resnext101_32x8d_fpn": (104_987_360, 202_880, 104_359_328),
    "faster_rcnn_resnext101_64x4d_fpn": (99_651_296, 202_880, 99_050_912),
    "keypoint_rcnn_mobilenet_v2_fpn": (36_627_750, 31_552, 36_581_622),
    "keypoint_rcnn_resnet101_c4": (73_404_578, 105_344, 73_076_834),
    "keypoint_rcnn_resnet101_fpn": (78_178_406, 105_344, 77_850_662),
    "keypoint_rcnn_resnet50_c4": (54_412_450, 53_120, 54_136_930),
    "keypoint_rcnn_resnet50_c5": (191_325_346, 53_120, 191_049_826),
    "keypoint_rcnn_resnet50_fpn": (59_186_278, 53_120, 58_910_758),
    "keypoint_rcnn_resnext101_32x8d_fpn": (122_420_582, 202_880, 121_792_550),
    "keypoint_rcnn_resnext101_64x4d_fpn": (117_084_518, 202_880, 116_484_134),
    "mask_rcnn_mobilenet_v2_fpn": (21_837_808, 31_552, 21_791_680),
    "mask_rcnn_resnet101_c4": (54_954_860, 105_344, 54_627_116),
    "mask_rcnn_resnet101_fpn": (63_388_464, 105_344, 63_060_720),
    "mask_rcnn_resnet50_c4": (35_962_732, 53_120, 35_687_212),
    "mask_rcnn_resnet50_c5": (172_406_636, 53_120, 172_131_116),
    "mask_rcnn_resnet50_fpn": (44_396_336, 53_120, 44_120_816),
    "mask_rcnn_resnext101_32x8d_fpn": (107_630_640, 202_880, 107_002_608),
    "mask_rcnn_resnext101_64x4d_fpn": (102_294_576, 202_880, 101_694_192),
    "panoptic_fpn_mobilenet_v2": (23_468_582, 31_552, 23_422_454),
    "panoptic_fpn_resnet101": (65_019_238, 105_344, 64_691_494),
    "panoptic_fpn_resnet50": (46_027_110, 53_120, 45_751_590),
}
#: What a cascade has more: two box heads, and three predictors of one box for all classes in
#: place of one of a box for each. With masks on a ResNet-50: detectron2's 72 038 046.
CASCADE = 2 * (12_544 + 1 + 1_024 + 1) * 1_024 + (1_024 + 1) * (3 * (81 + 4) - (81 + 4 * 80))
#: What a semantic-guided pyramid has more: seven 3x3 convolutions without biases, four of them
#: from 256 channels, and their group norms; the classifier of 80 classes and the background; and
#: a 1x1 convolution to each of four levels.
GUIDANCE = 9 * (4 * 256 + 3 * 128) * 128 + 7 * 2 * 128 + (128 + 1) * 81 + 4 * (128 + 1) * 256


def _more(family, trunk, count):
    """The counts of a detector in PARAMETERS with so many parameters more, which train."""
    total, norms, trainable = PARAMETERS[f"{family}_{trunk}"]
    return total + count, norms, trainable + count


PYRAMIDS = (
    "mobilenet_v2_fpn",
    "resnet50_fpn",
    "resnet101_fpn",
    "resnext101_32x8d_fpn",
    "resnext101_64x4d_fpn",
)
for _family, _cascade in (("faster_rcnn", "cascade_rcnn"), ("mask_rcnn", "cascade_mask_rcnn")):
    for _trunk in PYRAMIDS[:3]:
        PARAMETERS[f"{_family}_{_trunk.replace('_fpn', '_sfpn')}"] = _more(
            _family, _trunk, GUIDANCE
        )
        PARAMETERS[f"{_cascade}_{_trunk.replace('_fpn', '_sfpn')}"] = _more(
            _family, _trunk, GUIDANCE + CASCADE
        )
    for _trunk in PYRAMIDS:
        PARAMETERS[f"{_cascade}_{_trunk}"] = _more(_family, _trunk, CASCADE)
#: ExLarge's trunk without its classifier, 252,813,504; Mask R-CNN's heads and its pyramid on wider
#: maps, 21,134,064; and global context in 70 blocks, 33,015,040
PARAMETERS["mask_rcnn_shufflenet_v2_gap_fpn"] = (306_962_608, 606_656, 303_870_704)
#: without the norms, as torchvision, detectron2 and Detectron count theirs
PEERS = [
    (41_755_286, "faster_rcnn_resnet50_fpn", {"num_classes": 90, "style": "torchvision"}),
    (44_401_393, "mask_rcnn_resnet50_fpn", {"num_classes": 90, "style": "torchvision"}),
    (59_137_258, "keypoint_rcnn_resnet50_fpn", {"style": "torchvision"}),
    (44_322_913, "mask_rcnn_resnet50_fpn", {"class_agnostic_mask": True}),
    (44_347_573, "mask_rcnn_resnet50_fpn", {"style": "detectron"}),
    (35_918_065, "mask_rcnn_resnet50_c4", {"style": "detectron"}),
    (102_096_053, "mask_rcnn_resnext101_64x4d_fpn", {"style": "detectron"}),
    (72_038_046 - 53_120, "cascade_mask_rcnn_resnet50_fpn", {}),
]
SLOW = ("resnet101", "resnext101", "shufflenet")


def _each(names):
    """The names, those of large trunks marked as slow."""
    return [
        pytest.param(name, marks=pytest.mark.slow if any(s in name for s in SLOW) else ())
        for name in names
    ]


def _without_weights(name, **options):
    with keras.StatelessScope(initialize_variables=False):
        return tfseg.build(name, **options)


def _size(variables):
    return sum(int(np.prod(v.shape)) for v in variables)


def _counts(model):
    """All parameters, the trunk's norms' and the trainable ones."""
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    scales = _size(v for norm in norms for v in (norm.gamma, norm.beta))
    statistics = _size(v for norm in norms for v in (norm.moving_mean, norm.moving_variance))
    return _size(model.weights) - statistics, scales, _size(model.trainable_variables)


def test_every_detector_is_pinned():
    found = [name for task in registry.DETECTION_TASKS for name in tfseg.list_models(task)]
    assert sorted(PARAMETERS) == sorted(found)


@pytest.mark.parametrize("name", _each(PARAMETERS))
def test_parameters_and_layer_names(name):
    model = _without_weights(name)
    assert _counts(model) == PARAMETERS[name]
    names = [layer.name for layer in model.layers if layer.weights]
    assert len(set(names)) == len(names)
    assert _size(v for layer in model.layers for v in layer.weights) == _size(model.weights)


@pytest.mark.parametrize(("expected", "name", "options"), PEERS)
def test_parameters_of_peers(expected, name, options):
    total, norms, _ = _counts(_without_weights(name, **options))
    assert total - norms == expected


@pytest.mark.parametrize(("agnostic", "expected"), [(False, 116_718_848), (True, 53_234_448)])
def test_parameters_of_the_dense_mask_head(agnostic, expected):
    """Mask R-CNN, table 2e, at 28 x 28."""
    options = {"mask_head": "mlp", "class_agnostic_mask": agnostic}
    head = _without_weights("mask_rcnn_mobilenet_v2_fpn", num_classes=80, **options).mask_head
    assert _size(head.weights) == expected


def test_what_is_frozen():
    assert _size(_without_weights("mask_rcnn_resnet50_fpn", freeze_at=0).trainable_variables) == (
        44_343_216
    )
    free = _without_weights("mask_rcnn_resnet50_fpn", freeze_at=0, norm="sync_batch")
    assert _size(free.trainable_variables) == 44_396_336


@pytest.mark.parametrize(
    ("style", "last"), [("torchvision", (7 * 60, 9 * 64)), ("detectron2", (7 * 64, 9 * 64))]
)
def test_torchvision_divides_the_image_by_the_map(style, last):
    """480 / 64 is 7.5: p6 has 8 rows, of 60 pixels in torchvision and of 64 in detectron2."""
    model = _without_weights("faster_rcnn_resnet50_fpn", style=style)
    sides = {"p2": (120, 160), "p3": (60, 80), "p4": (30, 40), "p5": (15, 20), "p6": (8, 10)}
    features = {level: np.zeros((1, *side, 1), np.float32) for level, side in sides.items()}
    *others, p6 = [np.asarray(level) for level in model.anchors(features)]
    corner = (p6[-3:, :2] + p6[-3:, 2:])[:, ::-1] / 2
    np.testing.assert_allclose(corner, [last] * 3)
    for stride, anchors in zip((4, 8, 16, 32), others, strict=True):
        corner = (anchors[-1, :2] + anchors[-1, 2:])[::-1] / 2
        np.testing.assert_allclose(corner, (480 - stride, 640 - stride))


#: on the smallest trunk all heads of instances, and a cascade on a guided pyramid
WHOLE = {
    "keypoint_rcnn_mobilenet_v2_fpn": {"keypoints": 3, "mask": True},
    "cascade_mask_rcnn_mobilenet_v2_sfpn": {},
}


def _detector(name, num_classes=2):
    """With few proposals."""
    options = {"max_detections": 5, "score_threshold": 0.0, **WHOLE[name]}
    found = tfseg.build(name, num_classes, **options)
    found.thresholds = replace(found.thresholds, pre_nms=(60, 60), post_nms=(40, 40))
    return found


@pytest.fixture(scope="module", params=WHOLE)
def model(request):
    keras.utils.set_random_seed(0)
    return _detector(request.param)


def _images(batch, seed=0, size=(65, 97)):
    return np.random.default_rng(seed).normal(size=(batch, *size, 3)).astype("float32")


def _run(model, images, *arguments):
    outputs = model(images, *arguments, training=False)
    return {key: keras.ops.convert_to_numpy(value) for key, value in outputs.items()}


@pytest.mark.parametrize("batch", [1, 3])
def test_outputs(model, batch):
    found = _run(model, _images(batch))
    shapes = {
        "boxes": (batch, 5, 4),
        "scores": (batch, 5),
        "classes": (batch, 5),
        "valid": (batch, 5),
        "masks": (batch, 5, 28, 28),
    }
    if model.keypoint_head is not None:
        shapes["keypoints"] = (batch, 5, 3, 3)
    assert {key: value.shape for key, value in found.items()} == shapes
    assert found["valid"].all()
    boxes = found["boxes"]
    assert (boxes >= 0).all()
    assert (boxes[..., 2:] >= boxes[..., :2]).all()
    assert (boxes <= [97, 65, 97, 65]).all()
    assert (np.diff(found["scores"]) <= 0).all()
    assert set(np.unique(found["classes"])) <= {0, 1}
    assert ((found["masks"] >= 0) & (found["masks"] <= 1)).all()


def test_an_image_of_a_batch_is_found_in_as_alone(model):
    """Padding and company change nothing but the last bits."""
    images = _images(3)
    together = _run(model, images)
    for index in range(3):
        alone = _run(model, images[index : index + 1])
        for key in ("boxes", "scores", "masks"):
            np.testing.assert_allclose(alone[key][0], together[key][index], atol=1e-2)


def test_no_proposals(model):
    """An image without size holds no region."""
    sizes = np.float32([[65, 97], [0, 0]])
    found = _run(model, _images(2), sizes)
    assert found["valid"][0].all()
    assert not any(value[1].any() for value in found.values())


def test_no_detections(model, monkeypatch):
    monkeypatch.setattr(model, "thresholds", replace(model.thresholds, score=1.0))
    found = _run(model, _images(2))
    assert not any(value.any() for value in found.values())


@pytest.mark.parametrize("bad", [np.nan, np.inf])
@pytest.mark.parametrize("place", [0, 1])
def test_what_is_not_finite_stays_in_its_image(model, bad, place):
    images = _images(3)
    expected = _run(model, images)
    images[place, 30, 40] = bad
    found = _run(model, images)
    others = [index for index in range(3) if index != place]
    for key, value in found.items():
        assert np.isfinite(value).all(), key
        np.testing.assert_allclose(value[others], expected[key][others], atol=1e-5, err_msg=key)


def test_every_variable_has_a_gradient(model):
    boxes = np.float32([[[5, 5, 60, 50], [20, 10, 90, 60]]])

    def outputs():
        features = model.features(_images(1), training=True)
        logits, deltas = model.rpn_outputs(features)
        found = [*logits, *deltas, model.mask_outputs(features, boxes, training=True)]
        for stage in range(len(model.box_stages)):
            found += model.box_outputs(features, boxes, training=True, stage=stage)[:2]
        if model.keypoint_head is not None:
            found.append(model.keypoint_outputs(features, boxes, training=True))
        if model.semantic_head is not None:
            found.append(model.semantic_outputs(features, _images(1), training=True))
        return found

    with tf.GradientTape() as tape:
        # A random projection: of a plain sum some parts have none.
        loss = tf.add_n(
            [
                tf.reduce_sum(y * tf.random.stateless_normal(y.shape, (1, index)))
                for index, y in enumerate(outputs())
            ]
        )
    gradients = tape.gradient(loss, model.trainable_variables)
    for v, g in zip(model.trainable_variables, gradients, strict=True):
        assert np.isfinite(g).all(), v.path
        assert np.abs(g).max() > 0, v.path


@pytest.mark.parametrize("extension", ["weights.h5", "safetensors"])
def test_weights_come_back(model, tmp_path, extension):
    path = tmp_path / f"own.{extension}"
    model.save_weights(path) if extension == "weights.h5" else save_weights(model, path)
    again = _detector(model.spec.name)
    load_weights(again, path)
    images = _images(1)
    expected, found = _run(model, images), _run(again, images)
    for key, value in expected.items():
        np.testing.assert_allclose(found[key], value, atol=1e-5, err_msg=key)


def test_another_number_of_classes_takes_all_but_the_heads(model, tmp_path, caplog):
    path = tmp_path / "own.safetensors"
    save_weights(model, path)
    again = _detector(model.spec.name, num_classes=3)
    load_weights(again, path, skip_heads=True)
    number, fc2 = "", "roi_heads.box_head.fc2"
    if len(model.box_stages) > 1:
        number, fc2 = ".2", "roi_heads.box_head.2.fc2"
        # A cascade's boxes are for all classes; the semantic branch learns the classes.
        assert "bbox_pred" not in caplog.text
        assert "sem_seg_head.predictor" in caplog.text
    else:
        assert "roi_heads.box_predictor.bbox_pred" in caplog.text
    assert f"roi_heads.box_predictor{number}.cls_score" in caplog.text
    assert "score_lowres" not in caplog.text
    for ours, theirs in zip(
        again.get_layer(fc2).weights, model.get_layer(fc2).weights, strict=True
    ):
        np.testing.assert_array_equal(ours, theirs)
