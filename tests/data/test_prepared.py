"""Prepared sets: what reader `tfrecord` gives equals what the source gives, and damage is told."""

import json
import signal
import subprocess
import sys
import time
from itertools import islice

import numpy as np
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from panoptic_split import panoptic_examples
from PIL import Image

from tfseg.cli import main
from tfseg.data import DataError, open_reader
from tfseg.data.detection import detection_dataset
from tfseg.data.pipeline import Share, training_dataset
from tfseg.data.records.example import decode, encode
from tfseg.data.records.framing import RecordFile, frame
from tfseg.data.records.prepare import make_job, prepare, write_shard
from tfseg.data.semantic_labels import with_semantic_labels
from tfseg.data.transforms import make_transforms
from tfseg.registry import Preprocessing

RGB = Preprocessing("rgb", (10.0, 20.0, 30.0), (2.0, 2.0, 2.0))
RNG = np.random.default_rng(0)
POINTS = ["nose", "left_eye", "right_eye"]


def _save(path, pixels, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def _folder(root):
    """A turned JPEG, a gray 16-bit TIFF, and an RGBA and a palette PNG, with labels over 255."""
    image = RNG.integers(0, 256, (20, 30, 4)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    _save(root / "images/a.jpg", image[..., :3], exif=exif)
    _save(root / "images/b.tif", (image[..., 0].astype(np.uint16) * 200))
    _save(root / "images/c.png", image)
    Image.fromarray(image[..., :3]).quantize(8).save(root / "images/d.png")
    for name, size in (("a", (30, 20)), ("b", (20, 30)), ("c", (20, 30)), ("d", (20, 30))):
        _save(root / f"masks/{name}.png", RNG.integers(0, 300, size).astype(np.uint16))
    options = {"images": str(root / "images"), "masks": str(root / "masks"), "num_classes": 300}
    return "folder", options, -1


def _cells(root):
    ids = np.zeros((40, 48), np.uint16)
    ids[4:20, 4:20], ids[4:20, 20:36], ids[26:36, 8:30] = 3, 700, 12
    for n in range(3):
        _save(root / f"01/t{n:03d}.tif", RNG.integers(0, 256, (40, 48)).astype(np.uint8))
        _save(root / f"01_GT/SEG/man_seg{n:03d}.tif", ids)
    return "cell_tracking", {"root": str(root), "border_weights": True}, 255


def _people(root):
    """Polygons that overlap, an RLE, a crowd, keypoints, a gray image, one without objects."""
    sizes = [(24, 32), (30, 20), (16, 16)]
    for number, size in enumerate(sizes):
        pixels = RNG.integers(0, 256, (*size, 3)).astype(np.uint8)
        _save(root / f"images/{number}.png", pixels[..., 0] if number == 1 else pixels)

    def annotation(number, image, box, **more):
        facts = {"id": number, "image_id": image, "category_id": 7, "bbox": box, "iscrowd": 0}
        return {**facts, "area": box[2] * box[3] - 0.25, **more}

    tree = {
        "images": [
            {"id": 5 - n, "file_name": f"{n}.png", "height": h, "width": w}
            for n, (h, w) in enumerate(sizes)
        ],
        "categories": [
            {"id": 7, "name": "person", "keypoints": POINTS, "skeleton": [[1, 2], [1, 3]]}
        ],
        "annotations": [
            annotation(
                20,
                5,
                [6, 2, 6, 6],
                segmentation=[[6.5, 2, 10, 2, 10, 6, 6, 6], [8, 4, 12, 4, 12, 8, 8, 8]],
                keypoints=[7, 3, 2, 9, 4, 1, 0, 0, 0],
            ),
            annotation(
                21, 5, [1, 2, 1, 2], segmentation={"size": [24, 32], "counts": [26, 2, 740]}
            ),
            annotation(
                22,
                5,
                [8, 4, 9, 9],
                iscrowd=1,
                segmentation={"size": [24, 32], "counts": [200, 60, 508]},
            ),
            annotation(30, 4, [1, 1, 8, 9], segmentation=[[1, 1, 9, 1, 9, 10]]),
        ],
    }
    (root / "people.json").write_text(json.dumps(tree))
    options = {"images": str(root / "images"), "annotations": str(root / "people.json")}
    return "coco", {**options, "keypoints": True, "subset": [0, 3]}, 255


def _voc(root):
    """Two objects with a void border around them."""
    (root / "ImageSets/Segmentation").mkdir(parents=True)
    (root / "ImageSets/Segmentation/train.txt").write_text("one\ntwo\n")
    classes = np.zeros((20, 30), np.uint8)
    classes[2:9, 2:12], classes[3:8, 3:11], classes[10:18, 12:25] = 255, 4, 15
    objects = np.where(classes == 4, 1, np.where(classes == 15, 2, classes)).astype(np.uint8)
    for name in ("one", "two"):
        _save(root / f"JPEGImages/{name}.jpg", RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8))
        _save(root / f"SegmentationClass/{name}.png", classes)
        _save(root / f"SegmentationObject/{name}.png", objects)
    return "voc_instances", {"root": str(root), "split": "train"}, 255


def _voc_windows(root):
    return "voc_objects", _voc(root)[1], 255


def _shapes(root):
    return "shapes", {"size": [32, 40], "count": 11, "seed": 3}, 255


def _prepare(kind, folder, shards=2, processes=1):
    """A source of some kind, prepared: the source's reader, and the manifest."""
    name, options, ignore_label = kind(folder / "source")
    job, reader = make_job(name, options, ignore_label, folder / "to", "train", shards)
    return reader, prepare(job, reader, processes=processes).manifest


def assert_same(found, expected):
    assert set(found) == set(expected)
    for key, value in expected.items():
        if key == "name":
            assert found[key] == value
        else:
            assert found[key].dtype == value.dtype, key
            np.testing.assert_array_equal(found[key], value, strict=True, err_msg=key)


@pytest.mark.parametrize("kind", [_folder, _cells, _people, _voc, _voc_windows, _shapes])
def test_samples_are_the_sources(kind, tmp_path):
    (tmp_path / "source").mkdir()
    source, manifest = _prepare(kind, tmp_path)
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
    for kind, copied in ((_folder, 4), (_people, 3), (_voc, 2), (_voc_windows, 0)):
        folder = tmp_path / kind.__name__
        (folder / "source").mkdir(parents=True)
        _, manifest = _prepare(kind, folder, shards=1)
        files = {p.read_bytes() for p in (folder / "source").rglob("*") if p.is_file()}
        assert sum(decode(r)["image"] in files for r in _records(manifest)) == copied


def _records(manifest):
    shards = sorted(manifest.parent.glob("*.tfrecord"))
    return [r.numpy() for r in tf.data.TFRecordDataset([str(path) for path in shards])]


def test_tensorflow_reads_the_records(tmp_path):
    (tmp_path / "source").mkdir()
    source, manifest = _prepare(_people, tmp_path)
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
    source, manifest = _prepare(_shapes, tmp_path, shards=4)
    prepared = open_reader("tfrecord", path=str(manifest))
    transforms = make_transforms([{"flip": {}}, {"scale": {}}, {"crop": {"size": [16, 16]}}])
    for start, share in ((0, Share()), (2, Share(1, 2))):
        how = {"preprocessing": RGB, "batch_size": 4, "seed": 5, "start_step": start}
        pairs = zip(
            training_dataset(source, transforms, share=share, **how),
            training_dataset(prepared, transforms, share=share, **how),
            strict=True,
        )
        for theirs, ours in islice(pairs, 4):
            assert theirs.keys() == ours.keys()
            for key, value in theirs.items():
                np.testing.assert_array_equal(ours[key], value)


def test_batches_of_objects_are_those_of_the_source(tmp_path):
    (tmp_path / "source").mkdir()
    source, manifest = _prepare(_people, tmp_path, shards=3)
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


def _content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_there_and_whole_is_not_written_again(tmp_path):
    name, options, ignore_label = _shapes(None)

    def run(folder, processes=1):
        job, reader = make_job(name, options, ignore_label, tmp_path / folder, "train", 4)
        return prepare(job, reader, processes=processes)

    assert run("one").written == 4
    whole = _content(tmp_path / "one")
    assert sorted(whole) == [*(f"train-{n:05d}-of-00004.tfrecord" for n in range(4)), "train.json"]
    assert run("two", processes=2).written == 4
    assert _content(tmp_path / "two") == whole
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "one").iterdir()}
    assert run("one").written == 0
    shard = tmp_path / "one/train-00002-of-00004.tfrecord"
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    (tmp_path / "one/train-00003-of-00004.tfrecord").unlink()
    assert run("one").written == 2
    assert _content(tmp_path / "one") == whole
    kept = [p for p, t in times.items() if p.exists() and p.stat().st_mtime_ns == t]
    assert sorted(p.name for p in kept)[:2] == sorted(whole)[:2]
    with pytest.raises(DataError, match=r"train\.json was prepared from another source"):
        make_job(name, {**options, "seed": 4}, ignore_label, tmp_path / "one", "train", 4)


def test_finished_shards_outlive_a_broken_sample(tmp_path):
    name, options, ignore_label = _shapes(None)
    job, reader = make_job(name, options, ignore_label, tmp_path, "train", 4)
    for number in (0, 2):
        write_shard(job, reader, number)
    (tmp_path / ".train-00001-of-00004.tfrecord.abc.partial").write_bytes(b"half")

    class Broken(type(reader)):
        def __getitem__(self, index):
            raise DataError(f"sample {index} is damaged")

    broken = Broken(**options)
    with pytest.raises(DataError, match="sample 2 is damaged"):
        prepare(job, broken, processes=1)
    assert prepare(job, reader, processes=1).written == 2
    assert len(list(tmp_path.iterdir())) == 5


def test_killed_and_run_again(tmp_path):
    data = {"train": {"reader": "shapes", "options": {"size": 48, "count": 120, "seed": 1}}}
    optimizer = {"learning_rate": 0.1}
    experiment = {
        "name": "x",
        "model": {"name": "unet", "num_classes": 5},
        "data": data,
        "train": {"steps": 1, "batch_size": 1, "optimizer": optimizer},
    }
    config = tmp_path / "x.yaml"
    config.write_text(yaml.safe_dump(experiment))
    to = tmp_path / "to"
    words = ["prepare", str(config), "--to", str(to), "--shards", "40", "--processes", "1"]
    process = subprocess.Popen(
        [sys.executable, "-c", "from tfseg.cli import main; main()", *words],
        stderr=subprocess.DEVNULL,
    )
    limit = time.monotonic() + 60
    while len(list(to.glob("*.tfrecord"))) < 2 and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    there = len(list(to.glob("*.tfrecord")))
    assert 2 <= there < 40
    assert not (to / "train.json").exists()
    result = CliRunner().invoke(main, [*words, "--no-progress"])
    assert result.exit_code == 0, result.output
    # A shard may have been finished a moment before its note.
    said = [f"120 samples in 40 shards, {n} of which were there: " for n in (there - 1, there)]
    assert any(text in result.output for text in said)
    reader = open_reader("tfrecord", path=str(to / "train.json"))
    source = open_reader("shapes", **data["train"]["options"])
    for index in (0, 2, 3, 119):
        assert_same(reader[index], source[index])
    assert len(list(to.iterdir())) == 41


@pytest.fixture
def shapes(tmp_path):
    _, manifest = _prepare(_shapes, tmp_path)
    return manifest


def _shard(manifest):
    return manifest.with_name("train-00001-of-00002.tfrecord")


@pytest.mark.parametrize("place", [3, 9, 100, -2])
def test_a_damaged_record_is_named(shapes, place):
    path = _shard(shapes)
    data = bytearray(path.read_bytes())
    data[place] ^= 16
    path.write_bytes(data)
    reader = open_reader("tfrecord", path=str(shapes))
    record = 5 if place < 0 else 0
    with pytest.raises(
        DataError, match=rf"00001-of-00002\.tfrecord is damaged: record {record} of 6"
    ):
        reader[5 + record]
    reader[4]


def test_damaged_sets_are_told_on_opening(shapes):
    def refused(message):
        with pytest.raises(DataError, match=message):
            open_reader("tfrecord", path=str(shapes))

    with pytest.raises(
        ValueError, match=r"prepared with data\.ignore_label 255, the experiment has 7"
    ):
        open_reader("tfrecord", 7, path=str(shapes))
    shard, text = _shard(shapes), shapes.read_text()
    data = shard.read_bytes()
    shard.write_bytes(data[:-5])
    refused(r"1 shards are not of the size that the manifest says: train-00001-of-00002\.tfrecord")
    shard.unlink()
    refused(r"1 shards are missing: train-00001-of-00002\.tfrecord")
    for old, new, message in (
        ('"version": 1', '"version": 2', "version 1"),
        ('"train-00001', '"../train-00001', "a name without folders"),
        ('"records": 6', '"records": 0', "greater than 0"),
    ):
        assert old in text
        shapes.write_text(text.replace(old, new))
        refused(message)
    shapes.unlink()
    refused("train.json is missing")


def test_more_records_than_the_manifest_says(tmp_path):
    (tmp_path / "x").write_bytes(frame(b"a") + frame(b"b"))
    assert RecordFile(tmp_path / "x", 2)[1] == b"b"
    with pytest.raises(DataError, match="more than its 1 records"):
        RecordFile(tmp_path / "x", 1)[0]
    with pytest.raises(DataError, match="record 2 of 3: the file ends before it"):
        RecordFile(tmp_path / "x", 3)[0]
    (tmp_path / "x").write_bytes(frame(b"abc")[:-2])
    with pytest.raises(DataError, match="record 0 of 1: the file ends within it"):
        RecordFile(tmp_path / "x", 1)[0]


def test_wrong_records_with_right_checksums_end_in_data_errors(tmp_path):
    (tmp_path / "source").mkdir()
    _, manifest = _prepare(_people, tmp_path, shards=1)
    path, rng = manifest.with_name("train-00000-of-00001.tfrecord"), np.random.default_rng(1)
    records = [bytearray(RecordFile(path, 3)[number]) for number in range(3)]
    failed = 0
    for _ in range(100):
        changed = [bytearray(record) for record in records]
        for record in changed:
            for place in rng.integers(0, len(record), 3):
                record[place] = rng.integers(0, 256)
        data = b"".join(frame(bytes(record)) for record in changed)
        path.write_bytes(data)
        tree = json.loads(manifest.read_text())
        tree["shards"][0]["bytes"] = len(data)
        manifest.write_text(json.dumps(tree))
        prepared = open_reader("tfrecord", path=str(manifest))
        for index in range(3):
            try:
                sample = prepared[index]
                prepared.void_mask(index, sample["image"].shape[:2])
            except DataError:
                failed += 1
    assert failed > 100


def test_mistakes(tmp_path):
    name, options, ignore_label = _shapes(None)
    for shards in (0, 12):
        with pytest.raises(ValueError, match=f"there are 11 samples for {shards} shards"):
            make_job(name, options, ignore_label, tmp_path, "train", shards)
    with pytest.raises(ValueError, match="prepared already"):
        make_job("tfrecord", {}, ignore_label, tmp_path, "train")
    job, reader = make_job(name, options, ignore_label, tmp_path, "train", 2)
    with pytest.raises(ValueError, match="processes must be at least 1"):
        prepare(job, reader, processes=0)
    job.folder.rename(tmp_path.with_name("gone"))
    with pytest.raises(DataError, match=r"\.tfrecord cannot be written: No such file"):
        write_shard(job, reader, 0)
