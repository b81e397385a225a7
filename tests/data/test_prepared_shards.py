"""Shards of prepared sets: written once, whole or not at all, and what becomes of damage."""

import json
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from prepared_kinds import assert_same, people, prepare_kind, shapes_set

from tfseg.cli import main
from tfseg.data import DataError, open_reader
from tfseg.data.records.framing import RecordFile, frame
from tfseg.data.records.prepare import make_job, prepare, write_shard


def _content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_is_there_and_whole_is_not_written_again(tmp_path):
    name, options, ignore_label = shapes_set(None)

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
    name, options, ignore_label = shapes_set(None)
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
    _, manifest = prepare_kind(shapes_set, tmp_path)
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
    _, manifest = prepare_kind(people, tmp_path, shards=1)
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
    name, options, ignore_label = shapes_set(None)
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


def test_keys_that_are_not_known_are_refused(tmp_path):
    name, options, ignore_label = shapes_set(None)
    job, reader = make_job(name, options, ignore_label, tmp_path, "train", 1)

    class Deep(type(reader)):
        def __getitem__(self, index):
            return {**super().__getitem__(index), "depth": np.zeros((2, 2))}

    with pytest.raises(ValueError, match="samples have 'depth', which prepared sets do not hold"):
        prepare(job, Deep(**options), processes=1)
