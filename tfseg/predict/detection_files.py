"""Detection in image files: pictures, instance masks, and COCO's results format."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tqdm import tqdm

from tfseg.data.io import read_image, write_label_png
from tfseg.data.regions import instance_map
from tfseg.data.sample import DataError
from tfseg.predict.detections import Detections
from tfseg.predict.detector import Detector
from tfseg.predict.files import files_by_name
from tfseg.predict.panoptic import Combiner
from tfseg.predict.panoptic_files import PanopticFiles, draw_panoptic
from tfseg.predict.views import batches
from tfseg.visualize import legend, overlay, palette
from tfseg.visualize_instances import draw_instances

#: keypoints of a lower score are not drawn (detectron2, ``utils/visualizer.py``)
KEYPOINT_THRESHOLD = 0.05


def detect_files(
    predictor: Detector,
    paths: Sequence[str | Path],
    out_dir: str | Path,
    *,
    classes: Sequence[str],
    category_ids: Sequence[int] | None = None,
    skeleton: Sequence[tuple[int, int]] = (),
    combiner: Combiner | None = None,
    progress: bool = True,
) -> list[Path]:
    """Finds the objects in image files, a batch at a time in memory.

    Written are ``overlays/NAME.png``; of a model with masks ``instances/NAME.png``, 16 bits, with
    1 on the object of the highest score, 2 on the next one where that leaves it room, ...; of a
    panoptic one ``semantic/NAME.png``; and for all images together ``detections.json`` in COCO's
    results format (see `Detections.to_coco`), in which each object also has its class' name as
    "category" and its number in the instances file as "instance". NAME is the image's without
    its suffix; "image_id" is NAME, as an integer if it has digits alone.

    With a combiner, the overlays are of its panoptic maps, in which each pixel is of one object
    or of stuff, and ``legend.png`` has the colours of stuff; the maps are ``panoptic/NAME.png``
    and ``panoptic.json``, see `PanopticFiles`.

    Args:
        predictor: what predicts.
        paths: image files.
        out_dir: made if missing; files of the same names are replaced.
        classes: names by class.
        category_ids: ids by class; None: the classes' own numbers.
        skeleton: pairs of keypoints to be joined by lines in the overlays.
        combiner: of a panoptic model.
        progress: show a progress bar.

    Returns:
        The overlay files, in the order of ``paths``.

    Raises:
        ValueError: before any work: no paths, two images of one name, or ids that are not as
            many as the class names.
        DataError: after all other images are done: those that could not be read, each with
            its reason.
    """
    if category_ids is not None and len(category_ids) != len(classes):
        raise ValueError(f"there are {len(category_ids)} category ids, but {len(classes)} classes")
    files = files_by_name(paths)
    out_dir = Path(out_dir)
    (out_dir / "overlays").mkdir(parents=True, exist_ok=True)
    maps = None if combiner is None else PanopticFiles(out_dir / "panoptic", combiner)
    written, results, failures = [], [], list[str]()
    with tqdm(total=len(files), unit="image", disable=not progress) as bar:
        for batch in batches(_readable(files, failures), predictor.batch_size):
            keys = [image_id(name) for name, _ in batch]
            found = predictor.predict([image for _, image in batch], keys)
            for (name, image), detections in zip(batch, found, strict=True):
                if combiner is None or maps is None:
                    picture = draw_detections(image, detections, classes, skeleton=skeleton)
                else:
                    ids, segments = combiner(detections)
                    maps.add(image_id(name), name, ids, segments)
                    picture = draw_panoptic(image, detections, ids, segments, combiner)
                written.append(out_dir / "overlays" / f"{name}.png")
                Image.fromarray(picture).save(written[-1])
                _write_maps(detections, out_dir, name)
                results += coco_results(detections, name, classes, category_ids)
            bar.update(len(batch))
    text = json.dumps(results)
    (out_dir / "detections.json").write_text(text + "\n", encoding="utf-8")
    if combiner is not None and maps is not None:
        maps.write()
        names = tuple(combiner.stuff.values())
        picture = legend(names, palette(1 + len(names))[1:])
        Image.fromarray(picture).save(out_dir / "legend.png")
    if failures:
        lines = "\n  ".join(failures)
        raise DataError(f"{len(failures)} of {len(files)} images could not be read:\n  {lines}")
    return written


def _readable(files: dict[str, Path], failures: list[str]) -> Iterator[tuple[str, np.ndarray]]:
    """The images by name; what cannot be read is noted among the failures."""
    for name, path in files.items():
        try:
            yield name, read_image(path)
        except DataError as e:
            failures.append(str(e))


def _write_maps(detections: Detections, out_dir: Path, name: str) -> None:
    if detections.masks is not None:
        (out_dir / "instances").mkdir(exist_ok=True)
        ids = instance_map(detections.regions(), detections.size)
        Image.fromarray(ids.astype(np.uint16)).save(out_dir / "instances" / f"{name}.png")
    if detections.semantic is not None:
        (out_dir / "semantic").mkdir(exist_ok=True)
        write_label_png(out_dir / "semantic" / f"{name}.png", detections.semantic, palette())


def image_id(name: str) -> int | str:
    """What COCO's files call the image of a file's name without suffix."""
    return int(name) if name.isdecimal() else name


def coco_results(
    detections: Detections, name: str, classes: Sequence[str], category_ids: Sequence[int] | None
) -> list[dict[str, Any]]:
    """What `detect_files` writes of one image; ``name`` is its file's without suffix."""
    results = detections.to_coco(image_id(name), category_ids)
    for number, (result, class_id) in enumerate(zip(results, detections.classes, strict=True), 1):
        result |= {"category": classes[class_id], "instance": number}
    return results


def draw_detections(
    image: np.ndarray,
    detections: Detections,
    classes: Sequence[str],
    *,
    skeleton: Sequence[tuple[int, int]] = (),
    colors: np.ndarray | None = None,
) -> np.ndarray:
    """Detections on their image, with names and scores; see `draw_instances`.

    Args:
        image: uint8 (H, W, 3) RGB or (H, W, 1) gray, of the detections' size.
        detections: what was found in it. Of a panoptic model's labels all but 0, which stands
            for the objects, lie below them.
        classes: names by class.
        skeleton: pairs of keypoints to be joined by lines.
        colors: uint8 (N, 3); None: as `draw_instances` chooses.

    Returns:
        uint8 (H, W, 3).
    """
    if detections.semantic is not None:
        image = overlay(image, detections.semantic, palette(), alpha=0.3, ignore_label=0)
    pairs = zip(detections.classes, detections.scores, strict=True)
    return draw_instances(
        image,
        detections.boxes,
        regions=None if detections.masks is None else detections.regions(),
        keypoints=detections.keypoints,
        labels=[f"{classes[class_id]} {score:.2f}" for class_id, score in pairs],
        skeleton=skeleton,
        keypoint_threshold=KEYPOINT_THRESHOLD,
        colors=colors,
    )
