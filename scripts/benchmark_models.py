"""Measures every network that labels images or pixels, and makes docs/benchmarks-networks.md of it.

Each is measured at its paper's input size. What the JSON file has is not measured again: a run
that was interrupted continues.
"""

import fnmatch
import importlib.util
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import benchmark_records as records
import benchmark_sizes
import benchmark_table
import click
import torch_peers
from tqdm import tqdm

from tfseg import benchmark, list_models
from tfseg.benchmark import BenchmarkError, Contender, Job, OutOfMemory, OutOfTime

DOCS = Path(__file__).resolve().parents[1] / "docs"
MODES = ("infer", "train")
Task = tuple[Job, str]


def chosen(patterns: Sequence[str]) -> list[str]:
    """The networks that match a pattern, or all if there is none, in the table's order.

    Raises:
        ValueError: if a pattern matches none, or a registered network has no input size.
    """
    known = [*list_models("classification"), *list_models("semantic")]
    benchmark_sizes.check(known)
    for pattern in patterns:
        if not fnmatch.filter(known, pattern):
            raise ValueError(f"no model matches {pattern!r}; there is: {', '.join(known)}")
    return [
        name
        for name in benchmark_sizes.INPUTS
        if name in known and (not patterns or any(fnmatch.fnmatch(name, p) for p in patterns))
    ]


def plan(models: Sequence[str], modes: Sequence[str], against: str | None) -> list[Task]:
    """What is measured, each beside the peer if it has the network."""
    return [
        (
            benchmark_sizes.job(model, mode),
            against if against and model in torch_peers.NAMES else "",
        )
        for model in models
        for mode in modes
    ]


def measure(job: Job, contenders: list[Contender], runs: int, timeout: float) -> dict[str, Any]:
    """The content of a record of `benchmark.run`; see `recorded`."""
    return recorded(lambda: benchmark.run(job, contenders, runs, timeout=timeout), timeout)


def recorded(run: Callable[[], dict[str, Any]], timeout: float) -> dict[str, Any]:
    """The content of a record: ``result``, as ``run`` gives it, or ``error``."""
    try:
        result = run()
    except OutOfMemory as e:
        return {"error": {"kind": "out of memory", "message": str(e)}}
    except OutOfTime as e:
        return {"error": {"kind": "out of time", "message": f"{e}: {timeout:g} s"}}
    except BenchmarkError as e:
        return {"error": {"kind": "failed", "message": str(e)}}
    del result["job"]
    return {"result": result}


def _hopeless(error: dict[str, str]) -> bool:
    """Whether tfseg alone would fail too; with the memory of two it may not."""
    return error["kind"] == "out of time" and error["message"].startswith("tfseg:")


def measure_all(
    tasks: Sequence[Task], store: Path, runs: int, timeout: float, again: bool
) -> dict[str, dict[str, Any]]:
    """Measures what the store lacks; of a pair that failed, tfseg alone if that may help.

    Args:
        tasks: in order.
        store: the JSON file, rewritten after each.
        runs: steps of each contender.
        timeout: seconds a job.
        again: also what the store has.

    Returns:
        All records of the store.
    """
    known = records.load(store)
    run = records.how("scripts/benchmark_models.py")
    with tqdm(total=len(tasks), unit="job") as bar:
        for job, peer in tasks:
            for beside in (peer, "") if peer else ("",):
                name = records.key(job, beside)
                bar.set_description(name)
                if again or name not in known:
                    contenders = [Contender("tfseg", benchmark.tfseg_session)]
                    if beside:
                        contenders.append(Contender(beside, torch_peers.session))
                    content = measure(job, contenders, runs, timeout)
                    known[name] = records.new(job, beside, run=run, **content)
                    records.save(store, known)
                if "result" in known[name] or _hopeless(known[name]["error"]):
                    break
            bar.update()
    return known


@click.command(help=__doc__)
@click.option("--only", multiple=True, metavar="PATTERN", help="Of names, as fcn*; repeatable.")
@click.option("--mode", type=click.Choice([*MODES, "both"]), default="both", show_default=True)
@click.option("--against", type=click.Choice(["torch"]), help="A peer, measured in alternation.")
@click.option("--runs", default=3, show_default=True, help="Measured steps of each.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds a job.")
@click.option("--again", is_flag=True, help="Also measure what the JSON file has.")
@click.option("--table-only", is_flag=True, help="Measure nothing.")
@click.option(
    "--json",
    "store",
    type=click.Path(dir_okay=False, path_type=Path),
    default=Path("runs") / "benchmarks.json",
    help="Where the figures are kept. Default: runs/benchmarks.json.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=DOCS / "benchmarks-networks.md",
    help="Where the table goes. Default: docs/benchmarks-networks.md.",
)
def main(
    only: tuple[str, ...],
    mode: str,
    against: str | None,
    runs: int,
    timeout: float,
    again: bool,
    table_only: bool,
    store: Path,
    out: Path,
) -> None:
    if against == "torch" and any(
        importlib.util.find_spec(name) is None for name in ("torch", "torchvision")
    ):
        raise click.UsageError("torch or torchvision is not installed: pip install -e .[bench]")
    store.parent.mkdir(parents=True, exist_ok=True)
    if not out.parent.is_dir():
        raise click.UsageError(f"{out.parent} is no folder to write {out.name} to")
    if runs < 1 or timeout <= 0:
        raise click.UsageError("--runs and --timeout must be positive")
    try:
        tasks = plan(chosen(only), MODES if mode == "both" else (mode,), against)
        found = records.load(store)
        if not table_only:
            found = measure_all(tasks, store, runs, timeout, again)
        out.write_text(benchmark_table.document(found), encoding="utf-8")
    except ValueError as e:
        raise click.ClickException(str(e)) from e


if __name__ == "__main__":
    main()
