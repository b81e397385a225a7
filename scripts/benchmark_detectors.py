"""Measures Mask R-CNN with a ResNet-50 FPN beside torchvision's, with the same weights.

Inference goes from a prepared image to detections with masks in the image; a training step is
forward pass, gradients and an update of SGD with momentum. The weights are random, of such a size
that both find as many objects as there may be.
"""

import importlib.util
import json
import os
import tempfile
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import click
from detector_contenders import entry, report
from detector_contenders.inputs import DetectorJob, write
from tqdm import tqdm

from tfseg import benchmark
from tfseg.benchmark import BenchmarkError, Contender

MODEL, CLASSES = "mask_rcnn_resnet50_fpn", 90


def contenders(backend: str, freeze: bool) -> list[Contender]:
    """tfseg's, the one whose speed is compared first, and torchvision's."""
    own = {
        "tensorflow": Contender("tfseg", entry.tensorflow),
        "jax": Contender("tfseg jax", entry.jax),
    }
    found = [own[backend], Contender("torchvision", entry.torch)]
    if freeze:
        found.insert(0, Contender("tfseg frozen", entry.tensorflow_frozen))
    return found


def prepare(job: DetectorJob) -> None:
    """Fills the job's folder, in a process that leaves no memory behind.

    Raises:
        BenchmarkError: if that fails; the process has printed why.
    """
    process = get_context("spawn").Process(target=write, args=(job,))
    process.start()
    process.join()
    if process.exitcode:
        raise BenchmarkError(f"the inputs could not be made: exit code {process.exitcode}")


def measure(job: DetectorJob, chosen: list[Contender], runs: int, parts: bool) -> dict[str, Any]:
    """The result of `tfseg.benchmark.run` with the rows' ``parts``, and ``agreement``.

    The parts are measured in processes of their own: what they keep is not in the peaks.
    """
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=runs * (1 + parts), unit="round") as bar,
    ):
        job = replace(job, folder=folder)
        prepare(job)
        result = benchmark.run(job, chosen, runs, progress=bar.update)
        if parts:
            again = benchmark.run(replace(job, split=True), chosen, runs, progress=bar.update)
            for row, split in zip(result["contenders"], again["contenders"], strict=True):
                row |= {"parts": split["parts"], "proposals": split["proposals"]}
    result["agreement"] = report.agreement(result["contenders"])
    return result


@click.command(help=__doc__)
@click.option(
    "--size", nargs=2, type=int, default=(800, 1216), show_default=True, help="Height and width."
)
@click.option("--batch", default=1, show_default=True, help="Images a step.")
@click.option("--mode", type=click.Choice(["infer", "train"]), default="infer", show_default=True)
@click.option(
    "--backend",
    type=click.Choice(["tensorflow", "jax"]),
    default="tensorflow",
    show_default=True,
    help="Keras' backend; JAX needs no TensorFlow.",
)
@click.option(
    "--freeze/--no-freeze",
    default=True,
    show_default=True,
    help="For inference on TensorFlow, also measure with frozen weights, as detect.freeze does.",
)
@click.option(
    "--parts/--no-parts", default=True, show_default=True, help="Also measure inference's parts."
)
@click.option("--objects", default=10, show_default=True, help="To learn from, an image.")
@click.option("--runs", default=20, show_default=True, help="Measured steps of each.")
@click.option("--threads", type=int, help="Cores that each may use. Default: all.")
@click.option("--json", "out", type=click.Path(path_type=Path), help="Also write all figures.")
def main(
    size: tuple[int, int],
    batch: int,
    mode: str,
    backend: str,
    freeze: bool,
    parts: bool,
    objects: int,
    runs: int,
    threads: int | None,
    out: Path | None,
) -> None:
    modules = ("torch", "torchvision", backend)
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise click.UsageError(f"not installed: {', '.join(missing)}; see docs/benchmarks.md")
    if out is not None and not out.parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no folder to write {out.name} to")
    if threads is not None:
        cores = sorted(os.sched_getaffinity(0))
        if not 1 <= threads <= len(cores):
            raise click.BadParameter(f"--threads must lie in 1..{len(cores)}, not {threads}")
        os.sched_setaffinity(0, cores[:threads])
    os.environ["KERAS_BACKEND"] = backend
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    # On one GPU with torch: JAX would take most of its memory at once.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    infer = mode == "infer"
    try:
        job = DetectorJob(MODEL, CLASSES, *size, batch, mode, "", objects, split=False)
        chosen = contenders(backend, freeze and infer and backend == "tensorflow")
        result = measure(job, chosen, runs, parts and infer)
    except (ValueError, BenchmarkError) as e:
        raise click.ClickException(str(e)) from e
    print(benchmark.table(result))
    print(report.table(result))
    if out is not None:
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
