"""Panoptic quality: by hand, from sets of pixels on COCO's sample, and against another's."""

import json

import numpy as np
import pytest
from PIL import Image

from tfseg.metrics import PanopticQuality
from tfseg.ops.panoptic import ids_from_rgb, rgb_from_ids

CATEGORIES = ((3, "cat", True), (8, "dog", True), (5, "sky", False))


def _quality():
    return PanopticQuality(*zip(*CATEGORIES, strict=True))


def _segment(number, category, area, crowd=0):
    return {"id": number, "category_id": category, "area": area, "iscrowd": crowd}


def _row(pixels):
    """A map of one row from (id, pixels) runs."""
    return np.repeat([i for i, _ in pixels], [n for _, n in pixels])[None]


def _rows(quality):
    names = ("true_positives", "false_positives", "false_negatives")
    return {row["name"]: tuple(row[n] for n in names) for row in quality.per_class()}


def test_by_hand():
    quality = _quality()
    truth = _row([(1, 10), (2, 10), (7, 20)])
    found = _row([(4, 8), (9, 5), (5, 7), (6, 20)])
    quality.update(
        truth,
        [_segment(1, 3, 10), _segment(2, 3, 10), _segment(7, 5, 20)],
        found,
        [
            {"id": 4, "category_id": 3},  # 8 of 10
            {"id": 9, "category_id": 3},  # 2 and 3 of 10
            {"id": 5, "category_id": 8},  # 7 of 10, but a dog
            {"id": 6, "category_id": 5},
        ],
    )
    assert _rows(quality) == {"cat": (1, 1, 1), "dog": (0, 1, 0), "sky": (1, 0, 0)}
    result = quality.result()
    cat = 0.8 / (1 + 0.5 + 0.5)
    assert result["pq"] == pytest.approx((cat + 0 + 1) / 3)
    assert result["sq"] == pytest.approx((0.8 + 0 + 1) / 3)
    assert result["rq"] == pytest.approx((0.5 + 0 + 1) / 3)
    assert result["pq_things"] == pytest.approx((cat + 0) / 2)
    assert result["sq_things"] == pytest.approx(0.4)
    assert result["rq_things"] == pytest.approx(0.25)
    assert [result[f"{name}_stuff"] for name in ("pq", "sq", "rq")] == [1, 1, 1]
    assert "cat       40.00   80.00   50.00" in quality.table()


@pytest.mark.parametrize(("common", "counts"), [(10, (0, 1, 1)), (11, (1, 0, 0))])
def test_half_is_no_match(common, counts):
    """Of 20 pixels in either one, 10 are no match and 11 are."""
    quality = _quality()
    truth = _row([(1, 15), (2, 25)])
    found = _row([(0, 15 - common), (1, common + 5), (0, 20)])
    true = [_segment(1, 3, 15), _segment(2, 5, 25)]
    quality.update(truth, true, found, [{"id": 1, "category_id": 3}])
    assert _rows(quality)["cat"] == counts


def test_pixels_of_no_segment_count_in_no_union():
    quality = _quality()
    truth = _row([(1, 6), (0, 30)])
    found = _row([(1, 36)])
    quality.update(truth, [_segment(1, 3, 6)], found, [{"id": 1, "category_id": 3}])
    assert quality.result()["sq"] == 1


@pytest.mark.parametrize(("nothing", "wrong"), [(10, 1), (11, 0)])
def test_predictions_mostly_on_no_segment_are_no_mistake(nothing, wrong):
    quality = _quality()
    truth = _row([(0, nothing), (1, 20 - nothing), (1, 50)])
    found = _row([(2, 20), (0, 50)])
    true = [_segment(1, 5, 70 - nothing)]
    quality.update(truth, true, found, [{"id": 2, "category_id": 3}])
    assert _rows(quality)["cat"] == (0, wrong, 0)


@pytest.mark.parametrize(("crowd", "wrong"), [(3, 0), (8, 1)])
def test_a_crowd_takes_predictions_of_its_category_only(crowd, wrong):
    quality = _quality()
    truth = _row([(1, 60), (2, 40)])
    found = _row([(1, 20), (2, 20), (3, 20), (4, 40)])
    true = [_segment(1, crowd, 60, 1), _segment(2, 5, 40)]
    cats = [{"id": i, "category_id": 3} for i in (1, 2, 3)]
    quality.update(truth, true, found, [*cats, {"id": 4, "category_id": 5}])
    # a crowd is not to be found, and matches nothing
    assert _rows(quality) == {"cat": (0, 3 * wrong, 0), "dog": (0, 0, 0), "sky": (1, 0, 0)}


def test_categories_that_are_nowhere_are_in_no_mean():
    quality = _quality()
    truth, found = _row([(1, 10)]), _row([(0, 10)])
    quality.update(truth, [_segment(1, 3, 10)], found, [])
    result = quality.result()
    assert (result["pq"], result["pq_things"]) == (0, 0)
    assert np.isnan(result["pq_stuff"])
    assert np.isnan(quality.per_class()[1]["pq"])
    assert quality.per_class()[0] | {"false_negatives": 0} == {
        **{"name": "cat", "thing": True, "pq": 0, "sq": 0, "rq": 0},
        **{"true_positives": 0, "false_positives": 0, "false_negatives": 0},
    }


def _sample(folder):
    """The categories, and of each image its map and segments."""
    tree = json.loads((folder / "sample_data/panoptic_examples.json").read_text())
    images = []
    for annotation in tree["annotations"]:
        path = folder / "sample_data/panoptic_examples" / annotation["file_name"]
        images.append((ids_from_rgb(np.array(Image.open(path))), annotation["segments_info"]))
    return tree, images


def _perturbed(ids, segments, rng):
    """A prediction with mistakes of every kind."""
    found = np.roll(ids, rng.integers(-12, 13, 2), (0, 1))
    listed = {s["id"]: s["category_id"] for s in segments}
    lost, renamed, halved = (
        rng.choice(list(listed), len(listed) // 5, replace=False).tolist() for _ in range(3)
    )
    found[np.isin(found, lost)] = 0
    for number in renamed:
        listed[number] = rng.choice(list(listed.values())).item()
    for number in halved:
        half = (found == number) & (np.arange(found.shape[1]) > found.shape[1] / 2)
        found[half] = number + 1
        listed[number + 1] = listed[number]
    block = [int(n) for n in rng.integers(0, 200, 2)]
    found[block[0] : block[0] + 40, block[1] : block[1] + 60] = 5
    listed[5] = 1
    present = set(np.unique(found).tolist())
    return found, [{"id": i, "category_id": c} for i, c in listed.items() if i in present]


def _by_pixels(images, categories):
    """{category: (sum of IoU, TP, FP, FN)} from boolean masks, segment by segment."""
    counts = {number: np.zeros(4) for number in categories}
    for ids, segments, found, listed in images:
        matched = set()
        for true in (s for s in segments if not s["iscrowd"]):
            same = [p for p in listed if p["category_id"] == true["category_id"]]
            ious = {}
            for p in same:
                a, b = ids == true["id"], (found == p["id"]) & (ids != 0)
                ious[p["id"]] = (a & b).sum() / (a | b).sum()
            best = max(ious, key=ious.get, default=None)
            hit = best is not None and ious[best] > 0.5
            counts[true["category_id"]] += (ious[best], 1, 0, 0) if hit else (0, 0, 0, 1)
            matched |= {best} if hit else set()
        for p in listed:
            crowd = [s for s in segments if s["iscrowd"] and s["category_id"] == p["category_id"]]
            excused = np.isin(ids, [0, *(s["id"] for s in crowd)])
            if p["id"] not in matched and excused[found == p["id"]].mean() <= 0.5:
                counts[p["category_id"]] += (0, 0, 1, 0)
    return counts


def _expected(counts, chosen):
    rows = np.array([counts[c] for c in chosen if counts[c][1:].any()])
    iou, hits, extra, missed = rows.T
    sq = np.divide(iou, hits, out=np.zeros_like(iou), where=hits > 0)
    rq = hits / (hits + (extra + missed) / 2)
    return (sq * rq).mean(), sq.mean(), rq.mean()


def _predicted_sample(folder, seed):
    rng = np.random.default_rng(seed)
    tree, images = _sample(folder)
    categories = tree["categories"]
    quality = PanopticQuality(
        [c["id"] for c in categories],
        [c["name"] for c in categories],
        [bool(c["isthing"]) for c in categories],
    )
    full = [(ids, segments, *_perturbed(ids, segments, rng)) for ids, segments in images]
    for image in full:
        quality.update(*image)
    return tree, full, quality


def test_the_truth_is_perfect(shared):
    tree, images = _sample(shared("data/panoptic_sample"))
    rows = [(c["id"], c["name"], c["isthing"]) for c in tree["categories"]]
    quality = PanopticQuality(*zip(*rows, strict=True))
    for ids, segments in images:
        # as panopticapi, areas are taken from the JSON: they are those of the map
        assert all((ids == s["id"]).sum() == s["area"] for s in segments)
        quality.update(ids, segments, ids, segments)
    assert quality.result() == dict.fromkeys(quality.result(), 1.0)


@pytest.mark.parametrize("seed", range(3))
def test_from_sets_of_pixels(shared, seed):
    tree, full, quality = _predicted_sample(shared("data/panoptic_sample"), seed)
    counts = _by_pixels(full, [c["id"] for c in tree["categories"]])
    total = sum(counts.values())
    assert (total[1:] > 3).all()  # of TP, FP and FN
    result = quality.result()
    for part, kept in (("", (0, 1)), ("_things", (1,)), ("_stuff", (0,))):
        chosen = [c["id"] for c in tree["categories"] if c["isthing"] in kept]
        found = [result[name + part] for name in ("pq", "sq", "rq")]
        assert found == pytest.approx(_expected(counts, chosen))


@pytest.mark.parametrize("seed", range(3))
def test_against_hotcoco(shared, tmp_path, capfd, seed):
    panoptic = pytest.importorskip("hotcoco.panoptic")
    folder = shared("data/panoptic_sample")
    tree, full, quality = _predicted_sample(folder, seed)
    annotations = []
    for annotation, (_, _, found, listed) in zip(tree["annotations"], full, strict=True):
        Image.fromarray(rgb_from_ids(found)).save(tmp_path / annotation["file_name"])
        annotations.append({**annotation, "segments_info": listed})
    (tmp_path / "found.json").write_text(json.dumps(tree | {"annotations": annotations}))
    sample = folder / "sample_data"
    other = panoptic.pq_compute(
        sample / "panoptic_examples.json",
        tmp_path / "found.json",
        sample / "panoptic_examples",
        tmp_path,
    )
    result = quality.result()
    for part, name in (("", "All"), ("_things", "Things"), ("_stuff", "Stuff")):
        for figure in ("pq", "sq", "rq"):
            assert result[figure + part] == pytest.approx(other[name][figure], abs=1e-12)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"truth": np.ones((3, 4), int)}, r"must be one \(H, W\), are \(3, 4\) and \(1, 10\)"),
        ({"truth": np.full((1, 10), -1)}, r"true segment ids must be integers 0\.\.16777215"),
        ({"prediction": np.ones((1, 10))}, "predicted segment ids must be integers"),
        ({"predicted_segments": []}, r"predicted segments \[2\] are not listed"),
        (
            {"predicted_segments": [{"id": 2, "category_id": 3}, {"id": 4, "category_id": 3}]},
            r"predicted segments \[4\] are listed but have no pixels",
        ),
        ({"predicted_segments": [{"id": 2, "category_id": 4}]}, "2 is of the unknown category 4"),
        ({"predicted_segments": [{"id": 0, "category_id": 3}]}, "id 0, which stands for none"),
        ({"predicted_segments": [{"id": 2}]}, "lacks category_id"),
        ({"true_segments": [{"id": 1, "category_id": 3}]}, "lacks area, iscrowd"),
        ({"true_segments": [_segment(1, 3, 10)] * 2}, "two true segments have one id"),
    ],
)
def test_mistakes_are_named(change, message):
    image = {
        "truth": _row([(1, 10)]),
        "true_segments": [_segment(1, 3, 10)],
        "prediction": _row([(2, 10)]),
        "predicted_segments": [{"id": 2, "category_id": 3}],
    }
    quality = _quality()
    quality.update(**image)
    with pytest.raises(ValueError, match=message):
        quality.update(**image | change)


def test_categories_that_make_no_sense():
    with pytest.raises(ValueError, match="2, 1 and 2 ids, names and things"):
        PanopticQuality([1, 2], ["a"], [True, False])
    with pytest.raises(ValueError, match="hold one twice"):
        PanopticQuality([1, 1], ["a", "b"], [True, False])
