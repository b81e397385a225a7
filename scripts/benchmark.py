"""Measures how fast a network runs, alone or beside a peer's implementation of it.

With --suite: all headline networks beside torch, for docs/benchmarks.md.
"""

import importlib.util
import json
from pathlib import Path

import benchmark_suite
import click
import torch_peers
from tqdm import tqdm

from tfseg import benchmark, list_models
from tfseg.registry import entry, suggest

ROOT = Path(__file__).resolve().parents[1]
PEERS = ("torch", "torchvision")


@click.command(help=__doc__)
@click.argument("model", required=False)
@click.option("--size", nargs=2, type=int, help="Height and width, pixels.")
@click.option("--suite", is_flag=True, help="All headline networks; an interrupted run continues.")
@click.option("--batch", default=1, show_default=True, help="Images a step.")
@click.option("--mode", type=click.Choice(["infer", "train"]), default="infer", show_default=True)
@click.option("--against", type=click.Choice(["torch"]), help="A peer, measured in alternation.")
@click.option(
    "--freeze/--no-freeze",
    default=True,
    show_default=True,
    help="For inference, also measure with frozen weights, as predict.freeze makes them.",
)
@click.option("--num-classes", type=int, help="Default: those of the published weights.")
@click.option("--runs", default=20, show_default=True, help="Measured steps of each.")
@click.option(
    "--timeout", default=900.0, show_default=True, help="Seconds that a line of --suite may take."
)
@click.option(
    "--json",
    "report",
    type=click.Path(path_type=Path),
    help="Also write all figures. Of --suite, default: runs/benchmark-suite.json.",
)
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    default=ROOT / "docs" / "benchmarks.md",
    help="Where --suite writes its tables. Default: docs/benchmarks.md.",
)
def main(
    model: str | None,
    size: tuple[int, int] | None,
    suite: bool,
    batch: int,
    mode: str,
    against: str | None,
    freeze: bool,
    num_classes: int | None,
    runs: int,
    timeout: float,
    report: Path | None,
    out: Path,
) -> None:
    if suite == (model is not None) or (size is None) != suite:
        raise click.UsageError("give MODEL and --size, or --suite without them")
    if suite:
        _suite(report or Path("runs") / "benchmark-suite.json", runs, timeout, out)
        return
    assert model is not None
    assert size is not None
    known = list_models()
    if model not in known:
        raise click.BadParameter(f"unknown model {model!r}; {suggest(model, known)}")
    if report is not None and not report.parent.is_dir():
        raise click.BadParameter(f"{report.parent} is no folder to write {report.name} to")
    contenders = [benchmark.Contender("tfseg", benchmark.tfseg_session)]
    if freeze and mode == "infer":
        contenders = [benchmark.Contender("tfseg frozen", benchmark.frozen_session), *contenders]
    if against == "torch":
        if importlib.util.find_spec("torch") is None:
            raise click.UsageError("torch is not installed: pip install -e .[bench]")
        if model not in torch_peers.NAMES:
            known_peers = ", ".join(torch_peers.NAMES)
            raise click.UsageError(f"there is no torch {model!r}; there is: {known_peers}")
        contenders.append(benchmark.Contender("torch", torch_peers.session))
    classes = entry(model).num_classes if num_classes is None else num_classes
    try:
        job = benchmark.Job(model, classes, *size, batch, mode)
        with tqdm(total=runs, unit="round") as bar:
            result = benchmark.run(job, contenders, runs, progress=bar.update)
    except (ValueError, benchmark.BenchmarkError) as e:
        raise click.ClickException(str(e)) from e
    print(benchmark.table(result))
    if report is not None:
        report.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _suite(store: Path, runs: int, timeout: float, out: Path) -> None:
    if missing := [name for name in PEERS if importlib.util.find_spec(name) is None]:
        raise click.UsageError(f"not installed: {', '.join(missing)}; pip install -e .[bench]")
    store.parent.mkdir(parents=True, exist_ok=True)
    if not out.parent.is_dir():
        raise click.BadParameter(f"{out.parent} is no folder to write {out.name} to")
    try:
        found = benchmark_suite.run(store, runs, timeout)
    except ValueError as e:
        raise click.ClickException(str(e)) from e
    out.write_text(benchmark_suite.document(found), encoding="utf-8")


if __name__ == "__main__":
    main()
