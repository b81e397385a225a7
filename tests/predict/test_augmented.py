"""Views, ensembles and given boxes, beside a plain transcription of Detectron's procedure."""

import json

import numpy as np
import pytest
import tensorflow as tf
from detector_parts import Parts
from detector_stand_in import PLAIN

from tfseg.predict.augmented import AugmentedDetector, mirrored, union
from tfseg.predict.detect_graph import DetectGraph, pad_to
from tfseg.predict.detect_views import DetectViews
from tfseg.predict.detector import DetectionPredictor
from tfseg.predict.frames import Frame, moved
from tfseg.predict.results_file import ResultsFile

SIDES = {"short_side": 60, "long_side": 100}
PAIRS = ((0, 2),)
FIELDS = ("boxes", "scores", "classes", "masks", "keypoints")


def image(height, width, seed=0):
    """A smooth picture."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return tf.cast(tf.image.resize(small, (height, width)), tf.uint8).numpy()


def same(found, expected):
    """To the last bit."""
    assert found.size == expected.size
    for name in FIELDS:
        a, b = getattr(found, name), getattr(expected, name)
        assert (a is None) == (b is None)
        assert a is None or (a.shape == b.shape and (a == b).all()), name


def _views(model, **options):
    return DetectViews(model, PLAIN, **(SIDES | options))


def _overlap(a, b):
    shared = (np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2])).clip(0).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


class Reference:
    """core/test.py of Detectron, a view, a class and a box at a time.

    But suppression is in the first view's pixels. Boxes go through the image's own pixels.
    Detectron's end with their last pixel; those of other styles behind it, with ``last`` 0.
    """

    def __init__(self, model, picture, sides, flip):
        self.model, self.last = model, int(model.conventions.inclusive)
        self.tail = np.array([0, 0, self.last, self.last])
        self.height, self.width = picture.shape[:2]
        self.views = []
        for short, long in sides:
            graph = DetectGraph(model, PLAIN, short_side=short, long_side=long)
            for turned in (False, True)[: 1 + flip]:
                shown = np.ascontiguousarray(picture[:, ::-1] if turned else picture)
                prepared = graph.prepare(tf.constant(shown))
                size = tf.shape(prepared)[:2]
                batch = pad_to(prepared, graph.padded_size(size[None]))[None]
                features, found = model.search(batch, tf.cast(size[None], tf.float32))
                scale = size.numpy()[::-1] / np.array([self.width, self.height], np.float64)
                self.views.append((features, found, np.tile(scale, 2), turned))

    def _flip(self, box):
        x1, y1, x2, y2 = box
        return np.array([self.width - x2 - self.last, y1, self.width - x1 - self.last, y2])

    def out(self, box, scale, turned):
        box = (np.array(box, np.float64) - self.tail) / scale
        box = self._flip(box) if turned else box
        return box + self.tail

    def into(self, box, scale, turned):
        box = np.array(box, np.float64) - self.tail
        box = (self._flip(box) if turned else box) * scale
        return box + self.tail

    def objects(self):
        """[(score, class, box in the image), ...] by falling score."""
        keep, results = self.model.thresholds, []
        rows = []
        for _, found, scale, turned in self.views:
            arrays = [found[n].numpy()[0] for n in ("boxes", "scores", "classes", "valid")]
            rows += [
                (float(s), int(c), self.into(self.out(b, scale, turned), *self.views[0][2:]))
                for b, s, c, v in zip(*arrays, strict=True)
                if v
            ]
        for class_id in range(3):
            own = [(s, b) for s, c, b in rows if c == class_id]
            left, kept = sorted(own, key=lambda row: -row[0]), []
            while left:
                left.sort(key=lambda row: -row[0])
                score, box = left.pop(0)
                kept.append((score, box))
                overlaps = [_overlap(box, other) for _, other in left]
                if keep.soft_nms == "gaussian":
                    lowered = [
                        (s * np.exp(-(o**2) / keep.soft_sigma), b)
                        for (s, b), o in zip(left, overlaps, strict=True)
                    ]
                    left = [row for row in lowered if row[0] >= keep.soft_floor]
                else:
                    left = [r for r, o in zip(left, overlaps, strict=True) if o <= keep.nms]
            for score, box in kept:
                if keep.vote is not None:
                    near = [(s, b) for s, b in own if _overlap(box, b) >= keep.vote]
                    box = np.average([b for _, b in near], axis=0, weights=[s for s, _ in near])
                results.append((score, class_id, self.out(box, *self.views[0][2:])))
        return sorted(results, key=lambda row: -row[0])[: keep.detections]

    def describe(self, class_id, box):
        """Mask, and keypoints in the image's pixels."""
        masks, heatmaps, points = [], [], None
        for features, _, scale, turned in self.views:
            there = tf.constant(self.into(box, scale, turned), tf.float32)[None, None]
            mask = self.model.mask_probabilities(features, there, tf.constant([[class_id]]))
            heat = self.model.keypoint_outputs(features, there)
            mask, heat = mask.numpy()[0, 0], heat.numpy()[0, 0]
            if turned:
                mask, heat = mask[:, ::-1], heat[:, ::-1, [2, 1, 0]]
            masks.append(mask)
            heatmaps.append(heat)
        if self.model.keypoint_head is not None:
            scale = self.views[0][2]
            first = tf.constant(self.into(box, scale, False), tf.float32)[None, None]
            mean = tf.constant(np.mean(heatmaps, axis=0))[None, None]
            points = self.model.keypoints(mean, first, tf.constant([[True]])).numpy()[0, 0]
            points = points / [*scale[:2], 1]
        return np.mean(masks, axis=0), points


@pytest.mark.parametrize(
    ("style", "scales", "flip", "keep"),
    [
        ("detectron2", (), True, {"keypoints": True, "detections": 5}),
        ("detectron2", (44, 80), False, {"vote": 0.6}),
        ("detectron2", (44, 80), True, {"soft_nms": "gaussian", "vote": 0.8}),
        ("detectron", (44, 80), True, {}),
        ("detectron", (), True, {"soft_nms": "gaussian", "vote": 0.6}),
    ],
)
def test_views_are_detectrons(style, scales, flip, keep):
    model, picture = Parts(style, **keep), image(67, 91)
    own = _views(model, scales=scales, scales_long_side=110, flip=flip)
    found = AugmentedDetector(own, flip_pairs=PAIRS)(picture)
    reference = Reference(model, picture, [(60, 100), *((s, 110) for s in scales)], flip)
    expected = reference.objects()
    assert len(found) == len(expected) == keep.get("detections", 12)
    np.testing.assert_allclose(found.scores, [row[0] for row in expected], rtol=1e-4)
    assert found.classes.tolist() == [row[1] for row in expected]
    np.testing.assert_allclose(found.boxes, [row[2] for row in expected], atol=2e-3)
    for place, (_, class_id, box) in enumerate(expected):
        mask, points = reference.describe(class_id, box)
        np.testing.assert_allclose(found.masks[place], mask, atol=1e-3)
        if points is not None:
            np.testing.assert_allclose(found.keypoints[place], points, atol=2e-2)


@pytest.mark.parametrize(
    "options",
    [
        {"keypoints": True},
        {"masks": False, "style": "detectron"},
        {"soft_nms": "linear"},
        {"soft_nms": "gaussian", "vote": 0.7, "style": "detectron"},
    ],
)
def test_one_view_is_the_plain_predictor_to_the_last_bit(options):
    """Alone and, of the same weights, as an ensemble of two."""
    model = Parts(**options)
    pictures = [image(67, 91), image(40, 90, seed=1), image(120, 50, seed=2)]
    expected = DetectionPredictor(model, PLAIN, **SIDES, batch_size=2).predict(pictures)
    own = _views(model)
    for sources in [(), (_views(model), own)]:
        found = AugmentedDetector(own, sources, batch_size=2).predict(pictures)
        for one, other in zip(found, expected, strict=True):
            same(one, other)


@pytest.mark.parametrize("keep", [{}, {"soft_nms": "gaussian"}])
def test_views_of_an_ensemble_of_one_are_its_own(keep):
    model, picture = Parts(**keep), image(67, 91)
    views = {"scales": [44], "flip": True}
    own = _views(model, **views)
    expected = AugmentedDetector(own, flip_pairs=PAIRS)(picture)
    sources = (own, _views(model, **views))
    same(AugmentedDetector(own, sources, flip_pairs=PAIRS)(picture), expected)


def test_an_ensemble_is_the_best_of_both():
    """Each detector looks at its own size, and its boxes come back from there."""
    one, other, picture = (
        Parts(detections=40, nms=1.0),
        Parts(detections=40, nms=1.0),
        image(67, 91),
    )
    other.gain.assign(0.75)
    own, second = _views(one), _views(other, short_side=96, long_side=160)
    both = AugmentedDetector(own, (own, second))(picture)
    alone = DetectionPredictor(one, PLAIN, **SIDES)(picture)
    others = DetectionPredictor(other, PLAIN, short_side=96, long_side=160)(picture)
    scores = np.concatenate([alone.scores, others.scores])
    order = np.argsort(-scores, kind="stable")[:40]
    np.testing.assert_allclose(both.scores, scores[order], rtol=1e-6)
    boxes = np.concatenate([alone.boxes, others.boxes])[order]
    np.testing.assert_allclose(both.boxes, boxes, atol=1e-4)
    # The first network describes the second one's boxes.
    place = int(np.flatnonzero(order >= len(alone))[0])
    reference = Reference(one, picture, [(60, 100)], False)
    mask, _ = reference.describe(int(both.classes[place]), boxes[place])
    np.testing.assert_allclose(both.masks[place], mask, atol=1e-4)


def test_a_mirror_image_is_seen_mirrored():
    """Of a picture that is its own mirror image both views are the same."""
    half = image(67, 45)
    picture = np.concatenate([half, half[:, ::-1]], axis=1)
    plain, turned = _views(Parts(), flip=True).sights([picture])
    for name in ("scores", "classes", "valid"):
        assert (plain.found[name] == turned.found[name]).all()
    boxes = moved(turned.found["boxes"], turned.frame, plain.frame)
    width = plain.frame.sizes[0, 1]
    expected = plain.found["boxes"] * [-1, 1, -1, 1] + [width, 0, width, 0]
    np.testing.assert_allclose(boxes, expected[..., [2, 1, 0, 3]], atol=1e-4)


def test_what_is_mirrored_by_hand():
    masks = np.arange(4, dtype="float32").reshape(1, 1, 2, 2)
    heatmaps = np.arange(12, dtype="float32").reshape(1, 1, 2, 2, 3)
    found = mirrored({"masks": tf.constant(masks), "heatmaps": tf.constant(heatmaps)}, PAIRS)
    assert found["masks"].numpy().tolist() == [[[[1, 0], [3, 2]]]]
    assert found["heatmaps"].numpy().tolist() == [
        [[[[5, 4, 3], [2, 1, 0]], [[11, 10, 9], [8, 7, 6]]]]
    ]


def test_frames_by_hand():
    originals = np.array([[10, 20]])
    small, large = (Frame(np.array([s]), originals) for s in ((10, 20), (30, 40)))
    boxes = np.array([[[1, 2, 5, 8]]], np.float32)
    assert moved(boxes, small, large).tolist() == [[[2, 6, 10, 24]]]
    turned = Frame(np.array([[30, 40]]), originals, mirrored=True)
    assert moved(boxes, small, turned).tolist() == [[[30, 6, 38, 24]]]
    assert moved(moved(boxes, small, turned), turned, small).tolist() == boxes.tolist()
    # Of pixels counted in, 1 to 4 become 2 to 8, and end behind the ninth.
    counted = Frame(np.array([[30, 40]]), originals, inclusive=True)
    own = Frame(np.array([[10, 20]]), originals, inclusive=True)
    assert moved(boxes, own, counted).tolist() == [[[2, 6, 9, 22]]]
    assert moved(boxes, small, counted).tolist() == [[[2, 6, 9, 22]]]
    # What lies beyond is cut off.
    assert moved(boxes + 15, small, large).tolist() == [[[32, 30, 40, 30]]]


def test_what_two_sources_have_counts_once():
    def part(*rows):
        boxes = np.array([[[x, 0, x + 1, 1] for x, *_ in rows]], np.float32)
        scores, classes, valid = (
            np.array([column]) for column in list(zip(*rows, strict=True))[1:]
        )
        return {
            "boxes": boxes,
            "scores": scores.astype("float32"),
            "classes": classes,
            "valid": valid,
        }

    first = part((0, 0.5, 1, True), (0, 0.5, 1, True), (3, 0.5, 1, False))
    second = part((0, 0.5, 1, True), (0, 0.5, 2, True), (0, 0.6, 1, True), (3, 0.5, 1, True))
    third = part((0, 0.6, 1, True), (1, 0.5, 1, True))
    found = union([first, second, third])
    # A source's own doubles are its own affair.
    assert found["valid"].tolist() == [[True, True, False, False, True, True, True, False, True]]
    assert found["boxes"][0, :, 0].tolist() == [0, 0, 3, 0, 0, 0, 3, 0, 1]


def _results(path, rows):
    keys = ("image_id", "category_id", "bbox", "score")
    path.write_text(json.dumps([dict(zip(keys, row, strict=True)) for row in rows]))
    return path


ROWS = [
    (7, 30, [10.5, 20, 30, 25], 0.25),
    (8, 10, [0, 0, 50, 50], 0.5),
    (7, 10, [11, 20, 30, 25], 0.5),
    (7, 10, [60, 50, 90, 90], 0.75),
    (7, 10, [10.5, 20, 30, 25], 0.5),
]


def test_the_boxes_of_one_file_are_taken_as_they_are(tmp_path):
    """By falling score, cut to the image, without suppression; the network describes them."""
    file = ResultsFile(_results(tmp_path / "found.json", ROWS), (10, 20, 30), [7, 8, 9])
    model, pictures = (
        Parts(soft_nms="linear", vote=0.5),
        [image(67, 91), image(50, 50), image(9, 9)],
    )
    own = _views(model, searches=False)
    detector = AugmentedDetector(own, [file], batch_size=2)
    found, second, nothing = detector.predict(pictures, [7, 8, 9])
    assert found.scores.tolist() == [0.75, 0.5, 0.5, 0.25]
    assert found.classes.tolist() == [0, 0, 0, 2]
    expected = [[60, 50, 91, 67], [11, 20, 41, 45], [10.5, 20, 40.5, 45], [10.5, 20, 40.5, 45]]
    np.testing.assert_allclose(found.boxes, expected, atol=1e-4)
    reference = Reference(model, pictures[0], [(60, 100)], False)
    for place, (box, class_id) in enumerate(zip(expected, found.classes, strict=True)):
        mask, _ = reference.describe(class_id, box)
        np.testing.assert_allclose(found.masks[place], mask, atol=1e-4)
    np.testing.assert_allclose(second.boxes, [[0, 0, 50, 50]], atol=1e-4)
    assert len(nothing) == 0
    few = AugmentedDetector(_views(Parts(detections=2), searches=False), [file])
    assert few(pictures[0], 7).scores.tolist() == [0.75, 0.5]


def test_a_models_own_results_give_its_boxes_and_masks(tmp_path):
    model, picture = Parts(), image(67, 91)
    expected = DetectionPredictor(model, PLAIN, **SIDES)(picture)
    path = tmp_path / "found.json"
    path.write_text(json.dumps(expected.to_coco("a", (10, 20, 30))))
    file = ResultsFile(path, (10, 20, 30), ["a"])
    found = AugmentedDetector(_views(model, searches=False), [file])(picture, "a")
    for name in ("boxes", "scores", "classes", "masks"):
        np.testing.assert_allclose(getattr(found, name), getattr(expected, name), atol=1e-4)


def test_files_together_are_suppressed(tmp_path):
    paths = [_results(tmp_path / f"{n}.json", ROWS[n:]) for n in (0, 2)]
    files = [ResultsFile(path, (10, 20, 30), [7]) for path in paths]
    found = AugmentedDetector(_views(Parts()), files)(image(67, 91), 7)
    assert found.scores.tolist() == [0.75, 0.5, 0.25]
    assert found.classes.tolist() == [0, 0, 2]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (
            [(7, 11, [0, 0, 1, 1], 0.5)],
            r"1 results are of none of the 3 categories: 0 \(category 11",
        ),
        ([(5, 10, [0, 0, 1, 1], 0.5)], r"1 results are of unknown images: 0 \(image 5"),
        ([ROWS[0], (7, 10, [0, 0, -1, 1], 0.5)], r"negative width or height: 1 \(image 7"),
        ([(7, 10, [0, 0, 1], 0.5)], r"no JSON of COCO's results: 0\.bbox"),
        ([(7, 10, [0, 0, 1, 1], 1.5)], r"0\.score: Input should be less than or equal to 1"),
        ([(7, 10, [0, float("nan"), 1, 1], 0.5)], "no JSON of COCO's results: 0.bbox.1"),
        ([(7, "10", [0, 0, 1, 1], 0.5)], r"0\.category_id: Input should be a valid integer"),
        (
            [(8, 10, [0, 0, 1, 1], 0.5)],
            r"no boxes of the 1 images to look at \(as 7\); .* image_id 8\.",
        ),
        ([], r"it has those of image_id none"),
    ],
)
def test_what_a_file_may_not_hold(tmp_path, rows, message):
    path = _results(tmp_path / "found.json", rows)
    with pytest.raises(ValueError, match=message):
        ResultsFile(path, (10, 20, 30), [7], {7, 8})


def test_what_cannot_be(tmp_path):
    file = ResultsFile(_results(tmp_path / "found.json", ROWS), (10, 20, 30), [7])
    with pytest.raises(ValueError, match=r"found\.json are found by the images' ids: give keys"):
        AugmentedDetector(_views(Parts()), [file])(image(50, 50))
    with pytest.raises(ValueError, match=r"further ones than the short side 60, .* not \[60\]"):
        _views(Parts(), scales=[60])
    panoptic = Parts()
    panoptic.panoptic = True
    with pytest.raises(ValueError, match="'parts' labels whole images too"):
        AugmentedDetector(_views(panoptic))


def test_one_trace_for_all_sizes_and_views():
    own = _views(Parts(), scales=[44, 80], flip=True)
    detector = AugmentedDetector(own, batch_size=2)
    detector.predict([image(40, 90), image(90, 40), image(20, 20)])
    assert own._run.experimental_get_tracing_count() == 1
    assert own._described.experimental_get_tracing_count() == 1
    assert detector._choose.experimental_get_tracing_count() == 1


def test_frozen_weights_do_not_change():
    model, picture = Parts(), image(67, 91)
    live, fixed = (AugmentedDetector(_views(model, flip=True, freeze=f)) for f in (False, True))
    before = live(picture)
    model.gain.assign(0.5)
    np.testing.assert_allclose(fixed(picture).masks, before.masks, atol=1e-5)
    assert live(picture).scores[0] < 0.9 * before.scores[0]


def test_score_threshold():
    found = AugmentedDetector(_views(Parts()))(image(67, 91))
    limit = float(found.scores[4])
    sure = AugmentedDetector(_views(Parts()), score_threshold=limit)(image(67, 91))
    assert sure.scores.tolist() == found.scores[found.scores > limit].tolist()
