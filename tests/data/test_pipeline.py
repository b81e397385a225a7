import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from tfseg.data.pipeline import Share, training_dataset
from tfseg.data.sample import DataError
from tfseg.data.transforms import make_transforms
from tfseg.registry import Preprocessing

RGB = Preprocessing("rgb", (10.0, 20.0, 30.0), (2.0, 2.0, 2.0))


class Numbered:
    """Eleven samples whose pixels are their index; counts how often each is read."""

    classes, colors, ignore_label = ("a", "b"), None, 255

    def __init__(self, broken=None, weights=False):
        self.reads, self.broken, self.weights = [], broken, weights

    def __len__(self):
        return 11

    def keys(self):
        return ("name", "image", "mask", *(("weights",) if self.weights else ()))

    def __getitem__(self, index):
        self.reads.append(index)
        if index == self.broken:
            raise DataError(f"images/{index}.png is truncated")
        rng = np.random.default_rng(index)
        image = rng.integers(0, 256, (20, 24, 3)).astype(np.uint8)
        sample = {
            "name": str(index),
            "image": image,
            "mask": np.full((20, 24), index % 2, np.int32),
        }
        if self.weights:
            sample["weights"] = np.full((20, 24), float(index), np.float32)
        return sample


def _dataset(reader=None, batch_size=2, transforms=({"crop": {"size": [16, 16]}},), **options):
    return training_dataset(
        reader or Numbered(),
        make_transforms(list(transforms)),
        preprocessing=RGB,
        batch_size=batch_size,
        seed=options.pop("seed", 3),
        **options,
    )


def _batches(dataset, count):
    return list(dataset.take(count).as_numpy_iterator())


def test_batches():
    spec = _dataset(Numbered(weights=True)).element_spec
    assert spec["image"] == tf.TensorSpec((2, 16, 16, 3), tf.float32)
    assert spec["mask"] == tf.TensorSpec((2, 16, 16), tf.int32)
    assert spec["weights"] == tf.TensorSpec((2, 16, 16), tf.float32)
    assert spec["name"] == tf.TensorSpec((2,), tf.string)


@pytest.mark.parametrize("start_step", [0, 3])
def test_a_share_reads_its_rows_of_the_same_batches(start_step):
    transforms = ({"flip": {}}, {"crop": {"size": [16, 16]}})
    whole = _batches(_dataset(batch_size=4, transforms=transforms, start_step=start_step), 5)
    halves = [
        _batches(
            _dataset(
                batch_size=4,
                transforms=transforms,
                start_step=start_step,
                share=Share(index, 2),
            ),
            5,
        )
        for index in range(2)
    ]
    for batch, *parts in zip(whole, *halves, strict=True):
        for key, value in batch.items():
            np.testing.assert_array_equal(value, np.concatenate([part[key] for part in parts]))


def test_images_are_preprocessed():
    (batch,) = _batches(_dataset(transforms=(), batch_size=1), 1)
    image = Numbered()[int(batch["name"][0])]["image"]
    expected = (image.astype(np.float32) - [10, 20, 30]) / 2
    np.testing.assert_allclose(batch["image"][0], expected, atol=1e-5)


def test_every_epoch_has_each_sample_once_in_its_own_order():
    names = [int(b["name"][0]) for b in _batches(_dataset(batch_size=1, transforms=()), 33)]
    epochs = [names[i : i + 11] for i in (0, 11, 22)]
    assert all(sorted(epoch) == list(range(11)) for epoch in epochs)
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]


@pytest.mark.parametrize("step", [1, 5, 17])
def test_starting_late_gives_the_same_batches(step):
    transforms = ({"color_distortion": {}}, {"flip": {}}, {"crop": {"size": [9, 8]}})
    whole = _batches(_dataset(transforms=transforms), step + 3)[step:]
    late = _batches(_dataset(transforms=transforms, start_step=step), 3)
    for a, b in zip(whole, late, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])


def test_another_seed_gives_another_order():
    a, b = (_batches(_dataset(seed=seed), 5) for seed in (3, 4))
    assert [x["name"].tolist() for x in a] != [x["name"].tolist() for x in b]


@pytest.mark.parametrize("cache", ["memory", "disk"])
def test_a_cache_changes_nothing_but_the_reads(cache, tmp_path):
    reader = Numbered(weights=True)
    kept = _batches(_dataset(reader, cache=cache, cache_dir=tmp_path / "c"), 22)
    plain = _batches(_dataset(Numbered(weights=True)), 22)
    for a, b in zip(kept, plain, strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
    assert len(reader.reads) < 30  # 44 samples, and a few more ahead
    if cache == "disk":
        assert len(list((tmp_path / "c").glob("*.npz"))) == 11


def test_a_damaged_cache_is_made_again(tmp_path, caplog):
    _batches(_dataset(Numbered(), cache="disk", cache_dir=tmp_path), 22)
    files = sorted(tmp_path.glob("*.npz"))
    whole = files[0].read_bytes()
    files[0].write_bytes(b"")
    files[1].write_bytes(whole[: len(whole) // 2])
    files[2].write_bytes(whole[:200] + bytes(60) + whole[260:])
    again = _batches(_dataset(Numbered(), cache="disk", cache_dir=tmp_path), 22)
    for a, b in zip(again, _batches(_dataset(Numbered()), 22), strict=True):
        for key in a:
            np.testing.assert_array_equal(a[key], b[key])
    for file in files[:3]:
        assert f"{file} is damaged" in caplog.text
    assert caplog.text.count("is damaged") == 3


def test_a_broken_file_is_named():
    with pytest.raises(tf.errors.OpError, match=r"images/4\.png is truncated"):
        _batches(_dataset(Numbered(broken=4)), 11)


def test_sizes_must_agree_within_a_batch():
    with pytest.raises(ValueError, match=r"end data\.transforms with a crop or a resize"):
        _dataset(transforms=())


def test_masks_are_needed():
    reader = Numbered()
    reader.keys = lambda: ("name", "image")
    with pytest.raises(ValueError, match="no mask"):
        _dataset(reader)


def test_a_program_that_keeps_its_iterator_can_end():
    """Threads of tf.data must not be in Python while the interpreter goes down."""
    program = """
from tfseg.data import open_reader
from tfseg.data.pipeline import training_dataset
from tfseg.registry import Preprocessing
rgb = Preprocessing("rgb", (0,) * 3, (1,) * 3)
reader = open_reader("shapes")
iterator = iter(training_dataset(reader, [], preprocessing=rgb, batch_size=1, seed=0))
next(iterator)
"""
    subprocess.run([sys.executable, "-c", program], timeout=120, check=True)
