"""Training batches of detectors."""

import numpy as np
import pytest
import tensorflow as tf

from tfseg.data import open_reader
from tfseg.data.detection import detection_dataset
from tfseg.data.outlines import fill_outline, mask_outline, stack_outlines
from tfseg.data.pipeline import Share
from tfseg.data.regions import region_of
from tfseg.data.transforms import make_transforms
from tfseg.registry import Preprocessing

RGB = Preprocessing("rgb", (10.0, 20.0, 30.0), (2.0, 2.0, 2.0))


class Squares:
    """Sample i is 20 + i by 30 pixels, with i L-shaped objects of label i; the last is a crowd."""

    classes, colors, ignore_label = ("a", "b", "c", "d"), None, 77
    flip_pairs = ((0, 1),)

    def __init__(self, counts=(0, 1, 2, 3)):
        self.counts, self.reads = counts, 0

    def __len__(self):
        return len(self.counts)

    def keys(self):
        return ("name", "image", "mask", "boxes", "labels", "crowd", "keypoints", "edges", "ids")

    def __getitem__(self, index):
        self.reads += 1
        count, size = self.counts[index], (20 + index, 30)
        masks = self.masks(index)
        boxes = [[2 + 8 * i, 3, 8 + 8 * i, 13] for i in range(count)]
        rng = np.random.default_rng(index)
        return {
            "name": str(index),
            "image": rng.integers(0, 256, (*size, 3)).astype(np.uint8),
            "mask": np.full(size, index % 4, np.int32),
            "boxes": np.array(boxes, np.float32).reshape(-1, 4),
            "labels": np.full(count, index % 4, np.int32),
            "crowd": np.arange(count) == count - 1,
            "keypoints": np.full((count, 2, 3), 2, np.float32),
            "edges": stack_outlines([mask_outline(region_of(mask)) for mask in masks]),
            "ids": np.arange(count),
        }

    def masks(self, index):
        masks = np.zeros((self.counts[index], 20 + index, 30), bool)
        for place, mask in enumerate(masks):
            mask[3:13, 2 + 8 * place : 5 + 8 * place] = True
            mask[10:13, 5 + 8 * place : 8 + 8 * place] = True
        return masks


def _dataset(reader=None, transforms=(), batch_size=2, **options):
    return detection_dataset(
        reader or Squares(),
        make_transforms(list(transforms)),
        preprocessing=RGB,
        batch_size=batch_size,
        seed=options.pop("seed", 3),
        **options,
    )


def _batches(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def test_a_share_has_its_rows_of_the_same_padded_batches():
    whole = _batches(_dataset(batch_size=4, masks=True), 3)
    halves = [_batches(_dataset(batch_size=4, masks=True, share=Share(i, 2)), 3) for i in range(2)]
    for batch, *parts in zip(whole, *halves, strict=True):
        for key, value in batch.items():
            np.testing.assert_array_equal(value, np.concatenate([part[key] for part in parts]))


def test_the_kinds_of_batches():
    everything = {"masks": True, "keypoints": True, "semantic": True}
    assert _dataset(**everything).element_spec == {
        "name": tf.TensorSpec((2,), tf.string),
        "image": tf.TensorSpec((2, None, None, 3), tf.float32),
        "size": tf.TensorSpec((2, 2), tf.float32),
        "boxes": tf.TensorSpec((2, None, 4), tf.float32),
        "labels": tf.TensorSpec((2, None), tf.int32),
        "valid": tf.TensorSpec((2, None), tf.bool),
        "crowd": tf.TensorSpec((2, None), tf.bool),
        "edges": tf.TensorSpec((2, None, None, 4), tf.float32),
        "keypoints": tf.TensorSpec((2, None, 2, 3), tf.float32),
        "mask": tf.TensorSpec((2, None, None), tf.int32),
    }
    plain = {"name", "image", "size", "boxes", "labels", "valid", "crowd"}
    assert set(_dataset().element_spec) == plain


def test_batches_hold_the_samples_and_padding():
    reader = Squares()
    for batch in _batches(_dataset(masks=True, keypoints=True, semantic=True), 6):
        samples = [reader[int(name)] for name in batch["name"]]
        assert batch["image"].shape == (2, 32, 32, 3)
        objects = max(len(sample["labels"]) for sample in samples)
        assert batch["labels"].shape == (2, {0: 1, 1: 1, 2: 2, 3: 4}[objects])
        for row, sample in enumerate(samples):
            height, width = sample["image"].shape[:2]
            np.testing.assert_array_equal(batch["size"][row], [height, width])
            image = (sample["image"].astype(np.float32) - [10, 20, 30]) / 2
            np.testing.assert_allclose(batch["image"][row, :height, :width], image, atol=1e-5)
            assert not batch["image"][row, height:].any()
            assert not batch["image"][row, :, width:].any()
            np.testing.assert_array_equal(batch["mask"][row, :height, :width], sample["mask"])
            assert (batch["mask"][row, height:] == 77).all()
            count = len(sample["labels"])
            np.testing.assert_array_equal(
                batch["valid"][row], np.arange(batch["valid"].shape[1]) < count
            )
            for key in ("boxes", "labels", "crowd", "keypoints"):
                np.testing.assert_array_equal(batch[key][row, :count], sample[key])
                assert not batch[key][row, count:].any()
            assert not batch["edges"][row, count:].any()


def test_outlines_lose_horizontal_segments_and_nothing_else():
    """Also those that were vertical before a turn."""
    reader = Squares()
    for seed in range(3):
        dataset = _dataset(reader, [{"rotate90": {}}], masks=True, semantic=True, seed=seed)
        for batch in _batches(dataset, 3):
            edges = batch["edges"]
            # An L has 3 upright sides and 3 level ones.
            assert edges.shape[2] == (4 if batch["valid"].any() else 1)
            assert not ((edges[..., 1] == edges[..., 3]) & edges.any(-1)).any()
            for row, name in enumerate(batch["name"]):
                size = tuple(batch["size"][row].astype(int))
                for place, mask in enumerate(reader.masks(int(name))):
                    filled = fill_outline(edges[row, place], size)
                    assert filled.sum() == mask.sum() == 39
                    x1, y1, x2, y2 = batch["boxes"][row, place].astype(int)
                    assert filled[y1:y2, x1:x2].sum() == 39


def test_no_objects_at_all():
    for batch in _batches(_dataset(Squares((0, 0)), masks=True, keypoints=True), 2):
        assert batch["boxes"].shape == (2, 1, 4)
        assert batch["edges"].shape == (2, 1, 1, 4)
        assert batch["keypoints"].shape == (2, 1, 2, 3)
        assert not batch["valid"].any()


def test_the_smallest_bucket_that_holds_all_is_taken():
    reader = Squares((0,) * 8)  # 20 to 27 rows
    buckets = [[64, 64], [24, 32], [32, 32]]
    found = set()
    for batch in _batches(_dataset(reader, buckets=buckets, divisor=8), 12):
        most = batch["size"][:, 0].max()
        assert batch["image"].shape[1:3] == ((24, 32) if most <= 24 else (32, 32))
        found.add(batch["image"].shape[1:3])
    assert len(found) == 2


def test_an_image_that_no_bucket_holds():
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"no bucket of .*holds images"):
        _batches(_dataset(Squares((0,) * 8), buckets=[[24, 32]], divisor=8), 8)


def test_padding_to_a_divisor():
    batch = _batches(_dataset(Squares((0, 0)), divisor=9), 1)[0]
    assert batch["image"].shape[1:3] == (27, 36)
    assert _batches(_dataset(Squares((0, 0)), divisor=1), 1)[0]["image"].shape[1:3] == (21, 30)


@pytest.mark.parametrize("step", [1, 4])
def test_starting_late_gives_the_same_batches(step):
    transforms = [{"scale": {"range": [0.7, 1.4]}}, {"flip": {"pairs": [[0, 1]]}}]
    options = {"transforms": transforms, "masks": True, "keypoints": True}
    whole = _batches(_dataset(**options), step + 3)[step:]
    late = _batches(_dataset(**options, start_step=step), 3)
    for a, b in zip(whole, late, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_a_cache_changes_nothing_but_the_reads(cache, tmp_path):
    reader = Squares()
    options = {"masks": True, "keypoints": True, "semantic": True}
    kept = _batches(_dataset(reader, cache=cache, cache_dir=tmp_path / "c", **options), 8)
    for a, b in zip(kept, _batches(_dataset(**options), 8), strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
    assert reader.reads < 10


def test_what_is_missing_is_named():
    reader = Squares()
    reader.keys = lambda: ("name", "image", "boxes", "labels")
    with pytest.raises(ValueError, match="the samples have no crowd, edges, mask to train on"):
        _dataset(reader, masks=True, semantic=True)
    with pytest.raises(ValueError, match=r"left keypoints for right ones: pairs: \[\[0, 1\]\]"):
        _dataset(transforms=[{"flip": {}}], keypoints=True)
    _dataset(transforms=[{"flip": {}}])
    with pytest.raises(ValueError, match=r"multiples of 32, not \[40, 64\]"):
        _dataset(buckets=[[64, 64], [40, 64]])
    with pytest.raises(ValueError, match="divisor must be positive"):
        _dataset(divisor=0)


def test_coco_images_as_mask_rcnn_takes_them(shared):
    root = shared("data/coco128")
    reader = open_reader(
        "coco", images=root / "images", annotations=root / "instances.json", subset=[0, 4]
    )
    sizes = {"sizes": [160, 192], "max_size": 330}
    dataset = _dataset(reader, [{"resize_short_side": sizes}, {"flip": {}}], masks=True)
    for batch in _batches(dataset, 2):
        _, height, width, _ = batch["image"].shape
        assert height % 32 == width % 32 == 0
        for row, (h, w) in enumerate(batch["size"].astype(int)):
            assert min(h, w) in (160, 192) or max(h, w) == 330
            for place in np.flatnonzero(batch["valid"][row] & ~batch["crowd"][row]):
                filled = fill_outline(batch["edges"][row, place], (h, w))
                if filled.sum() > 100:
                    ys, xs = np.nonzero(filled)
                    bounds = [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]
                    np.testing.assert_allclose(batch["boxes"][row, place], bounds, atol=2)
