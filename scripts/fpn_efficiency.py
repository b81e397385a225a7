"""ResNeXt-152 with a feature pyramid against ResNeXt-152 dilated to output stride 16 and 8.

The efficiency figure of the COCO-Stuff 2017 winner's slides, as a Markdown table. Compared are
trunks, as the figure names them: 32x8d from the image to pyramid maps of stride 4 to 32, or to
the dilated c5; neither with a head. The trunk alone and semantic FPN with its head, of 92 classes
as in the challenge, stand beside them.

Counted for every size: multiply-accumulates, and activations, the float32 outputs of all layers,
which training keeps for the backward pass where no layer works in place. Measured where --measure
asks for it: seconds of one image's inference, and the process's peak memory, TensorFlow included.
"""

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import click
from tabulate import tabulate
from tqdm import tqdm

from tfseg import benchmark
from tfseg.benchmark import BenchmarkError, Contender, Job, OutOfMemory, OutOfTime

LAYOUT = "resnext152_32x8d"
FPN = "FPN"
#: what is compared, and the output strides of the trunks
NETWORKS = {
    "trunk, stride 32": 32,
    FPN: 32,
    "semantic FPN": 32,
    "dilated, stride 16": 16,
    "dilated, stride 8": 8,
}
SIZES = (256, 512, 768, 1024)


def network(name: str) -> Any:
    """The Keras model of a key of NETWORKS."""
    import keras

    import tfseg
    from tfseg.backbones import resnet
    from tfseg.layers.fpn import feature_pyramid

    if name == "semantic FPN":
        return tfseg.build(f"semantic_fpn_{LAYOUT}", 92)
    image = keras.Input((None, None, 3), name="image")
    features = resnet(image, LAYOUT, output_stride=NETWORKS[name])
    if name == FPN:
        return keras.Model(image, list(feature_pyramid(features).values()))
    return keras.Model(image, features["c5"])


def session(name: str, job: Job) -> benchmark.Session:
    """A network as a contender."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    return benchmark.model_session(network(name), job)


def count(sizes: Sequence[int]) -> dict[tuple[str, int], tuple[int, int]]:
    """Multiply-accumulates and bytes of activations of each network and image size."""
    import keras

    from tfseg.complexity import activation_bytes, count_macs

    counts = {}
    for name in NETWORKS:
        # Weights without values: nothing is computed.
        with keras.StatelessScope(initialize_variables=False):
            model = network(name)
            for size in sizes:
                macs = count_macs(model, size, size)
                counts[name, size] = macs, activation_bytes(model, size, size)
    return counts


def measure(name: str, size: int, runs: int, timeout: float) -> dict[str, Any]:
    """``seconds`` and ``peak_bytes`` of one image's inference, or ``error``, what became of it."""
    job = Job(LAYOUT, 1, size, size, 1, "infer")
    contender = Contender(name, partial(session, name))
    try:
        row = benchmark.run(job, [contender], runs, timeout=timeout)["contenders"][0]
    except OutOfMemory:
        return {"error": "out of memory"}
    except OutOfTime:
        return {"error": "out of time"}
    return {"seconds": row["median_seconds"], "peak_bytes": row["peak_bytes"]}


def _cells(measured: dict[str, Any] | None) -> tuple[str, str]:
    if measured is None:
        return "", ""
    if "error" in measured:
        return measured["error"], ""
    return f"{measured['seconds']:.2f}", f"{measured['peak_bytes'] / 2**20:.0f}"


def table(
    counts: dict[tuple[str, int], tuple[int, int]],
    measured: dict[tuple[str, int], dict[str, Any]],
) -> str:
    """The Markdown; counts are followed by their ratio to the pyramid's.

    Args:
        counts: as `count` gives them.
        measured: as `measure` gives them, by network and image size.
    """
    rows = []
    for size in sorted({size for _, size in counts}):
        for name in NETWORKS:
            cells = [f"{size} x {size}", name]
            for unit, value, pyramid in zip(
                (1e9, 2**20), counts[name, size], counts[FPN, size], strict=True
            ):
                cells += [f"{value / unit:.0f}", f"{value / pyramid:.2f}"]
            rows.append((*cells, *_cells(measured.get((name, size)))))
    heads = ("image", "network", "GMACs", "x FPN", "activations MiB", "x FPN", "s", "peak MiB")
    align = ("left", "left", *("right",) * 6)
    return tabulate(rows, heads, "github", disable_numparse=True, colalign=align)


@click.command(help=__doc__)
@click.option(
    "--count", "counted", multiple=True, type=int, default=SIZES, help="Image sizes to count at."
)
@click.option("--measure", "sizes", multiple=True, type=int, help="Image sizes to measure at.")
@click.option("--runs", default=3, show_default=True, help="Measured steps of each.")
@click.option("--timeout", default=600.0, show_default=True, help="Seconds for each.")
@click.option("--out", type=click.Path(dir_okay=False, path_type=Path), help="Also write it here.")
def main(
    counted: tuple[int, ...],
    sizes: tuple[int, ...],
    runs: int,
    timeout: float,
    out: Path | None,
) -> None:
    if any(size < 32 or size % 32 for size in (*counted, *sizes)):
        raise click.UsageError("image sizes must be multiples of 32, the pyramid's coarsest stride")
    if out is not None and not out.parent.is_dir():
        raise click.UsageError(f"{out.parent} is no folder to write {out.name} to")
    tasks = [(name, size) for size in sizes for name in NETWORKS]
    measured = {}
    for name, size in tqdm(tasks, unit="job"):
        try:
            measured[name, size] = measure(name, size, runs, timeout)
        except (ValueError, BenchmarkError) as e:
            raise click.ClickException(str(e)) from e
    text = table(count(sorted({*counted, *sizes})), measured)
    click.echo(text)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
