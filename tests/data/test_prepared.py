"""Prepared sets: what reader `tfrecord` gives equals what the source gives."""

from itertools import islice

import numpy as np
import pytest
import tensorflow as tf
from panoptic_split import panoptic_examples
from prepared_kinds import (
    assert_same,
    cells,
    folder_set,
    people,
    prepare_kind,
    shapes_set,
    voc,
    voc_windows,
)

from tfseg.data import open_reader
from tfseg.data.detection import detection_dataset
from tfseg.data.pipeline import Share, training_dataset
from tfseg.data.records.example import decode, encode
from tfseg.data.records.framing import frame
from tfseg.data.records.prepare import make_job, prepare
from tfseg.data.semantic_labels import with_semantic_labels
from tfseg.data.transforms import make_transforms
from tfseg.registry import Preprocessing

RGB = Preprocessing("rgb", (10.0, 20.0, 30.0), (2.0, 2.0, 2.0))


@pytest.mark.parametrize("kind", [folder_set, cells, people, voc, voc_windows, shapes_set])
def test_samples_are_the_sources(kind, tmp_path):
    (tmp_path / "source").mkdir()
    source, manifest = prepare_kind(kind, tmp_path)
    prepared = open_reader("tfrecord", source.ignore_label, path=str(manifest))
    assert (len(prepared), prepared.classes, prepared.keys()) == (
        len(source),
        source.classes,
        source.keys(),
    )
    np.testing.assert_array_equal(prepared.colors, source.colors)
    for index in range(len(source)):
        assert_same(prepared[index], source[index])
    assert hasattr(prepared, "truth") == hasattr(source, "truth")
    if hasattr(source, "truth"):
        assert_same_objects(prepared, source)


def assert_same_objects(prepared, source):
    for name in ("category_ids", "keypoint_names", "skeleton", "flip_pairs", "semantic_classes"):
        assert getattr(prepared, name) == getattr(source, name), name
    assert prepared.truth() == source.truth()
    assert set(prepared.known_images()) == set(source.known_images())
    for index in range(len(source)):
        assert prepared.image_id(index) == source.image_id(index)
        size = source[index]["image"].shape[:2]
        void = source.void_mask(index, size)
        np.testing.assert_array_equal(prepared.void_mask(index, size), void, strict=True)


def test_panoptic_samples_are_the_sources(shared, tmp_path):
    split = panoptic_examples(shared("data/panoptic_sample/sample_data"), tmp_path)
    options = {**split["options"], "subset": [0, 2]}
    job, source = make_job("coco", options, 255, tmp_path / "to", "validation", 1)
    prepared = open_reader("tfrecord", path=str(prepare(job, source, processes=1).manifest))
    assert_same_objects(prepared, source)
    for name in ("categories", "classes", "things", "stuff"):
        assert getattr(prepared.semantic, name) == getattr(source.semantic, name)
    for index in range(len(source)):
        assert_same(prepared[index], source[index])
        size = source[index]["image"].shape[:2]
        found = prepared.semantic.segments(prepared.image_id(index), size)
        expected = source.semantic.segments(source.image_id(index), size)
        np.testing.assert_array_equal(found[0], expected[0], strict=True)
        assert found[1] == expected[1]


def test_image_files_are_copied_as_they_are(tmp_path):
    for kind, copied in ((folder_set, 4), (people, 3), (voc, 2), (voc_windows, 0)):
        folder = tmp_path / kind.__name__
        (folder / "source").mkdir(parents=True)
        _, manifest = prepare_kind(kind, folder, shards=1)
        files = {p.read_bytes() for p in (folder / "source").rglob("*") if p.is_file()}
        assert sum(decode(r)["image"] in files for r in _records(manifest)) == copied


def _records(manifest):
    shards = sorted(manifest.parent.glob("*.tfrecord"))
    return [r.numpy() for r in tf.data.TFRecordDataset([str(path) for path in shards])]


def test_tensorflow_reads_the_records(tmp_path):
    (tmp_path / "source").mkdir()
    source, manifest = prepare_kind(people, tmp_path)
    features = {
        "image": tf.io.FixedLenFeature([], tf.string),
        "boxes": tf.io.RaggedFeature(tf.float32),
        "ids": tf.io.RaggedFeature(tf.int64),
    }
    for record, sample in zip(_records(manifest), source, strict=True):
        found = tf.io.parse_single_example(record, features)
        np.testing.assert_array_equal(found["boxes"], sample["boxes"].ravel())
        np.testing.assert_array_equal(found["ids"], sample["ids"])
        assert tf.io.decode_image(found["image"]).shape[:2] == sample["image"].shape[:2]


def test_files_are_tensorflows_byte_for_byte(tmp_path):
    features = {"a": b"\x00x", "b": np.array([1.5, -2], np.float32), "c": np.array([2**40, -1])}
    example = tf.train.Example.FromString(encode(features))
    assert example.features.feature["c"].int64_list.value == [2**40, -1]
    found = decode(example.SerializeToString())
    assert found["a"] == b"\x00x"
    np.testing.assert_array_equal(found["b"], features["b"], strict=True)
    np.testing.assert_array_equal(found["c"], features["c"], strict=True)
    with tf.io.TFRecordWriter(str(tmp_path / "theirs")) as writer:
        writer.write(b"")
        writer.write(encode(features))
    assert (tmp_path / "theirs").read_bytes() == frame(b"") + frame(encode(features))


def test_batches_are_those_of_the_source(tmp_path):
    source, manifest = prepare_kind(shapes_set, tmp_path, shards=4)
    prepared = open_reader("tfrecord", path=str(manifest))
    transforms = make_transforms([{"flip": {}}, {"crop": {"size": [16, 16]}}])
    datasets = [
        training_dataset(
            reader,
            transforms,
            preprocessing=RGB,
            batch_size=4,
            seed=5,
            start_step=2,
            share=Share(1, 2),
        )
        for reader in (source, prepared)
    ]
    for theirs, ours in islice(zip(*datasets, strict=True), 8):
        assert theirs.keys() == ours.keys()
        for key, value in theirs.items():
            np.testing.assert_array_equal(ours[key], value)


def test_batches_of_objects_are_those_of_the_source(tmp_path):
    (tmp_path / "source").mkdir()
    source, manifest = prepare_kind(people, tmp_path, shards=3)
    prepared = open_reader("tfrecord", path=str(manifest))
    datasets = [
        detection_dataset(
            with_semantic_labels(reader, "instances"),
            make_transforms([{"flip": {"pairs": [[1, 2]]}}]),
            preprocessing=RGB,
            batch_size=2,
            seed=5,
            masks=True,
            keypoints=True,
            semantic=True,
        )
        for reader in (source, prepared)
    ]
    for theirs, ours in islice(zip(*datasets, strict=True), 4):
        assert theirs.keys() == ours.keys()
        assert "edges" in ours
        for key, value in theirs.items():
            np.testing.assert_array_equal(ours[key], value)
