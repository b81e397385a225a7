"""Images a second, hours and memory of the headline experiments on accelerators: an estimate.

    python scripts/cost_table.py [--speed 100] [--efficiency 8=0.95 64=0.85]

Training steps and peak memory are those measured on two CPU cores (docs/benchmarks-networks.md, and
docs/results.md for Mask R-CNN). All else is assumed: that an accelerator takes a step ``speed``
times as fast, that a step's time grows with the pixels, and that N accelerators do N times
``efficiency`` of one's work. Memory is float32's: the measured peak of inference, for weights and
framework, and for each image of a replica what the measured training step takes beyond that.
"""

import argparse
import re
from dataclasses import dataclass
from pathlib import Path

import yaml
from tabulate import tabulate

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Measured:
    """A network's training step and memory.

    Attributes:
        seconds: of one image's share of a step.
        pixels: of that image.
        base: MiB of inference.
        more: MiB that an image of a training step adds.
    """

    seconds: float
    pixels: int
    base: float
    more: float


@dataclass(frozen=True)
class Work:
    """What an experiment's training has to do: images of so many pixels in all and a batch.

    ``accumulate``: a replica computes its part of a batch in so many pieces.
    """

    model: str
    images: int
    batch: int
    accumulate: int
    pixels: int


#: experiments and, where no crop in the file fixes it, the size of their images
EXPERIMENTS: dict[str, tuple[int, int] | None] = {
    "unet_isbi2012": None,
    "fusionnet_isbi2012": (640, 640),
    "fcn8s_atonce_vgg16_voc2011": (500, 500),
    "deeplab_aspp_resnet101_voc2012": None,
    "psp_resnet50_ade20k": None,
    "psp_resnet101_cityscapes": None,
    "semantic_fpn_resnext152_cocostuff2017": None,
    "mask_rcnn_resnet50_fpn_1x": (800, 1216),
}

#: docs/results.md: a step of one image of 800 x 1216; peak MiB of inference and of the step
MASK_RCNN = Measured(3.72, 800 * 1216, 1792, 3556 - 1792)


def measured(table: str) -> dict[str, Measured]:
    """The rows of docs/benchmarks-networks.md."""
    found = {"mask_rcnn_resnet50_fpn": MASK_RCNN}
    for line in table.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if not (line.startswith("| `") and len(cells) == 11):
            continue
        size = re.fullmatch(r"(?:(\d+) of )?(\d+) x (\d+)", cells[7])
        if size is None:
            raise ValueError(f"no training input in {line!r}")
        rows, height, width = int(size[1] or 1), int(size[2]), int(size[3])
        base, peak = float(cells[5]), float(cells[9])
        seconds = float(cells[8]) / 1000 / rows
        found[cells[0].strip("`")] = Measured(seconds, height * width, base, (peak - base) / rows)
    return found


def work(name: str, size: tuple[int, int] | None) -> Work:
    """What configs/NAME.yaml asks for."""
    file = yaml.safe_load((ROOT / f"configs/{name}.yaml").read_text(encoding="utf-8"))
    train = file["train"]
    if size is None:
        crops = [t["crop"]["size"] for t in file["data"]["transforms"] if "crop" in t]
        size = crops[-1]
    batch, pieces = train["batch_size"], train.get("accumulate", 1)
    return Work(file["model"]["name"], train["steps"] * batch, batch, pieces, size[0] * size[1])


def row(name: str, task: Work, of: Measured, speed: float, efficiency: dict[int, float]) -> list:
    """A line of the table."""
    scale = task.pixels / of.pixels
    one = speed / (of.seconds * scale)
    cells: list = [f"`{name}`", task.images, task.batch]
    for count, share in efficiency.items():
        rate = one * count * share
        at_once = max(task.batch // (count * task.accumulate), 1)
        memory = (of.base + at_once * of.more * scale) / 1024
        mark = "*" if task.batch % count else ""
        cells += [
            f"{rate:.0f}{mark}",
            f"{task.images / rate / 3600:.2g}{mark}",
            f"{memory:.1f}{mark}",
        ]
    return cells


def main() -> None:
    """Prints the table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--speed", type=float, default=100.0, help="of one accelerator")
    parser.add_argument("--efficiency", nargs="*", default=["8=0.95", "64=0.85"])
    options = parser.parse_args()
    pairs = (pair.partition("=") for pair in options.efficiency)
    efficiency = {1: 1.0} | {int(count): float(share) for count, _, share in pairs}
    table = measured((ROOT / "docs/benchmarks-networks.md").read_text(encoding="utf-8"))
    tasks = {name: work(name, size) for name, size in EXPERIMENTS.items()}
    rows = [row(n, t, table[t.model], options.speed, efficiency) for n, t in tasks.items()]
    heads = ["experiment", "images", "batch"]
    for count in efficiency:
        heads += [f"{count}: images/s", "hours", "GiB each"]
    print(tabulate(rows, heads, tablefmt="github", disable_numparse=True))


if __name__ == "__main__":
    main()
