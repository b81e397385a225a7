import json

import benchmark_contenders
import pytest

from tfseg import benchmark
from tfseg.benchmark import BenchmarkError, Contender, Job, OutOfMemory, OutOfTime

JOB = Job("psp_resnet50", 5, 65, 97, 2, "infer")


def test_result_schema_and_arithmetic():
    contenders = [
        Contender("ours", benchmark_contenders.counting),
        Contender("theirs", benchmark_contenders.idle),
    ]
    result = benchmark.run(JOB, contenders, runs=3)
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    assert result["job"] == {
        "model": "psp_resnet50",
        "num_classes": 5,
        "height": 65,
        "width": 97,
        "batch": 2,
        "mode": "infer",
    }
    assert result["machine"]["cores"] >= 1
    ours, theirs = result["contenders"]
    assert (ours["name"], theirs["name"]) == ("ours", "theirs")
    for row in (ours, theirs):
        assert len(row["seconds"]) == 3
        assert row["median_seconds"] == sorted(row["seconds"])[1]
        assert row["images_per_second"] == pytest.approx(2 / row["median_seconds"])
        assert row["peak_bytes"] > 2**20
        # the other contender's count serves both: it is the same network
        peak = max(ours["matrix_gflops"], theirs["matrix_gflops"])
        work = 2 * 10 * 2 / row["median_seconds"] / 1e9
        assert row["share_of_peak"] == pytest.approx(work / peak)
    ratio = theirs["median_seconds"] / ours["median_seconds"]
    assert result["ratios"] == {"theirs": pytest.approx(ratio)}
    lines = benchmark.table(result).splitlines()
    assert lines[0].startswith("psp_resnet50 infer, batch 2 of 65x97, 3 runs each")
    assert lines[-1] == f"ours is {ratio:.2f}x theirs"


def test_training_is_three_times_the_work():
    job = Job("psp_resnet50", 5, 65, 97, 2, "train")
    row = benchmark.run(job, [Contender("ours", benchmark_contenders.counting)], runs=1)[
        "contenders"
    ][0]
    work = 3 * 2 * 10 * 2 / row["median_seconds"] / 1e9
    assert row["share_of_peak"] == pytest.approx(work / row["matrix_gflops"])


def test_parts_of_a_step_are_measured_by_name():
    contenders = [
        Contender("ours", benchmark_contenders.parted),
        Contender("theirs", benchmark_contenders.idle),
    ]
    ours, theirs = benchmark.run(JOB, contenders, runs=2)["contenders"]
    assert list(ours["parts"]) == ["short", "long"]
    assert 0.01 <= ours["parts"]["short"] < ours["parts"]["long"]
    assert ours["parts"]["long"] >= 0.05
    assert theirs["parts"] == {}


def test_contender_that_raises_is_named_with_its_traceback():
    contenders = [
        Contender("ours", benchmark_contenders.idle),
        Contender("peer", benchmark_contenders.failing),
    ]
    with pytest.raises(BenchmarkError, match=r"peer: (.|\n)*cannot build psp_resnet50"):
        benchmark.run(JOB, contenders, runs=1)


def test_contender_that_dies_is_named():
    with pytest.raises(BenchmarkError, match="peer: its process ended with code 7"):
        benchmark.run(JOB, [Contender("peer", benchmark_contenders.dying)], runs=1)


def test_contender_that_is_killed_ran_out_of_memory():
    with pytest.raises(OutOfMemory, match="peer: its process was killed"):
        benchmark.run(JOB, [Contender("peer", benchmark_contenders.killed)], runs=1)


def test_contender_that_hangs_runs_out_of_time():
    contenders = [
        Contender("ours", benchmark_contenders.idle),
        Contender("peer", benchmark_contenders.hanging),
    ]
    with pytest.raises(OutOfTime, match="peer"):
        benchmark.run(JOB, contenders, runs=1, timeout=5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"mode": "fit"}, "infer or train"), ({"batch": 0}, "batch"), ({"width": -1}, "width")],
)
def test_jobs_are_checked(changes, message):
    fields = {"num_classes": 2, "height": 8, "width": 8, "batch": 1, "mode": "infer", **changes}
    with pytest.raises(ValueError, match=message):
        Job("unet", **fields)


@pytest.mark.parametrize("name", ["psp_mobilenet_v2", "mobilenet_v2"])
@pytest.mark.parametrize("mode", ["infer", "train"])
def test_tfseg_session_runs_a_network(mode, name):
    session = benchmark.tfseg_session(Job(name, 3, 33, 49, 2, mode))
    session.step()
    session.matrix_product()
    assert session.facts["macs"] > session.facts["parameters"] > 1e6
