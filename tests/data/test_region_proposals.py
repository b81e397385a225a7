"""Proposals from a file of COCO's results: read, moved and in batches."""

import json

import numpy as np
import pytest
import tensorflow as tf

from tfseg.data import DataError
from tfseg.data.detection import detection_dataset
from tfseg.data.proposals import ProposedRegions, read_proposals
from tfseg.data.transforms import make_transforms
from tfseg.predict.detections import Detections
from tfseg.registry import Preprocessing

HEIGHT, WIDTH = 40, 60


class Objects:
    """Three images, 5, 8 and 9, of 40 x 60 pixels with an object each; the file lists 7, too."""

    classes, colors, ignore_label, flip_pairs = ("a",), None, 255, ()

    def __len__(self):
        return 3

    def keys(self):
        return ("name", "image", "boxes", "labels", "crowd")

    def __getitem__(self, index):
        return {
            "name": str(range(3)[index]),
            "image": np.zeros((HEIGHT, WIDTH, 3), np.uint8),
            "boxes": np.array([[10, 10, 20, 30]], np.float32),
            "labels": np.array([index], np.int32),
            "crowd": np.array([False]),
        }

    def image_id(self, index):
        return (5, 8, 9)[index]

    def known_images(self):
        return {5, 7, 8, 9}


def _result(image, bbox, score, **more):
    return {"image_id": image, "category_id": 1, "bbox": bbox, "score": score, **more}


RESULTS = [
    _result(9, [30, 20, 40, 50], 0.25),
    _result(5, [1, 2, 3, 4], 0.5),
    _result(5, [2.5, 2, 3, 4], 0.75, segmentation={"size": [1, 1], "counts": "1"}),
    _result(5, [0, 0, 9, 9], 0.5),
    _result(7, [0, 0, 9, 9], 1),
    _result(5, [60, 3, 2, 2], 0.9),
    _result(9, [3, 3, 0, 5], 0.8),
    _result(9, [-4, -6, 10, 10], -3),
]


@pytest.fixture
def write(tmp_path):
    def written(results):
        path = tmp_path / "boxes.json"
        path.write_text(results if isinstance(results, str) else json.dumps(results))
        return path

    return written


def test_by_hand(write):
    found = read_proposals(write(RESULTS), {5, 7, 8, 9}, 1000)
    assert sorted(found) == [5, 7, 9]
    # By falling score, of equal ones as in the file.
    expected = [[60, 3, 62, 5], [2.5, 2, 5.5, 6], [1, 2, 4, 6], [0, 0, 9, 9]]
    np.testing.assert_array_equal(found[5], expected)
    assert found[5].dtype == np.float32
    np.testing.assert_array_equal(read_proposals(write(RESULTS), {5, 7, 9}, 2)[5], expected[:2])


def test_what_a_detector_writes_is_read(write):
    boxes = np.array([[1, 2, 11.5, 22], [0, 0, 60, 40]], np.float32)
    found = Detections((HEIGHT, WIDTH), boxes, np.array([0.9, 0.3]), np.array([0, 0]))
    path = write(found.to_coco(9, [1]))
    np.testing.assert_array_equal(read_proposals(path, {9}, 1000)[9], boxes)


def test_samples_have_what_lies_in_their_images(write):
    reader = ProposedRegions(Objects(), write(RESULTS))
    assert reader.keys() == (*Objects().keys(), "proposals")
    assert set(reader[0]) == set(reader.keys())
    np.testing.assert_array_equal(
        reader[0]["proposals"], [[2.5, 2, 5.5, 6], [1, 2, 4, 6], [0, 0, 9, 9]]
    )
    assert reader[1]["proposals"].shape == (0, 4)
    np.testing.assert_array_equal(reader[2]["proposals"], [[30, 20, 60, 40], [0, 0, 6, 4]])
    assert {reader[index]["proposals"].dtype.name for index in range(3)} == {"float32"}
    assert (reader.classes, reader.image_id(2), len(reader)) == (("a",), 9, 3)
    # The best one does not count less for lying outside.
    np.testing.assert_array_equal(
        ProposedRegions(Objects(), write(RESULTS), 2)[0]["proposals"], [[2.5, 2, 5.5, 6]]
    )


@pytest.mark.parametrize(
    ("results", "message"),
    [
        ([], r"boxes\.json has no boxes"),
        ("", r"boxes\.json is no JSON of COCO's results: the file"),
        ('{"images": []}', r"no JSON of COCO's results: the file: Input should be a valid array"),
        (
            [*RESULTS[:1], _result(6, [0, 0, 1, 1], 1)],
            r"1 results are of unknown images: 1 \(.*6",
        ),
        ([*RESULTS[:1], _result("9", [0, 0, 1, 1], 1)], r"1\.image_id: .*valid integer"),
        ([*RESULTS[:2], _result(9, [0, 0, 1], 1)], r"2\.bbox\.3: Field required"),
        ([*RESULTS[:2], _result(9, [0, 0, 1, 1, 1], 1)], r"2\.bbox: "),
        ([_result(9, [0, 0, "1", 1], 1)], r"0\.bbox\.2: .*valid number"),
        ([_result(9, [0, 0, 1e9, 1], 1)], r"0\.bbox\.2: .*less than"),
        ([_result(9, [0, float("nan"), 1, 1], 1)], r"0\.bbox\.1: "),
        ([_result(9, [0, float("inf"), 1, 1], 1)], r"0\.bbox\.1: "),
        ([_result(9, [0, 0, 1, 1], float("inf"))], r"0\.score: "),
        ([_result(9, [0, 0, 1, 1], None)], r"0\.score: "),
        ([{"image_id": 9, "score": 1}], r"0\.bbox: Field required"),
        (
            [_result(9, [5, 5, -1, 1], 1)],
            r"1 results have a box of a negative width or .*: 0 \(im",
        ),
        (RESULTS[4:5], r"has no boxes of the split's 3 images"),
    ],
)
def test_mistakes_are_found_on_opening(write, results, message):
    with pytest.raises(DataError, match=message):
        ProposedRegions(Objects(), write(results))


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match=r"no\.json is missing"):
        ProposedRegions(Objects(), tmp_path / "no.json")


def _moving(spec, sample):
    """The transform of a sample, as a function of the seed."""
    (transform,) = make_transforms([spec])
    tensors = {key: tf.constant(value) for key, value in sample.items()}
    graph = tf.function(lambda seed: transform(tensors, seed))

    def moved(seed):
        return {key: value.numpy() for key, value in graph(tf.constant([seed, 3])).items()}

    return moved


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "spec",
    [
        {"flip": {"vertical": True}},
        {"rotate90": {}},
        {"rotate": {"degrees": 20}},
        {"crop": {"size": [20, 25]}},
        {"crop": {"size": [50, 70]}},
        {"crop_fraction": {"range": [0.3, 0.6], "max_size": [30, 40]}},
        {"resize": {"size": [50, 30]}},
        {"resize_short_side": {"sizes": [25]}},
        {"scale": {}},
        {"mirror_pad": {"margin": 5}},
    ],
)
def test_proposals_move_as_boxes_do(spec, seed):
    drawn = np.random.default_rng(seed).uniform(0, 1, (20, 2, 2)) * [WIDTH, HEIGHT]
    boxes = np.concatenate([drawn.min(1), drawn.max(1)], 1).astype(np.float32)
    sample = Objects()[0] | {
        "boxes": boxes,
        "labels": np.arange(20),
        "crowd": np.zeros(20, bool),
        "proposals": boxes[::-1],
    }
    out = _moving(spec, sample)(seed)
    np.testing.assert_array_equal(out["proposals"], out["boxes"][::-1])
    assert len(out["labels"]) == len(out["boxes"]) > 0


def test_objects_and_proposals_leave_apart():
    """Neither takes the other along, and boxes that are made tight are those of objects alone."""
    sample = Objects()[0] | {
        "proposals": np.array([[8, 8, 30, 32], [0, 0, 1, 40]], np.float32),
        "edges": np.array([[[12, 12, 12, 28], [18, 28, 18, 12]]], np.float32),
    }
    large, small = ({"crop": {"size": size}} for size in ([34, 58], [6, 6]))
    large, small = _moving(large, sample), _moving(small, sample)
    left = set()
    for seed in range(12):
        out = large(seed)
        x1, y1, x2, y2 = out["boxes"][0]
        assert (x2 - x1, y2 - y1) == (6, 16)
        np.testing.assert_array_equal(out["proposals"][0], [x1 - 4, y1 - 4, x2 + 12, y2 + 4])
        for moved in (out, small(seed)):
            left.add((len(moved["boxes"]), len(moved["proposals"])))
    assert {(1, 1), (1, 2), (0, 1), (0, 0)} <= left


def _batches(reader, count, **options):
    dataset = detection_dataset(
        reader,
        [],
        preprocessing=Preprocessing("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)),
        batch_size=3,
        seed=0,
        **options,
    )
    return dataset, list(dataset.take(count).as_numpy_iterator())


def test_batches(write):
    reader = ProposedRegions(Objects(), write(RESULTS))
    dataset, (batch,) = _batches(reader, 1, proposals=True)
    assert dataset.element_spec["proposals"] == tf.TensorSpec((3, None, 4), tf.float32)
    assert dataset.element_spec["proposed"] == tf.TensorSpec((3, None), tf.bool)
    assert batch["proposals"].shape == (3, 4, 4)  # 3 at most, padded to a power of two
    for name, boxes, there in zip(
        batch["name"], batch["proposals"], batch["proposed"], strict=True
    ):
        expected = reader[int(name)]["proposals"]
        np.testing.assert_array_equal(there, np.arange(4) < len(expected))
        np.testing.assert_array_equal(boxes[there], expected)
        assert not boxes[~there].any()
    assert batch["boxes"].shape == (3, 1, 4)
    assert not {"proposals", "proposed"} & set(_batches(reader, 1)[1][0])


def test_batches_without_any_proposal(write):
    reader = ProposedRegions(Objects(), write([_result(5, [0, 0, 0, 0], 1)]))
    _, (batch,) = _batches(reader, 1, proposals=True)
    assert batch["proposals"].shape == (3, 1, 4)
    assert not batch["proposed"].any()


def test_samples_without_proposals():
    with pytest.raises(ValueError, match="the samples have no proposals to train on"):
        _batches(Objects(), 1, proposals=True)
