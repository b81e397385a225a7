"""The script that measures all networks: what it plans, keeps and makes a table of."""

import benchmark_models
import benchmark_records
import benchmark_sizes
import benchmark_table
import keras
import pytest

import tfseg
from tfseg.benchmark import BenchmarkError, Job, OutOfMemory, OutOfTime

MACHINE = {"cores": 2, "processor": "a processor", "system": "a system", "python": "3.11"}
RUN = {"command": "python scripts/benchmark_models.py --runs 3", "load_average": 0.25}


def result(seconds, peak, torch_seconds=None):
    """As `tfseg.benchmark.run` gives it, of one or two contenders."""
    times = {"tfseg": seconds} | ({} if torch_seconds is None else {"torch": torch_seconds})
    rows = [
        {
            "name": name,
            "versions": {name: "1.0"},
            "macs": 2_500_000_000,
            "seconds": [value] * 3,
            "median_seconds": value,
            "images_per_second": 1 / value,
            "peak_bytes": peak,
        }
        for name, value in times.items()
    ]
    ratios = {} if torch_seconds is None else {"torch": torch_seconds / seconds}
    return {"machine": MACHINE, "contenders": rows, "ratios": ratios}


def records_of(*entries):
    """Records by key, of (model, mode, peer, content)."""
    found = {}
    for model, mode, peer, content in entries:
        job = benchmark_sizes.job(model, mode)
        record = benchmark_records.new(job, peer, run=RUN, **content)
        found[benchmark_records.key(job, peer)] = record
    return found


def test_every_network_has_inputs():
    labelled = [*tfseg.list_models("classification"), *tfseg.list_models("semantic")]
    assert sorted(benchmark_sizes.INPUTS) == sorted(labelled)


@pytest.mark.slow
@pytest.mark.parametrize("name", benchmark_sizes.INPUTS)
def test_inputs_are_such_as_the_network_takes(name):
    inputs = benchmark_sizes.INPUTS[name]
    with keras.StatelessScope(initialize_variables=False):
        model = tfseg.build(name)
        for size in (inputs.infer, inputs.train):
            shape = model.compute_output_shape((1, *size, model.inputs[0].shape[-1]))
            assert min(shape[1:]) > 0


def test_network_without_inputs_is_named(monkeypatch):
    known = {"classification": ["other"], "semantic": ["unet", "new_net"]}
    monkeypatch.setattr(benchmark_models, "list_models", known.get)
    with pytest.raises(ValueError, match="no input size for other, new_net"):
        benchmark_models.chosen(())


def test_patterns_choose():
    names = benchmark_models.chosen(("fcn*s_vgg16", "unet"))
    assert names == ["fcn32s_vgg16", "fcn16s_vgg16", "fcn8s_vgg16", "unet"]
    with pytest.raises(ValueError, match="no model matches 'fcm"):
        benchmark_models.chosen(("unet", "fcm*"))


def test_plan_has_a_peer_where_there_is_one():
    tasks = benchmark_models.plan(
        ["deconvnet_vgg16", "psp_mobilenet_v2"], ("infer", "train"), "torch"
    )
    assert tasks == [
        (Job("deconvnet_vgg16", 21, 224, 224, 1, "infer"), "torch"),
        (Job("deconvnet_vgg16", 21, 224, 224, 2, "train"), "torch"),
        (Job("psp_mobilenet_v2", 21, 473, 473, 1, "infer"), ""),
        (Job("psp_mobilenet_v2", 21, 473, 473, 2, "train"), ""),
    ]
    assert [peer for _, peer in benchmark_models.plan(["unet"], ("infer",), None)] == [""]


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (OutOfMemory("torch: killed"), "out of memory"),
        (OutOfTime("torch: slow"), "out of time"),
        (BenchmarkError("torch: a traceback"), "failed"),
    ],
)
def test_failures_are_recorded(monkeypatch, error, kind):
    def run(*arguments, **options):
        raise error

    monkeypatch.setattr(benchmark_models.benchmark, "run", run)
    job = benchmark_sizes.job("unet", "infer")
    assert benchmark_models.measure(job, [], 3, 60.0)["error"]["kind"] == kind


def test_interrupted_run_continues(monkeypatch, tmp_path):
    measured = []

    def measure(job, contenders, runs, timeout):
        peer = contenders[1].name if len(contenders) > 1 else ""
        measured.append((job.model, peer))
        if job.model == "vgg16" and peer:
            return {"error": {"kind": "out of memory", "message": "torch: killed"}}
        if job.model == "resnet50":
            return {"error": {"kind": "out of time", "message": "tfseg: not done in time: 60 s"}}
        if job.model == "unet":
            raise KeyboardInterrupt
        return {"result": result(0.5, 2**20)}

    monkeypatch.setattr(benchmark_models, "measure", measure)
    store = tmp_path / "figures.json"
    models = ["alexnet", "vgg16", "resnet50", "unet"]
    tasks = benchmark_models.plan(models, ("infer",), "torch")
    with pytest.raises(KeyboardInterrupt):
        benchmark_models.measure_all(tasks, store, 3, 60.0, again=False)
    # a pair that failed leaves tfseg to be measured alone, if it was not tfseg that was too slow
    assert measured == [
        ("alexnet", "torch"),
        ("vgg16", "torch"),
        ("vgg16", ""),
        ("resnet50", "torch"),
        ("unet", "torch"),
    ]
    measured.clear()
    found = benchmark_models.measure_all(tasks[:3], store, 3, 60.0, again=False)
    assert measured == []
    assert found == benchmark_records.load(store)
    assert len(found) == 4
    benchmark_models.measure_all(tasks[:1], store, 3, 60.0, again=True)
    assert measured == [("alexnet", "torch")]


@pytest.mark.parametrize("content", ["", "[]", '{"records": {}}', '{"version": 9, "records": {}}'])
def test_foreign_file_is_refused(tmp_path, content):
    path = tmp_path / "figures.json"
    path.write_text(content)
    with pytest.raises(ValueError, match="holds no records"):
        benchmark_records.load(path)


def cells(document, model):
    """A row's cells of inference and of training."""
    line = next(line for line in document.splitlines() if line.startswith(f"| `{model}`"))
    row = [cell.strip() for cell in line.strip("|").split("|")]
    return row[1:7], row[7:]


def test_table():
    memory = {"error": {"kind": "out of memory", "message": "torch: its process was killed"}}
    slow = {"error": {"kind": "out of time", "message": "tfseg: not done in time: 60 s"}}
    trace = "tfseg: Traceback\n  a line\nValueError: wrong"
    found = records_of(
        ("unet", "infer", "torch", {"result": result(2.0, 3 * 2**30, torch_seconds=3.0)}),
        ("unet", "train", "torch", {"result": result(0.05, 2**30, torch_seconds=0.02)}),
        ("vgg16", "infer", "torch", memory),
        ("vgg16", "infer", "", {"result": result(0.25, 2**30)}),
        ("vgg16", "train", "torch", memory),
        ("vgg16", "train", "", {"error": {"kind": "failed", "message": trace}}),
        ("psp_mobilenet_v2", "infer", "", {"result": result(0.25, 2**30)}),
        ("resnet50", "infer", "torch", slow),
    )
    document = benchmark_table.document(found)
    infer, train = cells(document, "unet")
    assert infer == ["572 x 572", "2.5", "2000", "0.50", "3072", "1.50"]
    assert train == ["572 x 572", "50.0", "1024", "0.40"]
    infer, train = cells(document, "vgg16")
    assert infer == ["224 x 224", "2.5", "250", "4.0", "1024", "out of memory"]
    assert train == ["224 x 224", "failed", "", "out of memory"]
    infer, train = cells(document, "psp_mobilenet_v2")
    assert infer == ["473 x 473", "2.5", "250", "4.0", "1024", ""]
    assert train == ["2 of 473 x 473", "not measured", "", ""]
    infer, train = cells(document, "resnet50")
    assert infer == ["224 x 224", "", "out of time", "", "", "out of time"]
    assert train == ["224 x 224", "not measured", "", ""]
    assert "- machine: 2 cores, a processor, a system\n" in document
    assert "- load average before it began: 0.25\n" in document
    assert "- command: `python scripts/benchmark_models.py --runs 3`\n" in document
    assert "- torch: 1.0\n" in document
    assert "median of 3 steps" in document
    assert "- U-Net, figure 1: `unet`\n" in document
    assert "- vgg16 train 1x224x224: failed: ValueError: wrong\n" in document
    # in the order of the sizes, whatever that of the records
    assert document.index("| `vgg16`") < document.index("| `psp_mob") < document.index("| `unet`")


def test_no_figures_no_table():
    with pytest.raises(ValueError, match="no figures"):
        benchmark_table.document({})
