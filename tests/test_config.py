import pytest
import yaml

from tfseg import config

GOOD = {
    "name": "x",
    "model": {"name": "unet", "num_classes": 2},
    "data": {"train": {"reader": "shapes"}},
    "train": {"steps": 10, "batch_size": 2, "optimizer": {"learning_rate": 0.1}},
}


def test_round_trip(tmp_path):
    path = tmp_path / "c.yaml"
    experiment = config.parse(GOOD)
    path.write_text(config.dump(experiment))
    assert config.load(path) == experiment


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("train.optimizer.learning_rte=1", r"learning_rte: .*did you mean 'learning_rate'"),
        ("data.validaton={reader: a}", r"data.validaton: .*did you mean 'validation'"),
        ("data.validation={raeder: a}", r"data.validation.raeder: .*did you mean 'reader'"),
        ("modle=1", r"modle: unknown key; did you mean 'model'"),
        ("train.steps=many", r"train.steps: .*integer.* got 'many'"),
        ("train.steps=0", r"train.steps: .*greater than 0"),
        ("train.precision=float8", r"train.precision: .*'bfloat16'"),
        ("data.transforms=[{a: {}, b: {}}]", r"transforms.0 must have one key"),
    ],
)
def test_mistakes_name_the_key_and_what_is_right(tmp_path, assignment, message):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(GOOD))
    with pytest.raises(config.ConfigError, match=message) as caught:
        config.load(path, [assignment])
    assert str(path) in str(caught.value)


def test_missing_keys_are_all_named():
    with pytest.raises(config.ConfigError) as caught:
        config.parse({"name": "x", "model": {"name": "unet"}})
    for key in ("model.num_classes", "data", "train"):
        assert f"{key}: missing" in str(caught.value)


def test_overrides_do_not_change_the_original():
    changed = config.override(GOOD, ["train.steps=20", "model.options.base_filters=4"])
    assert changed["train"]["steps"] == 20
    assert changed["model"]["options"] == {"base_filters": 4}
    assert GOOD["train"]["steps"] == 10
    assert "options" not in GOOD["model"]


@pytest.mark.parametrize("assignment", ["train.steps", "=3", "name.sub=1", "name=[1"])
def test_bad_assignments(assignment):
    with pytest.raises(config.ConfigError, match="--set"):
        config.override(GOOD, [assignment])


@pytest.mark.parametrize("text", ["- a list", "a: [1", "!!python/object/apply:os.getcwd []"])
def test_bad_files(tmp_path, text):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(config.ConfigError, match=str(path)):
        config.load(path)


def test_missing_file_is_named():
    with pytest.raises(config.ConfigError, match=r"cannot read the config nowhere\.yaml"):
        config.load("nowhere.yaml")


def _scheduled(**train):
    tree = {key: GOOD[key] for key in ("name", "model", "data")}
    schedule = {"name": "step", "milestones": [600, 800], "warmup_steps": 50}
    common = {"steps": 900, "optimizer": {"learning_rate": 0.02}, "schedule": schedule}
    return tree | {"train": common | {"validate_every": 300} | train}


@pytest.mark.parametrize(
    ("batch", "rate", "steps", "milestones", "warmup", "every"),
    [
        (16, 0.02, 900, [600, 800], 50, 300),
        (4, 0.005, 3600, [2400, 3200], 200, 1200),
        (24, 0.03, 600, [400, 533], 33, 200),
    ],
)
def test_a_schedule_fits_its_batch(tmp_path, batch, rate, steps, milestones, warmup, every):
    """By hand. 800 * 16 / 24 = 533.3, 50 * 16 / 24 = 33.3."""
    found = config.parse(_scheduled(batch_size=batch, reference_batch=16))
    train = found.train
    assert train.optimizer.learning_rate == pytest.approx(rate)
    assert (train.steps, train.validate_every) == (steps, every)
    assert (train.schedule.milestones, train.schedule.warmup_steps) == (milestones, warmup)
    # A run folder's config is scaled already, and can be scaled to another batch.
    path = tmp_path / "resolved.yaml"
    path.write_text(config.dump(found))
    assert config.load(path) == found
    again = config.load(path, ["train.batch_size=16"]).train
    assert again.optimizer.learning_rate == pytest.approx(0.02)
    assert again.steps == pytest.approx(900, abs=1)


def test_without_a_reference_nothing_is_scaled():
    train = config.parse(_scheduled(batch_size=4)).train
    assert (train.steps, train.optimizer.learning_rate) == (900, 0.02)
    assert train.reference_batch is None
    train = config.parse(_scheduled(batch_size=4, reference_batch=2, validate_every=None)).train
    assert (train.steps, train.validate_every) == (450, None)


def test_stages(tmp_path):
    path = tmp_path / "staged.yaml"
    tree = dict(GOOD)
    tree["stages"] = [{"name": "a"}, {"name": "b", "set": {"train.steps": 7, "seed": 3}}]
    path.write_text(yaml.safe_dump(tree))
    first, second = config.load_stages(path, ["seed=5"])
    assert (first.name, second.name) == (f"{tree['name']}/a", f"{tree['name']}/b")
    assert (first.train.steps, second.train.steps) == (tree["train"]["steps"], 7)
    assert first.seed == second.seed == 5  # the command line has the last word
    tree["stages"] = [{"name": "a"}, {"name": "a"}]
    path.write_text(yaml.safe_dump(tree))
    with pytest.raises(config.ConfigError, match="two or more of different names"):
        config.load_stages(path)


LAUGHS = "a: &a [x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f"name: {'9' * 5000}", "is no YAML: Exceeds the limit"),
        ("name: 2024-13-45", "is no YAML: month must be in 1..12"),
        ("name: !!int ''", "is no YAML"),
        ("name: !!timestamp x", "is no YAML"),
        ("name: !!bool x", "is no YAML"),
        ("name: " + "[" * 30_000, "is no YAML: maximum recursion depth"),
        ("name: " + "[" * 60 + "]" * 60, "too deep: the limits are"),
        ("name: &a [*a]", "too deep: the limits are"),
        (LAUGHS, "too large, with its aliases written out"),
        ("a: &a " + "x" * 2000 + "\nb: [" + "*a," * 100 + "]", "with its aliases written out"),
        ("name: " + "x" * 2**17, "is larger than 131072 bytes"),
        ("[1, 2]: 3", "is no YAML"),
        ("name: \x00", "is no YAML"),
    ],
)
def test_hostile_files(tmp_path, text, message):
    path = tmp_path / "c.yaml"
    path.write_text(text)
    with pytest.raises(config.ConfigError, match=message):
        config.load_stages(path)
