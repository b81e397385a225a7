"""COCO's published panoptic examples as a data set of things and stuff."""

import json


def panoptic_examples(root, folder):
    """The split of an experiment file.

    Args:
        root: the examples. Their file of objects has stuff, too.
        folder: where a file of the things alone goes.
    """
    content = json.loads((root / "panoptic_coco_detection_format.json").read_text())
    kinds = json.loads((root / "panoptic_examples.json").read_text())["categories"]
    things = {kind["id"] for kind in kinds if kind["isthing"]}
    content["categories"] = [c for c in content["categories"] if c["id"] in things]
    content["annotations"] = [a for a in content["annotations"] if a["category_id"] in things]
    path = folder / "things.json"
    path.write_text(json.dumps(content))
    options = {
        "images": str(root / "input_images"),
        "annotations": str(path),
        "panoptic_masks": str(root / "panoptic_examples"),
        "panoptic_annotations": str(root / "panoptic_examples.json"),
    }
    return {"reader": "coco", "options": options}
