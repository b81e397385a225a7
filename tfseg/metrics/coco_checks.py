"""What COCO average precision is computed from, checked: the truth and the results.

pycocotools checks neither. It never returns from overlaps with damaged run lengths, takes an
annotation of id 0 for none, and reads polygons of two points as boxes.
"""

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from numbers import Real
from typing import Any

from tfseg.ops.rle import rle_runs

KINDS = ("bbox", "segm", "keypoints")


def checked_truth(
    truth: Mapping[str, Any],
    category_ids: Sequence[int],
    kinds: Collection[str],
    keypoints: int,
) -> dict[str, list[dict[str, Any]]]:
    """What scores need of a truth in COCO's format; a copy, which evaluators may change.

    Annotations of other categories are left out, the others are numbered from 1. Those without
    ``iscrowd`` (as LVIS) are none, those without ``keypoints`` have none labelled, which makes
    them ignored regions to the score of keypoints.

    Args:
        truth: "images", "annotations", "categories".
        category_ids: the categories that are scored.
        kinds: of `KINDS`; which keys annotations must have.
        keypoints: the number of keypoints of an object.

    Raises:
        ValueError: ids that are unknown or there twice, or an annotation that lacks a key or
            holds what cannot be scored; the first one is named.
    """
    lacking = {"images", "annotations", "categories"} - truth.keys()
    if lacking:
        raise ValueError(f"the truth lacks {', '.join(sorted(lacking))}")
    sizes = image_sizes(truth)
    known = {category["id"] for category in truth["categories"]}
    missing = [number for number in category_ids if number not in known]
    if missing:
        raise ValueError(f"the truth has no categories {missing}, only {sorted(known)}")
    wanted = set(category_ids)
    if len(wanted) != len(category_ids):
        raise ValueError(f"category_ids hold one twice: {list(category_ids)}")
    annotations: list[dict[str, Any]] = []
    for annotation in truth["annotations"]:
        if annotation["category_id"] in wanted:
            try:
                found = _annotation(annotation, sizes, kinds, keypoints)
            except KeyError as e:
                raise ValueError(f"annotation {annotation.get('id')} has no {e}") from None
            except ValueError as e:
                raise ValueError(f"annotation {annotation.get('id')}: {e}") from None
            annotations.append({"id": len(annotations) + 1, **found})
    return {
        "images": [{"id": i, "height": h, "width": w} for i, (h, w) in sizes.items()],
        "categories": [{"id": number, "name": str(number)} for number in sorted(wanted)],
        "annotations": annotations,
    }


def image_sizes(truth: Mapping[str, Any]) -> dict[int, tuple[int, int]]:
    """The (height, width) of the images by their ids.

    Raises:
        ValueError: a truth without images, or an id that is there twice.
    """
    sizes = {image["id"]: (image["height"], image["width"]) for image in truth["images"]}
    if not sizes:
        raise ValueError("the truth has no images")
    if len(sizes) != len(truth["images"]):
        raise ValueError("the truth has two images of one id")
    return sizes


def _annotation(
    annotation: Mapping[str, Any],
    sizes: Mapping[int, tuple[int, int]],
    kinds: Collection[str],
    keypoints: int,
) -> dict[str, Any]:
    image_id = annotation["image_id"]
    if image_id not in sizes:
        raise ValueError(f"the truth has no image {image_id}")
    kept = {key: annotation[key] for key in ("image_id", "category_id", "area")}
    kept["bbox"] = _numbers("bbox", annotation["bbox"], 4)
    kept["iscrowd"] = int(annotation.get("iscrowd", 0))
    if "segm" in kinds:
        kept["segmentation"] = _true_mask(annotation["segmentation"], sizes[image_id])
    if "keypoints" in kinds:
        points = annotation.get("keypoints") or [0] * (3 * keypoints)
        kept["keypoints"] = _keypoints(points, keypoints)
        kept["num_keypoints"] = sum(v > 0 for v in points[2::3])
    return kept


def _true_mask(segmentation: Any, size: tuple[int, int]) -> Any:
    if isinstance(segmentation, Mapping):
        rle_runs(segmentation, size)
        return dict(segmentation)
    if not segmentation or len(segmentation[0]) < 6:
        raise ValueError("segmentation must be an RLE or polygons of 3 points or more")
    return segmentation


def checked_result(
    result: Any,
    size: tuple[int, int],
    category_ids: Collection[int],
    kinds: Collection[str],
    keypoints: int,
) -> dict[str, Any]:
    """A copy of a detection in the format of COCO's results, with what scores need of it.

    Args:
        result: "category_id", "score", and the keys of its kinds: "bbox" (x, y, width, height),
            "segmentation" (a compressed RLE), "keypoints" (x, y, score of each in one list).
        size: the image's (height, width).
        category_ids: which there are.
        kinds: of `KINDS`; which keys it must have. A "bbox" is kept anyhow.
        keypoints: the number of keypoints of an object.

    Raises:
        ValueError: a missing key, an unknown category, numbers that are too few, too many or not
            finite, or a damaged RLE.
    """
    if not isinstance(result, Mapping):
        raise ValueError(f"is no object of JSON but {result!r}")
    keys = {"bbox": "bbox", "segm": "segmentation", "keypoints": "keypoints"}
    missing = [k for k in ("category_id", "score", *(keys[k] for k in kinds)) if k not in result]
    if missing:
        raise ValueError(f"lacks {', '.join(missing)}")
    if result["category_id"] not in category_ids:
        raise ValueError(f"category {result['category_id']!r} is none of {sorted(category_ids)}")
    kept: dict[str, Any] = {"category_id": int(result["category_id"])}
    kept["score"] = _numbers("score", [result["score"]], 1)[0]
    if "bbox" in result:
        kept["bbox"] = _numbers("bbox", result["bbox"], 4)
        if min(kept["bbox"][2:]) < 0:
            raise ValueError(f"bbox {kept['bbox']} has a negative width or height")
    if "segm" in kinds:
        kept["segmentation"] = _found_mask(result["segmentation"], size)
    if "keypoints" in kinds:
        kept["keypoints"] = _keypoints(result["keypoints"], keypoints)
    return kept


def _found_mask(segmentation: Any, size: tuple[int, int]) -> dict[str, Any]:
    if not isinstance(segmentation, Mapping) or not isinstance(segmentation.get("counts"), str):
        raise ValueError("segmentation must be a compressed RLE")
    rle_runs(segmentation, size)
    return dict(segmentation)


def _keypoints(values: Any, count: int) -> list[float]:
    if isinstance(values, list) and len(values) != 3 * count:
        raise ValueError(
            f"has {len(values)} keypoint numbers, but {count} OKS sigmas want {3 * count}"
        )
    return _numbers("keypoints", values, 3 * count)


def _numbers(name: str, values: Any, count: int) -> list[float]:
    ok = isinstance(values, list | tuple) and len(values) == count
    if not ok or not all(isinstance(v, Real) and isfinite(v) for v in values):
        raise ValueError(f"{name} must be {count} finite numbers, not {values!r}")
    return [float(value) for value in values]
