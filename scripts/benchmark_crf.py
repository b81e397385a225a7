"""Measures the dense CRF beside pydensecrf: the same image and probabilities, in alternation.

The probabilities are a softmax of random scores at an eighth of IMAGE's size, interpolated, as a
network gives them. Both build their kernels anew for each image, which is part of the time.
"""

import importlib.util
import statistics
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import click
import numpy as np
from scipy.ndimage import zoom
from scipy.special import softmax
from tabulate import tabulate


def network_like(size: tuple[int, int], classes: int) -> np.ndarray:
    """Smooth random probabilities, float32 (H, W, classes)."""
    coarse = [-(-side // 8) for side in size]
    scores = np.random.default_rng(0).normal(scale=2, size=(*coarse, classes))
    factors = (size[0] / coarse[0], size[1] / coarse[1], 1)
    return softmax(zoom(scores, factors, order=1), axis=-1).astype(np.float32)


def pydensecrf(image: np.ndarray, probabilities: np.ndarray, preset: str) -> np.ndarray:
    """What `tfseg.predict.DenseCRF.preset(preset)` gives, computed by pydensecrf."""
    from pydensecrf.densecrf import DenseCRF2D
    from pydensecrf.utils import unary_from_softmax

    from tfseg.predict.crf import PRESETS

    values = PRESETS[preset]
    height, width, classes = probabilities.shape
    crf = DenseCRF2D(width, height, classes)
    crf.setUnaryEnergy(unary_from_softmax(np.ascontiguousarray(probabilities.transpose(2, 0, 1))))
    crf.addPairwiseGaussian(sxy=values["gaussian_sigma"], compat=values["gaussian_weight"])
    crf.addPairwiseBilateral(
        sxy=values["bilateral_sigma_xy"],
        srgb=values["bilateral_sigma_rgb"],
        rgbim=image,
        compat=values["bilateral_weight"],
    )
    refined = np.array(crf.inference(10)).reshape(classes, height, width)
    return refined.transpose(1, 2, 0)


def seconds(work: Callable[[], np.ndarray]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def peak(work: Callable[[], np.ndarray]) -> float:
    """The most memory that the work's arrays take at a time, MB."""
    tracemalloc.start()
    work()
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 1e6


@click.command(help=__doc__)
@click.argument("image", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--size", nargs=2, type=int, default=(375, 500), show_default=True, help="Pixels.")
@click.option("--classes", default=21, show_default=True)
@click.option("--runs", default=5, show_default=True, help="Measured runs of each.")
def main(image: Path, size: tuple[int, int], classes: int, runs: int) -> None:
    if importlib.util.find_spec("pydensecrf") is None:
        raise click.UsageError("pydensecrf2 is not installed: pip install -e .[test]")
    from tfseg.data.io import read_image
    from tfseg.predict import DenseCRF
    from tfseg.predict.crf import PRESETS
    from tfseg.predict.views import resize_bilinear

    picture = resize_bilinear(read_image(image), size)
    picture = np.repeat(picture, 3 // picture.shape[2], axis=2)
    probabilities = network_like(size, classes)
    rows = []
    for preset in PRESETS:
        crf = DenseCRF.preset(preset)
        contenders = [
            lambda crf=crf: crf(picture, probabilities),
            lambda preset=preset: pydensecrf(picture, probabilities, preset),
        ]
        ours, theirs = (work() for work in contenders)
        same = np.mean(ours.argmax(-1) == theirs.argmax(-1))
        times = [[seconds(work) for work in contenders] for _ in range(runs)]
        mine, peer = (statistics.median(column) for column in zip(*times, strict=True))
        rows.append([preset, mine, peer, mine / peer, 100 * same, peak(contenders[0])])
    head = ["preset", "tfseg, s", "pydensecrf, s", "ratio", "equal labels, %", "tfseg's peak, MB"]
    click.echo(tabulate(rows, head, floatfmt=("", ".3f", ".3f", ".2f", ".3f", ".0f")))


if __name__ == "__main__":
    main()
