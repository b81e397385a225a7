"""The CSV log."""

import pytest

from tfseg.train import RunDirError
from tfseg.train.logs import CsvLog


def test_columns_appear_as_they_are_needed(tmp_path):
    log = CsvLog(tmp_path / "log.csv", 0)
    log.add(10, "train", {"loss": 0.5})
    log.add(10, "validation", {"mean_iou": 0.25})
    log.add(20, "train", {"loss": 0.125})
    assert (tmp_path / "log.csv").read_text() == (
        "step,split,loss,mean_iou\n10,train,0.5,\n10,validation,,0.25\n20,train,0.125,\n"
    )


def test_a_resumed_run_drops_what_it_will_write_again(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("step,split,a\n5,train,1\n5,validation,2\n10,train,3\n10,validation,4\n15,tra")
    CsvLog(path, 10).add(15, "train", {"a": 6.0})
    assert path.read_text() == "step,split,a\n5,train,1\n5,validation,2\n10,train,3\n15,train,6.0\n"


@pytest.mark.parametrize(
    "content",
    [
        b"step,split,a\nx,train,1\n",
        b"when,split,a\n5,train,1\n",
        b"step,split,a\n5,train,\x00\xff\n",
        b"step,split,a\n5,train," + b"1" * 200_000 + b"\n",
    ],
    ids=["no number", "no step", "no text", "a long field"],
)
def test_a_damaged_log_is_named(tmp_path, content):
    path = tmp_path / "log.csv"
    path.write_bytes(content)
    with pytest.raises(RunDirError, match=r"log\.csv is damaged .* move it away"):
        CsvLog(path, 10)
    assert path.read_bytes() == content
