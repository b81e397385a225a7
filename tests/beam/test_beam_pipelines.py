"""Apache Beam's pipelines, on its runner in this process."""

import base64
import json
from io import BytesIO

import numpy as np
import pytest
import yaml
from click.testing import CliRunner
from detector_stand_in import PLAIN, StandIn
from PIL import Image

import tfseg
from tfseg.cli import main
from tfseg.export import export
from tfseg.export_detector import export_detector
from tfseg.predict import Predictor, predict_files
from tfseg.predict.detection_files import detect_files
from tfseg.predict.detector import DetectionPredictor
from tfseg.predict.panoptic import Combiner

pytest.importorskip("apache_beam", reason="apache-beam is not installed: make test-beam")

CLASSES = ["a", "b", "c", "d", "e"]
SIZES = [(32, 48), (48, 32), (32, 48), (64, 64), (32, 48), (48, 32), (32, 48)]


def _run(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.output


def _content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_prepares_what_processes_do(tmp_path):
    split = {"reader": "shapes", "options": {"size": 32, "count": 12, "seed": 1}}
    experiment = {
        "name": "x",
        "model": {"name": "unet", "num_classes": 5},
        "data": {"train": split, "validation": split},
        "train": {"steps": 1, "batch_size": 1, "optimizer": {"learning_rate": 0.1}},
    }
    config = tmp_path / "x.yaml"
    config.write_text(yaml.safe_dump(experiment))
    words = ["prepare", config, "--shards", 4, "--split", "validation", "--to"]
    _run(*words, tmp_path / "one", "--processes", 1)
    whole = _content(tmp_path / "one")
    out = _run(*words, tmp_path / "two", "--beam", "--", "--direct_num_workers=1")
    assert f"12 samples in 4 shards: {tmp_path / 'two/validation.json'}" in out
    assert _content(tmp_path / "two") == whole
    for name, content in (("00001", None), ("00003", b"damaged")):
        path = tmp_path / f"two/validation-{name}-of-00004.tfrecord"
        path.unlink() if content is None else path.write_bytes(content)
    assert "4 shards, 2 of which were there" in _run(*words, tmp_path / "two", "--beam")
    assert _content(tmp_path / "two") == whole
    assert "need --beam" in _run(*words, tmp_path / "two", "--", "--runner=x", code=2)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    """Seven images of three sizes, one of them gray, one a turned JPEG, and three bad files."""
    folder, rng = tmp_path_factory.mktemp("images"), np.random.default_rng(0)
    for number, size in enumerate(SIZES):
        pixels = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels[..., 0] if number == 2 else pixels).save(folder / f"{number}.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(folder / "3.png").save(folder / "3.jpg", exif=exif)
    (folder / "3.png").unlink()
    (folder / "1b.png").write_bytes((folder / "1.png").read_bytes()[:-200])
    (folder / "4b.png").write_bytes(b"")
    (folder / "5b.png").write_text("no image")
    return folder


GOOD = ["0", "1", "2", "3", "4", "5", "6"]


def _lines(folder, kind="results"):
    return [
        json.loads(line)
        for path in sorted(folder.glob(f"{kind}-*.jsonl"))
        for line in path.read_text().splitlines()
    ]


def test_labels_are_those_of_predict(images, tmp_path):
    options = {"in_channels": 3, "base_filters": 2, "padding": "same"}
    model = tfseg.build("unet", num_classes=5, **options)
    preprocessing = model.spec.preprocessing
    export(model, tmp_path / "model", preprocessing=preprocessing, classes=CLASSES)
    files = sorted(path for path in images.iterdir() if path.stem in GOOD)
    predict_files(
        Predictor(model, preprocessing),
        files,
        tmp_path / "labels",
        classes=CLASSES,
        progress=False,
    )
    to = tmp_path / "to"
    words = ["predict-many", tmp_path / "model", images / "*", "--to", to, "--shards", 4]
    out = _run(*words, "--batch-size", 2)
    assert f"10 images in 4 shards, 3 could not be predicted: {to}" in out
    found = _lines(to)
    assert [line["file"] for line in found] == [str(path) for path in files]
    assert [tuple(line["size"]) for line in found] == SIZES
    for line, path in zip(found, files, strict=True):
        png = (tmp_path / f"labels/labels/{path.stem}.png").read_bytes()
        assert base64.b64decode(line["labels_png"]) == png
    errors = [json.loads(line) for line in (to / "errors.jsonl").read_text().splitlines()]
    assert [error["file"] for error in errors] == [str(images / f"{n}b.png") for n in (1, 4, 5)]
    assert "damaged or truncated" in errors[0]["error"]
    assert "is empty (0 bytes)" in errors[1]["error"]
    check_resumes(words, to)


def check_resumes(words, to):
    whole = _content(to)
    times = {path: path.stat().st_mtime_ns for path in to.glob("results-*")}
    assert len(times) == 4
    for number in (1, 3):
        (to / f"results-{number:05d}-of-00004.jsonl").unlink()
    (to / "results-00001-of-00004.jsonl.abc.partial").write_text("half")
    out = _run(*words)
    assert "10 images in 4 shards, 2 of which were there, 3 could not be predicted" in out
    assert _content(to) == whole
    kept = [path.name[8:13] for path, t in times.items() if path.stat().st_mtime_ns == t]
    assert sorted(kept) == ["00000", "00002"]
    assert "4 of which were there" in _run(*words)
    others = [*words[:2], words[2].parent / "[0-4].*", *words[3:]]
    assert "another run: count, files differ; give another folder" in _run(*others, code=1)


def test_objects_are_those_of_predict(images, tmp_path):
    model = StandIn(keypoints=True, semantic=True)
    names, ids, stuff = ["x", "y", "z"], [10, 20, 30], {1: "sky", 2: "sea"}
    export_detector(
        model,
        tmp_path / "model",
        preprocessing=PLAIN,
        classes=names,
        short_side=64,
        long_side=96,
        info={"category_ids": ids, "stuff": stuff},
    )
    detector = DetectionPredictor(model, PLAIN, short_side=64, long_side=96, score_threshold=0.35)
    files = sorted(path for path in images.iterdir() if path.stem in GOOD)
    combiner = Combiner(dict(zip(ids, names, strict=True)), stuff)
    out, to = tmp_path / "out", tmp_path / "to"
    how = {"classes": names, "category_ids": ids, "progress": False}
    detect_files(detector, files, out, combiner=combiner, **how)
    listed = tmp_path / "list.txt"
    listed.write_text("\n".join(map(str, [*files, images / "absent.png"])))
    words = ["predict-many", tmp_path / "model/1", listed, "--to", to, "--score-threshold", 0.35]
    assert "8 images in 1 shards, 1 could not be predicted" in _run(*words)
    found = _lines(to)
    expected = json.loads((out / "detections.json").read_text())
    assert len(expected) == 2 * len(files)
    assert_close([result for line in found for result in line["results"]], expected)
    (error,) = _lines(to, "errors")
    assert "absent.png" in error["error"]
    told = json.loads((out / "panoptic.json").read_text())["annotations"]
    for line, annotation in zip(found, told, strict=True):
        assert line["image_id"] == annotation["image_id"]
        assert_close(line["segments_info"], annotation["segments_info"])
        png = base64.b64decode(line["panoptic_png"])
        assert png == (out / "panoptic" / annotation["file_name"]).read_bytes()


def assert_close(found, expected):
    """Equal, but for the last bits of numbers."""
    if isinstance(expected, list):
        assert len(found) == len(expected)
        for one, other in zip(found, expected, strict=True):
            assert_close(one, other)
    elif isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_close(found[key], value)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-4)
    else:
        assert found == expected


def test_mistakes_and_sizes_that_the_network_does_not_take(images, tmp_path):
    """A U-Net of valid convolutions takes sides of 16 k + 60."""
    words = ["predict-many", tmp_path / "model", tmp_path / "*.png", "--to", tmp_path / "to"]
    (tmp_path / "model").mkdir()
    assert "saved_model.pb is missing" in _run(*words, code=1)
    model = tfseg.build("unet", num_classes=2, in_channels=1, base_filters=2)
    export(model, tmp_path / "model", preprocessing=model.spec.preprocessing)
    Image.fromarray(np.zeros((188, 204), np.uint8)).save(tmp_path / "fits.png")
    Image.fromarray(np.zeros((60, 60), np.uint8)).save(tmp_path / "other.png")
    assert "is no image; give a pattern" in _run(*words[:2], tmp_path / "*.no", *words[3:], code=1)
    assert "is no image; give a pattern" in _run(*words[:2], images, *words[3:], code=1)
    assert "a pattern of images needs quotation marks" in _run(*words, "b.png", code=2)
    assert "2 images for 3 shards" in _run(*words, "--shards", 3, code=1)
    _run(*words)
    to = tmp_path / "to"
    (line,) = _lines(to)
    assert (line["file"], line["size"]) == (str(tmp_path / "fits.png"), [188, 204])
    labels = np.array(Image.open(BytesIO(base64.b64decode(line["labels_png"]))))
    assert labels.shape == (4, 20)
    (error,) = _lines(to, "errors")
    assert "the model fails on images of 60 x 60 pixels" in error["error"]
