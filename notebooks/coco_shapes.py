"""Procedural shapes as a small data set in COCO's formats: objects, keypoints, panoptic maps."""

import json
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as rle

from tfseg.data.shapes import SHAPES, draw
from tfseg.ops.panoptic import rgb_from_ids

#: as `tfseg.data.shapes.KEYPOINTS`, under names of which a mirror image exchanges left_ and right_
KEYPOINTS = ["top", "right_side", "bottom", "left_side"]
THINGS = [
    {"id": number, "name": shape.name, "keypoints": KEYPOINTS, "skeleton": [[1, 3], [2, 4]]}
    for number, shape in enumerate(SHAPES, start=1)
]
BACKGROUND = {"id": len(SHAPES) + 1, "name": "background", "isthing": 0}


def _object(drawn: dict[str, np.ndarray], place: int, image_id: int) -> dict:
    """One drawn shape as an annotation of COCO's."""
    inside = drawn["instances"] == place + 1
    encoded = rle.encode(np.asfortranarray(inside.astype(np.uint8)))
    x1, y1, x2, y2 = drawn["boxes"][place].tolist()
    points = drawn["keypoints"][place]
    # COCO names the pixel, not its centre.
    points = np.where(points[:, 2:] > 0, points - np.float32([0.5, 0.5, 0]), 0)
    return {
        "id": 100 * image_id + place + 1,
        "image_id": image_id,
        "category_id": int(drawn["labels"][place]),
        "bbox": [x1, y1, x2 - x1, y2 - y1],
        "area": int(inside.sum()),
        "iscrowd": 0,
        "segmentation": {"size": list(inside.shape), "counts": encoded["counts"].decode()},
        "keypoints": points.ravel().tolist(),
        "num_keypoints": int((points[:, 2] > 0).sum()),
    }


def _panoptic(drawn: dict[str, np.ndarray], objects: list[dict], image_id: int) -> tuple:
    """The map of segments, and what stands for it in the JSON: objects, and the background."""
    ids = drawn["instances"] + 1  # 0 is of no segment
    segments = [{"id": 1, "category_id": BACKGROUND["id"], "area": int((ids == 1).sum())}]
    for place, found in enumerate(objects):
        segments.append(
            {"id": place + 2, "category_id": found["category_id"], "area": found["area"]}
        )
    annotation = {
        "image_id": image_id,
        "file_name": f"{image_id}.png",
        "segments_info": [{**segment, "iscrowd": 0} for segment in segments],
    }
    return rgb_from_ids(ids), annotation


def write(folder: Path, count: int, size: int, seed: int) -> dict[str, str]:
    """Draws pictures and writes them with their annotations.

    Args:
        folder: where to; is made.
        count: of pictures.
        size: of a picture's side, in pixels.
        seed: another one gives other pictures.

    Returns:
        The options of the reader `coco` that name the files.
    """
    for name in ("images", "panoptic"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    images, objects, maps = [], [], []
    for image_id in range(1, count + 1):
        drawn = draw(np.random.default_rng((seed, image_id)), size, size)
        own = [_object(drawn, place, image_id) for place in range(len(drawn["labels"]))]
        colors, annotation = _panoptic(drawn, own, image_id)
        name = f"{image_id}.png"
        Image.fromarray(drawn["image"]).save(folder / "images" / name)
        Image.fromarray(colors).save(folder / "panoptic" / name)
        images.append({"id": image_id, "file_name": name, "height": size, "width": size})
        objects += own
        maps.append(annotation)
    instances = {"images": images, "annotations": objects, "categories": THINGS}
    (folder / "instances.json").write_text(json.dumps(instances))
    kinds = [*({"id": c["id"], "name": c["name"], "isthing": 1} for c in THINGS), BACKGROUND]
    panoptic = {"images": images, "annotations": maps, "categories": kinds}
    (folder / "panoptic.json").write_text(json.dumps(panoptic))
    return {
        "images": str(folder / "images"),
        "annotations": str(folder / "instances.json"),
        "panoptic_masks": str(folder / "panoptic"),
        "panoptic_annotations": str(folder / "panoptic.json"),
    }
