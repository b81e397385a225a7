"""The command line end to end, on a run of a few steps."""

import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
import yaml
from click.testing import CliRunner
from PIL import Image

import tfseg
from tfseg.cli import main
from tfseg.predict import DenseCRF

CONFIG = {
    "name": "tiny",
    "model": {
        "name": "unet",
        "num_classes": 5,
        "options": {"in_channels": 3, "base_filters": 2, "padding": "same"},
    },
    "data": {
        "train": {"reader": "shapes", "options": {"size": 32, "count": 8, "seed": 1}},
        "validation": {"reader": "shapes", "options": {"size": [32, 40], "count": 3, "seed": 2}},
        "transforms": [{"flip": {}}, {"crop": {"size": [32, 32]}}],
    },
    "train": {
        "steps": 4,
        "batch_size": 2,
        "validate_every": 2,
        "optimizer": {"name": "adam", "learning_rate": 0.001},
    },
}


def _run(*words, code=0):
    result = CliRunner().invoke(main, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run folder."""
    folder = tmp_path_factory.mktemp("cli")
    config = folder / "tiny.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    out = _run("train", config, "--run-dir", folder / "run", "--set", "seed=7")
    assert "best mean_iou: 0." in out
    return folder / "run"


def test_a_run_folder_says_how_it_came_about(run):
    saved = yaml.safe_load((run / "config.yaml").read_text())
    assert saved["seed"] == 7
    assert saved["train"]["optimizer"]["momentum"] == 0.9
    facts = json.loads((run / "environment.json").read_text())
    assert facts["seed"] == 7
    assert facts["versions"]["tensorflow"] == tf.__version__
    assert facts["classes"][0] == "background"
    log = (run / "log.csv").read_text().splitlines()
    assert "mean_iou" in log[0]
    assert sum(",validation," in line for line in log) == 2


def test_evaluate(run):
    out = _run("evaluate", run, "--pictures", 2)
    assert "circle" in out
    scores = json.loads((run / "evaluation-validation.json").read_text())
    assert scores["images"] == 3
    assert 0 <= scores["mean_iou"] <= 1
    # every pixel at the original resolution is scored
    assert sum(c["pixels"] for c in scores["per_class"]) == 3 * 32 * 40
    with Image.open(run / "evaluation-validation.png") as sheet:
        assert sheet.width > 600
    last = _run("evaluate", run, "--weights", "last", "--split", "train", "--pictures", 0)
    assert "evaluation-train.json" in last
    assert not (run / "evaluation-train.png").exists()


def test_a_crf_refines(run, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (40, 56, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.png")
    crf = ("--set", "predict.crf=deeplab_v1")
    _run("evaluate", run, *crf, "--pictures", 0, "--no-progress")
    scores = json.loads((run / "evaluation-validation.json").read_text())
    assert scores["predict"]["crf"]["preset"] == "deeplab_v1"
    maps = []
    for name, options in {"plain": (), "refined": crf}.items():
        _run("predict", run, tmp_path / "a.png", "--out", tmp_path / name, "--probabilities",
             *options)  # fmt: skip
        maps.append(np.load(tmp_path / name / "probabilities/a.npz")["probabilities"])
    expected = DenseCRF.preset("deeplab_v1")(noise, maps[0])
    np.testing.assert_allclose(maps[1], expected, atol=5e-3)
    assert abs(expected - maps[0]).max() > 0.02
    out = _run("evaluate", run, "--set", "predict.crf=deeplab_v3", code=1)
    assert "did you mean 'deeplab_v" in out


def test_rare_labels_are_boosted(run, tmp_path):
    Image.fromarray(np.zeros((30, 50, 3), np.uint8)).save(tmp_path / "a.png")
    boost = ("--set", "predict.label_boost=1.0")
    _run("evaluate", run, *boost, "--pictures", 0, "--no-progress")
    counted = json.loads((run / "label_pixels.json").read_text())
    assert sum(counted["pixels"].values()) == 8 * 32 * 32
    scores = json.loads((run / "evaluation-validation.json").read_text())
    assert scores["predict"]["label_boost"] == 1.0
    maps = []
    for name, options in {"plain": (), "boosted": boost}.items():
        _run("predict", run, tmp_path / "a.png", "--out", tmp_path / name, "--probabilities",
             *options)  # fmt: skip
        maps.append(np.load(tmp_path / name / "probabilities/a.npz")["probabilities"])
    pixels = np.array(list(counted["pixels"].values()))
    expected = maps[0].astype(float) / (pixels / pixels.sum())
    expected /= expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(maps[1], expected, atol=2e-3)


def test_predict_files_and_folders(run, tmp_path):
    rng = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for name, size in {"a": (30, 50), "b": (41, 33)}.items():
        image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(image).save(tmp_path / "in" / f"{name}.png")
    _run("predict", run, tmp_path / "in", "--out", tmp_path / "out", "--probabilities")
    with Image.open(tmp_path / "out/labels/b.png") as label:
        assert label.size == (33, 41)
        assert np.array(label).max() < 5
    probabilities = np.load(tmp_path / "out/probabilities/a.npz")["probabilities"]
    assert probabilities.shape == (30, 50, 5)
    _run("predict", run, tmp_path / "in/a.png", "--out", tmp_path / "flip", "--set",
         "predict.flip=true")  # fmt: skip
    assert (tmp_path / "flip/overlays/a.png").exists()


def test_export_and_reload(run, tmp_path):
    _run("export", run, "--to", tmp_path / "m")
    assert "2" in _run("export", run, "--to", tmp_path / "m", "--dtype", "bfloat16", "--png")
    png = tf.io.encode_png(np.zeros((20, 24, 3), np.uint8))[None]
    labels = []
    for version, dtype in ((1, "float32"), (2, "bfloat16")):
        path = tmp_path / "m" / str(version)
        serve = tf.saved_model.load(path).signatures
        assert ("png" in serve) == (version == 2)
        labels.append(serve["serving_default"](image_bytes=png)["labels"].numpy())
        facts = json.loads((path / "assets.extra/model_info.json").read_text())
        assert facts["compute_dtype"] == facts["export"]["dtype"] == dtype
        assert facts["scores"]["training"] == json.loads((run / "best.json").read_text())
        assert facts["task"] == "semantic"
        assert len(facts["classes"]) == len(facts["colors"]) == 5
    assert labels[0].shape == (1, 20, 24)
    assert (labels[0] == labels[1]).mean() > 0.9


@pytest.mark.parametrize("option", [["--xla"], ["--freeze"], ["--png"], ["--dtype", "bfloat16"]])
def test_options_of_saved_models_are_not_of_files(run, tmp_path, option):
    folder = tmp_path / "m"
    out = _run("export", run, "--to", folder, "--format", "tflite", *option, code=1)
    assert f"{' '.join(option)} is for SavedModels, not for --format tflite" in out
    assert not folder.exists()


def test_resume_of_a_finished_run_changes_nothing(run, tmp_path):
    before = (run / "last.weights.h5").read_bytes()
    config = tmp_path / "again.yaml"
    config.write_text((run / "config.yaml").read_text())
    _run("train", config, "--run-dir", run, "--resume")
    import h5py

    with h5py.File(run / "last.weights.h5") as after, h5py.File(_file(before, tmp_path)) as old:
        names = []
        old.visititems(lambda name, item: names.append(name) if hasattr(item, "shape") else None)
        assert names
        for name in names:
            np.testing.assert_array_equal(after[name], old[name])


def _file(data, folder):
    path = folder / "before.h5"
    path.write_bytes(data)
    return path


def test_samples_cached_on_disk_lie_in_the_run_folder(tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    short = ("--set", "train.steps=2", "--set", "data.validation=null")
    _run("train", path, "--run-dir", tmp_path / "r", "--set", "data.cache=disk", *short)
    assert list((tmp_path / "r/cache").glob("*.npz"))


def test_models_are_listed():
    out = _run("models", "--task", "semantic", "--match", "unet*")
    assert [line.split()[0] for line in out.splitlines()] == ["unet", "unet_release"]


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("model.num_classes=4", "data.train has 5 classes"),
        ("model.name=unett", "did you mean 'unet'"),
        ("train.stesp=3", "did you mean 'steps'"),
        ("data.transforms=[{flop: {}}]", "did you mean 'flip'"),
        ("data.train.reader=shape", "did you mean 'shapes'"),
        ("predict.mode=overlap_tile", "needs tile_size"),
        ("predict.crf=deconvnett", "did you mean 'deconvnet'"),
        ("data.transforms=[]", None),
    ],
)
def test_mistakes_end_in_a_message_before_any_work(tmp_path, assignment, message):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    if message is None:  # images of 32x32 need no crop but have no known size either
        message = "end data.transforms with a crop or a resize"
    out = _run("train", path, "--run-dir", tmp_path / "r", "--set", assignment, code=1)
    assert out.startswith("Error: ")
    assert message in out
    assert not (tmp_path / "r/log.csv").exists()


def test_a_used_run_folder_is_not_overwritten(run, tmp_path):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(CONFIG))
    assert "--resume" in _run("train", path, "--run-dir", run, code=1)


def test_what_is_no_run_is_named(tmp_path):
    assert "no run folder" in _run("evaluate", tmp_path, code=1)


def test_stages_follow_each_other(tmp_path):
    """The second stage starts from the first one's weights; a finished one is not run again."""
    staged = {**CONFIG, "name": "staged"}
    staged["stages"] = [
        {"name": "first", "set": {"train.steps": 2}},
        {"name": "second", "set": {"train.optimizer.learning_rate": 1e-30, "train.steps": 3}},
    ]
    config = tmp_path / "staged.yaml"
    config.write_text(yaml.safe_dump(staged))
    _run("train", config, "--run-dir", tmp_path / "run")
    saved = yaml.safe_load((tmp_path / "run/second/config.yaml").read_text())
    assert saved["name"] == "staged/second"
    models = []
    for stage in ("first", "second"):
        model = tfseg.build("unet", 5, in_channels=3, base_filters=2, padding="same")
        model.load_weights(tmp_path / "run" / stage / "last.weights.h5")
        models.append(model)
    for a, b in zip(*(m.get_weights() for m in models), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-20)
    out = _run("train", config, "--run-dir", tmp_path / "run", "--resume")
    assert "stage staged/first is finished" in out
    assert "stage staged/second is finished" in out


def test_a_later_stages_mistake_is_found_before_the_first_is_trained(tmp_path):
    wrong = {**CONFIG, "stages": [{"name": "a"}, {"name": "b", "set": {"model.name": "unett"}}]}
    config = tmp_path / "wrong.yaml"
    config.write_text(yaml.safe_dump(wrong))
    out = _run("train", config, "--run-dir", tmp_path / "run", code=1)
    assert "did you mean 'unet'" in out
    assert not (tmp_path / "run").exists()


def test_frozen_layers_do_not_train(tmp_path):
    config = tmp_path / "frozen.yaml"
    config.write_text(yaml.safe_dump(CONFIG))
    out = _run(
        "train", config, "--run-dir", tmp_path / "a", "--set", "train.frozen=[cnv_*]", code=1
    )
    assert "no layer of 'unet' fits 'cnv_*'" in out
    _run("train", config, "--run-dir", tmp_path / "b", "--set", "train.frozen=['conv_d*']")
    keras.utils.set_random_seed(0)
    fresh = tfseg.build("unet", 5, in_channels=3, base_filters=2, padding="same")
    trained = tfseg.build("unet", 5, in_channels=3, base_filters=2, padding="same")
    trained.load_weights(tmp_path / "b/last.weights.h5")
    for layer in fresh.layers:
        before, after = layer.get_weights(), trained.get_layer(layer.name).get_weights()
        for a, b in zip(before[:1], after[:1], strict=True):
            assert np.array_equal(a, b) == layer.name.startswith("conv_d"), layer.name


def test_help_and_import_wait_for_nothing_heavy():
    """What takes seconds to import is imported by the command that needs it."""
    code = (
        "import sys, click.testing, tfseg, tfseg.cli\n"
        "for words in ([], *([name] for name in tfseg.cli.main.commands)):\n"
        "    answer = click.testing.CliRunner().invoke(tfseg.cli.main, [*words, '--help'])\n"
        "    assert answer.exit_code == 0 and 'Usage:' in answer.output, answer.output\n"
        "heavy = {'tensorflow', 'keras', 'numpy', 'scipy', 'matplotlib', 'pydantic', 'PIL'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"
