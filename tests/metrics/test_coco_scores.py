"""COCO's scores: the official figures, by hand, and what is refused."""

import json
import re

import numpy as np
import pytest

from tfseg.metrics import CocoScores

PREFIX = {"bbox": "box", "segm": "mask", "keypoints": "keypoint"}


def _truth(*annotations, size=(100, 200), categories=(1,)):
    """Boxes x, y, w, h (category 1 unless they say) in image 7, and an image 9 without any."""
    filled = [
        {
            "id": n,
            "image_id": 7,
            "category_id": 1,
            "iscrowd": 0,
            "area": a["bbox"][2] * a["bbox"][3],
        }
        | a
        for n, a in enumerate(annotations, 1)
    ]
    images = [{"id": i, "height": size[0], "width": size[1]} for i in (7, 9)]
    named = [{"id": c, "name": f"c{c}"} for c in categories]
    return {"images": images, "categories": named, "annotations": filled}


def _found(box, score, category=1, **parts):
    return {"category_id": category, "bbox": box, "score": score, **parts}


def _rectangle(top, left, height, width, size=(100, 200)):
    mask = np.zeros(size, np.uint8, order="F")
    mask[top : top + height, left : left + width] = 1
    encode = pytest.importorskip("pycocotools.mask").encode
    return {"size": list(size), "counts": encode(mask)["counts"].decode()}


def _fake(shared, kind, evaluator):
    """The scores of the released fake detections."""
    folder = shared("data/coco_eval")
    truth = folder / "instances_val2014_100.json"
    categories = json.loads(truth.read_text())["categories"]
    numbers, names = [c["id"] for c in categories], [c["name"] for c in categories]
    scores = CocoScores(truth, numbers, names, (kind,), evaluator=evaluator)
    scores.read(folder / f"instances_val2014_fake{kind}100_results.json")
    return scores


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_the_official_figures(shared, capsys, kind, evaluator):
    printed = (shared("data/coco_eval") / "val2014_fake_eval_res.txt").read_text()
    part = re.search(rf"type={kind}\n(.*?)(?:---|\Z)", printed, re.S).group(1)
    lines = re.findall(r"\((A[PR])\).*IoU=([\d.:]+).*area=\s*(\w+).*Dets=\s*(\d+).*= (\S+)", part)
    assert len(lines) == 12
    expected = {}
    for what, iou, area, best, value in lines:
        name = f"{PREFIX[kind]}_{what.lower()}"
        if area != "all":
            name += f"_{area}"
        elif what == "AR":
            name += best
        elif iou != "0.50:0.95":
            name += iou[2:]
        expected[name] = value
    found = _fake(shared, kind, evaluator).result()
    assert {name: f"{value:.3f}" for name, value in found.items()} == expected
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_evaluators_agree_to_the_last_bit(shared, kind):
    pytest.importorskip("hotcoco")
    one, other = (_fake(shared, kind, evaluator) for evaluator in ("pycocotools", "hotcoco"))
    assert one.result() == other.result()
    np.testing.assert_equal(one.per_class(), other.per_class())


def _random_objects(rng, image_id):
    """Annotations of random boxes, masks, crowds and keypoints, and detections near them."""
    annotations, results = [], []
    for _ in range(rng.integers(0, 7)):
        x, y, w, h = (int(n) for n in rng.integers([0, 0, 5, 5], [90, 40, 110, 60]))
        points = np.stack([rng.integers(x, x + w, 17), rng.integers(y, y + h, 17)], axis=1)
        seen = rng.integers(0, 3, (17, 1)) * (rng.random() < 0.9)
        keypoints = np.concatenate([points * (seen > 0), seen], axis=1)
        category = int(rng.choice([2, 5, 9]))
        annotations.append(
            {"image_id": image_id, "category_id": category, "bbox": [x, y, w, h]}
            | {"segmentation": [[x, y, x + w, y, x + 0.5, y + h]], "area": w * h / 2}
            | {"keypoints": keypoints.ravel().tolist(), "iscrowd": int(rng.random() < 0.1)}
        )
        for _ in range(rng.integers(0, 4)):
            dx, dy = (int(n) for n in rng.integers(0, 4, 2))
            found = keypoints + rng.normal(0, w * 0.03, (17, 3))
            results.append(
                _found([x + dx, y + dy, w, h], round(rng.random(), 1), category)
                | {"keypoints": found.ravel().tolist()}
                | {"segmentation": _rectangle(y + dy, x + dx, h, w // 2)}
            )
    return annotations, results


def test_evaluators_agree_on_ties_crowds_and_keypoints():
    pytest.importorskip("hotcoco")
    rng = np.random.default_rng(0)
    images = {number: _random_objects(rng, number) for number in range(3, 150, 7)}
    truth = {
        "images": [{"id": number, "height": 100, "width": 200} for number in images],
        "annotations": [a for annotations, _ in images.values() for a in annotations],
        "categories": [{"id": number} for number in (9, 2, 5)],
    }
    found = []
    for evaluator in ("pycocotools", "hotcoco"):
        kinds = ["bbox", "segm", "keypoints"]
        scores = CocoScores(truth, [9, 2, 5], ["a", "b", "c"], kinds, evaluator=evaluator)
        for number, (_, results) in images.items():
            scores.update(number, results)
        found.append((scores.result(), scores.per_class()))
    np.testing.assert_equal(*found)
    assert all(0.02 < found[0][0][f"{name}_ap"] < 0.9 for name in PREFIX.values())


def test_average_precision_by_hand(evaluator):
    truth = _truth({"bbox": [10, 10, 40, 40]}, {"bbox": [100, 10, 50, 50]})
    scores = CocoScores(truth, [1], ["thing"], ["bbox"], evaluator=evaluator)
    right, wrong, second = [10, 10, 40, 40], [60, 60, 10, 10], [100, 10, 50, 50]
    scores.update(7, [_found(right, 0.9), _found(second, 0.7)])
    scores.update(9, [_found(wrong, 0.8)])
    result = scores.result()
    # precision 1 up to recall 0.5, 2/3 up to 1
    assert result["box_ap"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert result["box_ap50"] == pytest.approx(result["box_ap75"])
    assert (result["box_ar1"], result["box_ar10"], result["box_ar100"]) == (0.5, 1, 1)
    # the small detection belongs to no medium object
    assert result["box_ap_medium"] == pytest.approx(1)
    assert np.isnan(result["box_ap_small"])
    assert np.isnan(result["box_ap_large"])


def test_crowds_count_for_nothing(evaluator):
    crowd = {"bbox": [100, 10, 90, 80], "iscrowd": 1}
    truth = _truth({"bbox": [10, 10, 40, 40]}, crowd)
    scores = CocoScores(truth, [1], ["thing"], ["bbox"], evaluator=evaluator)
    inside = [_found([110 + 5 * n, 20, 20, 20], 0.9) for n in range(3)]
    scores.update(7, [*inside, _found([10, 10, 40, 40], 0.5)])
    assert scores.result()["box_ap"] == pytest.approx(1)


def test_an_annotation_of_id_0_and_one_without_iscrowd(evaluator):
    truth = _truth({"bbox": [10, 10, 40, 40], "id": 0})
    del truth["annotations"][0]["iscrowd"]
    scores = CocoScores(truth, [1], ["thing"], ["bbox"], evaluator=evaluator)
    scores.update(7, [_found([10, 10, 40, 40], 0.5)])
    assert scores.result()["box_ap"] == pytest.approx(1)


def test_classes_in_their_own_order(evaluator):
    truth = _truth(
        {"bbox": [10, 10, 40, 40], "category_id": 5},
        {"bbox": [100, 10, 50, 50], "category_id": 3},
        {"bbox": [0, 0, 9, 9], "category_id": 90},
        categories=(3, 4, 5, 90),
    )
    scores = CocoScores(truth, [5, 3, 4], ["five", "three", "four"], ["bbox"], evaluator=evaluator)
    scores.update(7, [_found([10, 10, 40, 40], 0.5, 5), _found([10, 10, 40, 40], 0.5, 3)])
    rows = scores.per_class()
    assert [row["name"] for row in rows] == ["five", "three", "four"]
    assert [row["box_ap"] for row in rows] == pytest.approx([1, 0, np.nan], nan_ok=True)
    assert scores.result()["box_ap"] == pytest.approx(0.5)
    assert re.search(r"three +0.00\nfour +nan\nall +50.00", scores.table())
    assert re.search(r"box_ap50 +50.00", scores.table())


def test_no_detections(evaluator):
    mask = _rectangle(10, 10, 40, 40)
    truth = _truth({"bbox": [10, 10, 40, 40], "segmentation": mask, "keypoints": [20, 20, 2] * 17})
    kinds = ["bbox", "segm", "keypoints"]
    scores = CocoScores(truth, [1], ["thing"], kinds, evaluator=evaluator)
    for update in (lambda: None, lambda: scores.update(7, [])):
        update()
        result = scores.result()
        assert len(result) == 12 + 12 + 10
        assert all(result[f"{name}_ap"] == 0 for name in PREFIX.values())
        assert scores.per_class()[0]["mask_ap"] == 0


def test_no_objects(evaluator):
    scores = CocoScores(_truth(), [1], ["thing"], ["bbox"], evaluator=evaluator)
    scores.update(7, [_found([10, 10, 40, 40], 0.5)])
    assert all(np.isnan(value) for value in scores.result().values())


def test_the_mask_tells_whether_a_mask_is_small(evaluator):
    """The wrong one's mask is small, though its box is not: it counts among the small."""
    truth = _truth({"bbox": [10, 10, 20, 20], "segmentation": _rectangle(10, 10, 20, 20)})
    scores = CocoScores(truth, [1], ["thing"], ["bbox", "segm"], evaluator=evaluator)
    right = _found([10, 10, 20, 20], 0.5, segmentation=_rectangle(10, 10, 20, 20))
    wrong = _found([50, 10, 80, 80], 0.9, segmentation=_rectangle(40, 60, 5, 5))
    scores.update(7, [wrong, right])
    result = scores.result()
    assert result["box_ap_small"] == pytest.approx(1)
    assert result["mask_ap_small"] == pytest.approx(0.5)


def test_results_files(tmp_path):
    mask = _rectangle(10, 10, 40, 40)
    point = [20, 20, 2] * 17
    truth = _truth({"bbox": [10, 10, 40, 40], "segmentation": mask, "keypoints": point})
    results = [
        _found([10.5, 10, 40, 40], 1 / 3, segmentation=mask, keypoints=point),
        _found([60, 10.1, 5, 5], 0.25, segmentation=_rectangle(10, 60, 5, 5), keypoints=point),
    ]
    kinds = ("bbox", "segm", "keypoints")
    written, read = (CocoScores(truth, [1], ["thing"], kinds) for _ in range(2))
    written.update(7, results)
    written.write(tmp_path / "results.json")
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored == [{"image_id": 7, **result} for result in results]
    read.read(tmp_path / "results.json")
    np.testing.assert_equal(read.result(), written.result())
    # and pycocotools itself takes it
    pytest.importorskip("pycocotools.coco")
    from pycocotools.coco import COCO

    (tmp_path / "truth.json").write_text(json.dumps(truth))
    loaded = COCO(str(tmp_path / "truth.json")).loadRes(str(tmp_path / "results.json"))
    assert [a["bbox"] for a in loaded.loadAnns(loaded.getAnnIds())] == [r["bbox"] for r in results]


def test_the_sum_is_computed_anew_after_an_update():
    truth = _truth({"bbox": [10, 10, 40, 40]})
    scores = CocoScores(truth, [1], ["thing"], ["bbox"])
    assert scores.result()["box_ap"] == 0
    scores.update(7, [_found([10, 10, 40, 40], 0.5)])
    assert scores.result()["box_ap"] == pytest.approx(1)


BOX = [10, 10, 40, 40]


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"bbox": BOX, "score": 1.0}, "result 0 of image 7: lacks category_id, segmentation"),
        (_found(BOX, 0.5), "lacks segmentation"),
        (_found(BOX, 0.5, 2, segmentation={}), r"category 2 is none of \[1\]"),
        (_found(BOX, float("nan"), segmentation={}), r"score must be 1 finite numbers, not \[nan"),
        (_found([1, 2, 3], 0.5, segmentation={}), "bbox must be 4 finite numbers"),
        (_found([1, 2, "3", 4], 0.5, segmentation={}), "bbox must be 4 finite numbers"),
        (_found([1, 2, -3, 4], 0.5, segmentation={}), "negative width or height"),
        (_found(BOX, 0.5, segmentation=[[1, 1, 5, 5, 1, 5]]), "must be a compressed RLE"),
        (_found(BOX, 0.5, segmentation={"size": [100, 200], "counts": [20000]}), "compressed RLE"),
        (_found(BOX, 0.5, segmentation={"size": [9, 9], "counts": "123"}), r"RLE has size \[9, 9"),
        # pycocotools would never return from it
        (_found(BOX, 0.5, segmentation={"size": [100, 200], "counts": "123"}), "do not fill"),
        ("box", "is no object of JSON but 'box'"),
    ],
)
def test_results_that_cannot_be_scored(result, message):
    truth = _truth({"bbox": BOX, "segmentation": _rectangle(10, 10, 40, 40)})
    scores = CocoScores(truth, [1], ["thing"])
    with pytest.raises(ValueError, match=message):
        scores.update(7, [result])


def test_images_that_cannot_be_scored(tmp_path):
    scores = CocoScores(_truth({"bbox": BOX}), [1], ["thing"], ["bbox"])
    with pytest.raises(ValueError, match="the truth has no image 8"):
        scores.update(8, [])
    scores.update(9, [])
    with pytest.raises(ValueError, match="image 9 was added before"):
        scores.update(9, [])
    path = tmp_path / "results.json"
    for content, message in (
        ({}, "results.json is no list of results"),
        ([{"bbox": BOX}], "result 0 has no image_id that is an integer"),
        ([{"image_id": 8, **_found(BOX, 0.5)}], "results.json: the truth has no image 8"),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            scores.read(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_id": 3}, "annotation 1: the truth has no image 3"),
        ({"segmentation": []}, "annotation 1: segmentation must be an RLE or polygons of 3 points"),
        ({"segmentation": [[1, 1, 5, 5]]}, "polygons of 3 points or more"),
        ({"segmentation": {"size": [100, 200], "counts": [5]}}, "annotation 1: the RLE's runs"),
        ({"bbox": [1, 2, 3]}, "annotation 1: bbox must be 4 finite numbers"),
    ],
)
def test_truths_that_cannot_be_scored(change, message):
    truth = _truth({"bbox": BOX, "segmentation": [[10, 10, 50, 10, 50, 50]]})
    truth["annotations"][0] |= change
    with pytest.raises(ValueError, match=message):
        CocoScores(truth, [1], ["thing"])


def test_mistakes_are_named():
    truth = _truth({"bbox": BOX})
    with pytest.raises(ValueError, match="annotation 1 has no 'segmentation'"):
        CocoScores(truth, [1], ["thing"])
    with pytest.raises(ValueError, match=r"the truth has no categories \[2\], only \[1\]"):
        CocoScores(truth, [1, 2], ["a", "b"], ["bbox"])
    with pytest.raises(ValueError, match="hold one twice"):
        CocoScores(truth, [1, 1], ["a", "b"], ["bbox"])
    with pytest.raises(ValueError, match="2 class names for 1 categories"):
        CocoScores(truth, [1], ["a", "b"], ["bbox"])
    with pytest.raises(ValueError, match=r"kinds must be of bbox, segm, keypoints, not \['box'\]"):
        CocoScores(truth, [1], ["a"], ["box"])
    with pytest.raises(ValueError, match="evaluator must be"):
        CocoScores(truth, [1], ["a"], ["bbox"], evaluator="fast")
    with pytest.raises(ValueError, match="two images of one id"):
        CocoScores(truth | {"images": truth["images"] * 2}, [1], ["a"], ["bbox"])
    with pytest.raises(ValueError, match="the truth lacks images"):
        CocoScores({"annotations": [], "categories": []}, [1], ["a"], ["bbox"])
