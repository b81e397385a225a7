"""docs/benchmarks-networks.md, of the records of `benchmark_models.py`."""

from collections.abc import Iterable
from typing import Any

import benchmark_records as records
import benchmark_sizes
from tabulate import tabulate

from tfseg.benchmark import Job

Records = dict[str, dict[str, Any]]
COLUMNS = (
    "model",
    "input",
    "GMACs",
    "ms",
    "images/s",
    "peak MiB",
    "x torch",
    "training input",
    "ms a step",
    "peak MiB",
    "x torch",
)
HEAD = """# Speed of every network

Made by `scripts/benchmark_models.py`; not edited by hand.

{facts}

Weights are random, values float32. Times are the median of {runs} after one step that is not
measured. Each network runs in a process of its own, whose largest resident memory is the peak:
Python, the framework and the building of the network are in it. Inference is the forward pass
of one prepared image to its logits, with weights that can still change (`predict.freeze` makes
it faster). A training step is forward pass, mean cross-entropy, gradients and an update of SGD
with momentum. GMACs are the multiply-accumulates (10^9) of one inference's convolutions and dense
layers. "x torch" is the speed over that of the same network in torch (torchvision's, or
`scripts/torch_peers`; eager, channels last), the two taking steps in turn: above 1, tfseg is the
faster.
"""


def contenders(record: dict[str, Any]) -> list[dict[str, Any]]:
    return record["result"]["contenders"] if "result" in record else []


def facts(found: Iterable[dict[str, Any]]) -> str:
    """Machine, versions, commands and load, each as often as it differs."""
    lines: dict[str, list[str]] = {}

    def add(title: str, text: str) -> None:
        if text not in lines.setdefault(title, []):
            lines[title].append(text)

    for record in found:
        run = record["run"]
        add("command", f"`{run['command']}`")
        add("load average before it began", f"{run['load_average']:.2f}")
        if "result" in record:
            machine = record["result"]["machine"]
            add("machine", f"{machine['cores']} cores, {machine['processor']}, {machine['system']}")
            add("Python", machine["python"])
        for row in contenders(record):
            for name, version in row["versions"].items():
                add(name, version)
    return "\n".join(f"- {title}: {'; '.join(texts)}" for title, texts in lines.items())


def milliseconds(seconds: float) -> str:
    return f"{1000 * seconds:.0f}" if seconds >= 0.1 else f"{1000 * seconds:.1f}"


def _measured(found: Records, job: Job) -> tuple[dict[str, Any] | None, str, str]:
    """tfseg's figures, what stands for them where there are none, and torch's ratio."""
    beside = found.get(records.key(job, "torch"))
    alone = found.get(records.key(job, ""))
    ratio = ""
    if beside is not None:
        if "result" in beside:
            return contenders(beside)[0], "", f"{beside['result']['ratios']['torch']:.2f}"
        ratio = beside["error"]["kind"]
    if alone is None:
        return None, ratio or "not measured", ratio
    if "error" in alone:
        return None, alone["error"]["kind"], ratio
    return contenders(alone)[0], "", ratio


def input_of(job: Job) -> str:
    """Batch and size."""
    size = f"{job.height} x {job.width}"
    return size if job.batch == 1 else f"{job.batch} of {size}"


def _row(found: Records, model: str) -> list[str]:
    infer, train = benchmark_sizes.job(model, "infer"), benchmark_sizes.job(model, "train")
    row, absent, ratio = _measured(found, infer)
    cells = [f"`{model}`", input_of(infer)]
    if row is None:
        cells += ["", absent, "", "", ratio]
    else:
        speed = row["images_per_second"]
        cells += [
            f"{row['macs'] / 1e9:.1f}",
            milliseconds(row["median_seconds"]),
            f"{speed:.1f}" if speed >= 1 else f"{speed:.2f}",
            f"{row['peak_bytes'] / 2**20:.0f}",
            ratio,
        ]
    row, absent, ratio = _measured(found, train)
    cells.append(input_of(train))
    if row is None:
        return [*cells, absent, "", ratio]
    peak = f"{row['peak_bytes'] / 2**20:.0f}"
    return [*cells, milliseconds(row["median_seconds"]), peak, ratio]


def _errors(found: Iterable[dict[str, Any]]) -> list[str]:
    """What failed, by the last line of its message."""
    lines = []
    for record in found:
        if "error" in record:
            job = Job(**record["job"])
            last = record["error"]["message"].strip().splitlines()[-1]
            lines.append(f"- {records.key(job, record['peer'])}: {record['error']['kind']}: {last}")
    return lines


def _runs(found: Iterable[dict[str, Any]]) -> str:
    counts = sorted({len(row["seconds"]) for record in found for row in contenders(record)})
    return " or ".join(f"{count} steps" for count in counts)


def document(found: Records) -> str:
    """The Markdown of all networks that have a record.

    Raises:
        ValueError: if none has.
    """
    measured = {record["job"]["model"] for record in found.values()}
    models = [name for name in benchmark_sizes.INPUTS if name in measured]
    if not models:
        raise ValueError("there are no figures to make a table of")
    rows = [_row(found, model) for model in models]
    align = ("left", "left", *("right",) * 5, "left", *("right",) * 3)
    table = tabulate(rows, COLUMNS, "github", disable_numparse=True, colalign=align)
    sources: dict[str, list[str]] = {}
    for model in models:
        sources.setdefault(benchmark_sizes.INPUTS[model].source, []).append(f"`{model}`")
    parts = [
        HEAD.format(facts=facts(found.values()), runs=_runs(found.values())),
        table,
        "\n## Where the sizes are from\n",
        *(f"- {source}: {', '.join(names)}" for source, names in sources.items()),
    ]
    if errors := _errors(found.values()):
        parts += ["\n## What failed\n", *errors]
    return "\n".join(parts) + "\n"
