"""The headline suite: what it measures, and the document it makes of the figures."""

import benchmark_records
import benchmark_suite
import pytest
from test_benchmark_models import MACHINE, RUN

from tfseg.benchmark import BenchmarkError


def row(name, seconds, share=0.5):
    return {
        "name": name,
        "versions": {name: "1.0"},
        "median_seconds": seconds,
        "quartile_seconds": [seconds * 0.75, seconds * 1.25],
        "peak_bytes": 3 * 2**20,
        "share_of_peak": share,
    }


def measured(job, contenders):
    """tfseg takes 0.2 s, frozen 0.1 s, torch 0.3 s and 0.4 s."""
    seconds = {"tfseg": 0.2, "tfseg frozen": 0.1, "torchvision": 0.3}
    seconds |= {"torch channels last": 0.4, "torch": 0.3}
    rows = [row(contender.name, seconds[contender.name]) for contender in contenders]
    return {"job": {}, "machine": MACHINE, "contenders": rows}


@pytest.fixture
def quick(monkeypatch, tmp_path):
    """Nothing is measured; the jobs asked for are kept."""
    asked = []

    def run(job, contenders, runs, timeout):
        asked.append((job.model, job.mode, job.batch, job.height, [c.name for c in contenders]))
        return measured(job, contenders)

    def detector(job, contenders, runs, parts):
        assert not parts
        return run(job, contenders, runs, None)

    monkeypatch.setattr(benchmark_suite.benchmark, "run", run)
    monkeypatch.setattr(benchmark_suite.benchmark_detectors, "measure", detector)
    monkeypatch.setattr(benchmark_suite.records, "how", lambda script: RUN)
    return asked, tmp_path / "figures.json"


def test_every_network_in_both_modes_beside_both_layouts(quick):
    asked, store = quick
    benchmark_suite.run(store, 3, 60.0)
    models = {(model, mode) for model, mode, *_ in asked}
    headline = {*benchmark_suite.SEMANTIC, "mask_rcnn_resnet50_fpn"}
    assert models == {(model, mode) for model in headline for mode in ("infer", "train")}
    torch = ["torch channels last", "torch"]
    contenders = {(model, mode): names for model, mode, _, _, names in asked}
    assert contenders["unet", "infer"] == ["tfseg", "tfseg frozen", *torch]
    assert contenders["unet", "train"] == ["tfseg", *torch]
    grown = [(batch, side) for model, mode, batch, side, _ in asked if model == "psp_resnet50"]
    # once each: inference, training, and the sizes and batches that are not the usual ones
    assert sorted(grown) == [(1, 233), (1, 473), (1, 713), (2, 473), (2, 473), (4, 473)]


def test_interrupted_suite_continues(quick, monkeypatch):
    asked, store = quick
    whole = benchmark_suite.run(store, 3, 60.0)
    count = len(asked)
    known = benchmark_records.load(store)
    del known[next(iter(known))]
    benchmark_records.save(store, known)
    assert benchmark_suite.run(store, 3, 60.0) == whole
    assert len(asked) == count + 1


def cells_of(text, model):
    """The cells of the lines of a network."""
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines()]
    return [cells for cells in lines if cells[:1] == [f"`{model}`"]]


def test_document(quick, monkeypatch):
    _, store = quick

    def failing(job, contenders, runs, parts):
        raise BenchmarkError("torchvision: cannot")

    monkeypatch.setattr(benchmark_suite.benchmark_detectors, "measure", failing)
    known = benchmark_suite.run(store, 3, 60.0)
    text = benchmark_suite.document(known)
    assert cells_of(text, "unet") == [
        [
            *("`unet`", "572 x 572"),
            *("200 (150..250)", "100 (75.0..125)", "400 (300..500)", "300 (225..375)"),
            *("1.50", "3.00", "3", "3", "50%"),
        ],
        [
            *("`unet`", "572 x 572"),
            *("200 (150..250)", "400 (300..500)", "300 (225..375)"),
            *("1.50", "3", "3", "50%"),
        ],
    ]
    failed = [cells[1:3] for cells in cells_of(text, "mask_rcnn_resnet50_fpn")]
    assert failed == [["800 x 1216", "failed"]] * 2
    growth = cells_of(text[text.index("## How time grows") :], "psp_resnet50")
    sizes = ["233 x 233", "473 x 473", "713 x 713", "2 of 473 x 473", "4 of 473 x 473"]
    assert [cells[1] for cells in growth] == sizes
    del known[next(key for key in known if key.startswith("unet infer"))]
    assert cells_of(benchmark_suite.document(known), "unet")[0][2] == "not measured"
