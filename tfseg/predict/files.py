"""Prediction of image files into label, overlay and probability files."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from tfseg.data.io import read_image, write_label_png
from tfseg.data.sample import DataError
from tfseg.predict.predictor import ImagePredictor
from tfseg.visualize import legend, overlay, palette


def predict_files(
    predictor: ImagePredictor,
    paths: Sequence[str | Path],
    out_dir: str | Path,
    *,
    classes: Sequence[str],
    colors: np.ndarray | None = None,
    probabilities: bool = False,
    progress: bool = True,
) -> list[Path]:
    """Predicts image files, one at a time in memory.

    Written are ``labels/NAME.png`` (uint8 class ids under a palette), ``overlays/NAME.png``,
    ``probabilities/NAME.npz`` on demand ("probabilities", float16 (H, W, num_classes)), and once
    ``legend.png``. NAME is the image's without its suffix.

    Args:
        predictor: what predicts.
        paths: image files.
        out_dir: made if missing; files of the same names are replaced.
        classes: names by class id.
        colors: uint8 (num_classes, 3); None: the VOC palette.
        probabilities: also write these.
        progress: show a progress bar.

    Returns:
        The label files, in the order of ``paths``.

    Raises:
        ValueError: before any work: no paths, two images of one name, more than 256 classes, or
            class names or colours that are not as many as the model's classes.
        DataError: after all other images are done: those that could not be read, each with
            its reason.
    """
    if predictor.num_classes > 256:
        raise ValueError(f"label files hold 256 classes, the model has {predictor.num_classes}")
    colors = palette(len(classes)) if colors is None else np.asarray(colors)
    if not len(classes) == len(colors) == predictor.num_classes:
        raise ValueError(
            f"the model has {predictor.num_classes} classes, but {len(classes)} names and "
            f"{len(colors)} colours are given"
        )
    files = files_by_name(paths)
    out_dir = Path(out_dir)
    for kind in ("labels", "overlays", *(["probabilities"] if probabilities else [])):
        (out_dir / kind).mkdir(parents=True, exist_ok=True)
    Image.fromarray(legend(classes, colors)).save(out_dir / "legend.png")

    written, failures = [], []
    with tqdm(files.items(), unit="image", disable=not progress) as bar:
        for name, path in bar:
            try:
                image = read_image(path)
            except DataError as e:
                failures.append(str(e))
                continue
            scores = predictor(image, lambda done, total: bar.set_postfix_str(f"{done}/{total}"))
            labels = scores.argmax(axis=-1).astype(np.uint8)
            picture = overlay(image, labels, colors, ignore_label=-1)
            Image.fromarray(picture).save(out_dir / "overlays" / f"{name}.png")
            if probabilities:
                file = out_dir / "probabilities" / f"{name}.npz"
                np.savez_compressed(file, probabilities=scores.astype(np.float16))
            # the label file last: where it is, the image is done
            written.append(out_dir / "labels" / f"{name}.png")
            write_label_png(written[-1], labels, colors)
    if failures:
        lines = "\n  ".join(failures)
        raise DataError(f"{len(failures)} of {len(files)} images could not be read:\n  {lines}")
    return written


def files_by_name(paths: Sequence[str | Path]) -> dict[str, Path]:
    """The files by what their results are called: their names without suffixes.

    Raises:
        ValueError: no files, or two of one name.
    """
    files: dict[str, Path] = {}
    for path in map(Path, paths):
        if path.stem in files:
            raise ValueError(
                f"{files[path.stem]} and {path} would both be written as {path.stem}.png; "
                "predict them into two folders"
            )
        files[path.stem] = path
    if not files:
        raise ValueError("there are no images to predict")
    return files
