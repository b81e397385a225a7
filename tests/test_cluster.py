"""TF_CONFIG, written and read."""

import json

import pytest
from click.testing import CliRunner

from tfseg.cli import main
from tfseg.cluster import cluster_size, tf_config


def environment(**found):
    return {"TF_CONFIG": json.dumps(found)}


def test_writes_what_tensorflow_reads():
    assert json.loads(tf_config("a:1, b:22", 1)) == {
        "cluster": {"worker": ["a:1", "b:22"]},
        "task": {"type": "worker", "index": 1},
    }


@pytest.mark.parametrize(
    ("workers", "index", "message"),
    [
        ("a:1,b", 0, "'b' is not host:port"),
        (":1", 0, "':1' is not host:port"),
        ("a:1,a:1", 0, "a:1 is there twice"),
        ("a:1,b:1", 2, "numbered 0 to 1"),
        ("a:1,b:1", -1, "numbered 0 to 1"),
    ],
)
def test_refuses_what_is_no_cluster(workers, index, message):
    with pytest.raises(ValueError, match=message):
        tf_config(workers, index)


def test_counts_workers():
    assert cluster_size({}) == cluster_size({"TF_CONFIG": ""}) == cluster_size(environment()) == 1
    assert cluster_size({"TF_CONFIG": tf_config("a:1,b:1,c:1", 0)}) == 3
    cluster = {"chief": ["a:1"], "worker": ["b:1", "c:1"]}
    assert cluster_size(environment(cluster=cluster, task={"type": "chief", "index": "0"})) == 3


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be"),
        ("[]", "must be"),
        (json.dumps({"cluster": {"worker": ["a:1"]}}), "must be"),
        (json.dumps({"cluster": {"ps": ["a:1"]}, "task": {"type": "ps", "index": 0}}), "kind ps"),
        (
            json.dumps({"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}}),
            "worker 1, which its cluster lacks",
        ),
    ],
)
def test_says_what_is_wrong_with_tf_config(text, message):
    with pytest.raises(ValueError, match=message):
        cluster_size({"TF_CONFIG": text})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--workers", "a:1,b:1"], "--workers and --worker go together"),
        (["--worker", "1"], "--workers and --worker go together"),
        (["--workers", "a:1,b:1", "--worker", "2"], "numbered 0 to 1"),
    ],
)
def test_train_refuses_half_a_cluster(tmp_path, monkeypatch, options, message):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    config = tmp_path / "config.yaml"
    config.write_text("{}")
    done = CliRunner().invoke(main, ["train", str(config), *options])
    assert done.exit_code != 0
    assert message in done.output
