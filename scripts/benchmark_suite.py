"""The headline networks beside torch in both of its layouts, and how time grows with the input.

What `scripts/benchmark.py --suite` runs and makes docs/benchmarks.md of.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import benchmark_detectors
import benchmark_records as records
import benchmark_sizes
import torch_peers
from benchmark_models import measure, recorded
from benchmark_table import contenders as rows_of
from benchmark_table import facts, input_of, milliseconds
from detector_contenders.inputs import DetectorJob
from tabulate import tabulate
from tqdm import tqdm

from tfseg import benchmark
from tfseg.benchmark import Contender, Job

SEMANTIC = (
    "fcn8s_vgg16",
    "deeplab_aspp_resnet101",
    "deeplabv3_resnet50",
    "psp_resnet50",
    "psp_resnet101",
    "semantic_fpn_resnet50",
    "unet",
)
#: of the network whose growth is measured: sides of one image, and images of one side
GROWS, SIDES, BATCHES = "psp_resnet50", (233, 473, 713), (2, 4)
PEER = "torch"
#: millions of pixels of the detector's image, and objects to learn from
DETECTOR_SIZE, OBJECTS = (800, 1216), 10

HEAD = """# Speed beside torch

Made by `scripts/benchmark.py --suite`; not edited by hand. Every network beside torch, once:
[benchmarks-networks.md](benchmarks-networks.md).

{facts}

Weights are random, values float32. The contenders of a line live in processes of their own and
take steps in turn, after one that is not measured; a time is the median, with the quartiles in
brackets. torch runs eagerly, with channels first ("torch") and channels last, on the same networks
(torchvision's, or `scripts/torch_peers`; the detector is torchvision's). "x" is tfseg's speed over
that of the faster of both: above 1, tfseg is the faster. "of peak" is the share of what the same
processor does in the faster framework's product of two 2048 x 2048 matrices. Peaks are the largest
resident memory of the process, Python and framework included.
"""

INFERENCE = """
## Inference

From one prepared image to its logits; of the detector, to masks in the image. "tfseg" is as an
export has it, norms folded into convolutions and large ones packed; "frozen" has constant weights,
as `predict.freeze`, `detect.freeze` and `tfseg export --freeze` make them (of the detector "tfseg"
is the model as it is).

{table}
"""

TRAINING = """
## Training

Forward pass, loss, gradients and an update of SGD with momentum.

{table}
"""

GROWTH = """
## How time grows

Inference of `{model}`.

{table}
"""


def headline_jobs(mode: str) -> list[Job]:
    """Each network in a mode; the detector's folder is filled when it is measured."""
    model, classes = benchmark_detectors.MODEL, benchmark_detectors.CLASSES
    detector = DetectorJob(model, classes, *DETECTOR_SIZE, 1, mode, "", OBJECTS, split=False)
    return [*(benchmark_sizes.job(name, mode) for name in SEMANTIC), detector]


def growth_jobs() -> list[Job]:
    """Inference of one network at several sizes, then at several batches."""
    usual = benchmark_sizes.job(GROWS, "infer")
    sizes = [replace(usual, height=side, width=side) for side in SIDES]
    return sizes + [replace(usual, batch=batch) for batch in BATCHES]


def _key(job: Job) -> str:
    return records.key(job, PEER)


def _contenders(job: Job) -> list[Contender]:
    own = [Contender("tfseg", benchmark.tfseg_session)]
    if job.mode == "infer":
        own = [
            Contender("tfseg", benchmark.folded_session),
            Contender("tfseg frozen", benchmark.frozen_session),
        ]
    return [
        *own,
        Contender("torch channels last", torch_peers.session),
        Contender("torch", torch_peers.plain_session),
    ]


def _measure(job: Job, runs: int, timeout: float) -> dict[str, Any]:
    if not isinstance(job, DetectorJob):
        return measure(job, _contenders(job), runs, timeout)
    chosen = benchmark_detectors.contenders("tensorflow", freeze=job.mode == "infer")
    return recorded(lambda: benchmark_detectors.measure(job, chosen, runs, parts=False), timeout)


def run(store: Path, runs: int, timeout: float) -> dict[str, dict[str, Any]]:
    """Measures what the store lacks, and again what failed.

    Args:
        store: the JSON file, rewritten after each job.
        runs: steps of each contender.
        timeout: seconds a job.

    Returns:
        All records of the store.

    Raises:
        ValueError: if it is no file of records.
    """
    known = records.load(store)
    how = records.how("scripts/benchmark.py")
    jobs = [*headline_jobs("infer"), *headline_jobs("train"), *growth_jobs()]
    with tqdm(total=len(jobs), unit="job") as bar:
        for job in jobs:
            name = _key(job)
            bar.set_description(name)
            if "result" not in known.get(name, {}):
                known[name] = records.new(job, PEER, run=how, **_measure(job, runs, timeout))
                records.save(store, known)
            bar.update()
    return known


def _time(row: dict[str, Any] | None) -> str:
    if row is None:
        return ""
    lower, upper = (milliseconds(value) for value in row["quartile_seconds"])
    return f"{milliseconds(row['median_seconds'])} ({lower}..{upper})"


def _row(job: Job, record: dict[str, Any] | None) -> list[str]:
    """A line of a table; of a job that failed, how."""
    cells = [f"`{job.model}`", input_of(job)]
    if record is None or "error" in record:
        return [*cells, "not measured" if record is None else record["error"]["kind"], *[""] * 8]
    rows = {row["name"]: row for row in rows_of(record)}
    peers = [row for name, row in rows.items() if name.startswith("torch")]
    best = min(peers, key=lambda row: row["median_seconds"])
    own, frozen = rows["tfseg"], rows.get("tfseg frozen")
    ratios = [
        "" if row is None else f"{best['median_seconds'] / row['median_seconds']:.2f}"
        for row in (own, frozen)
    ]
    share = own["share_of_peak"]
    return [
        *cells,
        _time(own),
        _time(frozen),
        _time(rows.get("torch channels last", rows.get("torchvision"))),
        _time(rows.get("torch")),
        *ratios,
        *(f"{row['peak_bytes'] / 2**20:.0f}" for row in (own, best)),
        "" if share is None else f"{share:.0%}",
    ]


COLUMNS = (
    "model",
    "input",
    "tfseg, ms",
    "frozen, ms",
    "torch channels last, ms",
    "torch, ms",
    "x",
    "x frozen",
    "peak MiB",
    "torch's",
    "of peak",
)


def _table(jobs: list[Job], known: dict[str, dict[str, Any]], frozen: bool = True) -> str:
    lines = [_row(job, known.get(_key(job))) for job in jobs]
    heads = list(COLUMNS)
    if not frozen:
        for line in (heads, *lines):
            del line[7], line[3]
    align = ("left", "left", *("right",) * (len(heads) - 2))
    return tabulate(lines, heads, "github", disable_numparse=True, colalign=align)


def document(known: dict[str, dict[str, Any]]) -> str:
    """The Markdown of a run, complete or not.

    Args:
        known: what `run` returned.
    """
    infer, train, growth = headline_jobs("infer"), headline_jobs("train"), growth_jobs()
    own = [known[key] for key in map(_key, [*infer, *train, *growth]) if key in known]
    return "".join(
        [
            HEAD.format(facts=facts(own)),
            INFERENCE.format(table=_table(infer, known)),
            TRAINING.format(table=_table(train, known, frozen=False)),
            GROWTH.format(model=GROWS, table=_table(growth, known)),
        ]
    )
