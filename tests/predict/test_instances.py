import numpy as np
import pytest
from PIL import Image
from skimage.measure import label
from skimage.morphology import remove_small_objects

from tfseg.data.border_weights import separated
from tfseg.metrics import SegScore
from tfseg.predict.instances import instance_labels


def test_corners_join_and_small_objects_go():
    foreground = np.array(
        [[1, 0, 0, 0, 1], [0, 1, 0, 0, 0], [0, 0, 0, 0, 1], [1, 1, 0, 0, 1]], bool
    )
    expected = [[1, 0, 0, 0, 2], [0, 1, 0, 0, 0], [0, 0, 0, 0, 3], [4, 4, 0, 0, 3]]
    found = instance_labels(foreground)
    assert found.dtype == np.int32
    np.testing.assert_array_equal(found, expected)
    expected = [[1, 0, 0, 0, 0], [0, 1, 0, 0, 0], [0, 0, 0, 0, 2], [3, 3, 0, 0, 2]]
    np.testing.assert_array_equal(instance_labels(foreground, min_area=1), expected)
    assert not instance_labels(foreground, min_area=2).any()
    assert not instance_labels(np.zeros((2, 3), bool)).any()


def test_equals_scikit_image():
    foreground = np.random.default_rng(0).random((80, 90)) < 0.3
    found = instance_labels(foreground, min_area=3)
    kept = remove_small_objects(label(foreground, connectivity=2), max_size=3)
    pairs = np.unique(np.stack([found.ravel(), kept.ravel()]), axis=1)
    assert len(np.unique(found)) == len(np.unique(kept)) == pairs.shape[1]


def test_errors():
    with pytest.raises(ValueError, match=r"bool \(H, W\), not float64 \(2, 2\)"):
        instance_labels(np.zeros((2, 2)))


def test_separated_cells_touch_nowhere():
    instances = np.array(
        [
            [1, 1, 1, 2, 2, 2],
            [1, 1, 1, 2, 2, 2],
            [1, 1, 1, 0, 0, 0],
            [0, 0, 0, 3, 3, 0],
            [0, 0, 0, 3, 3, 9],
        ],
        np.int32,
    )
    expected = [
        [1, 1, 0, 0, 2, 2],
        [1, 1, 0, 0, 2, 2],
        [1, 1, 0, 0, 0, 0],
        [0, 0, 0, 0, 0, 0],
        [0, 0, 0, 3, 0, 0],
    ]
    np.testing.assert_array_equal(separated(instances), expected)


def test_real_nuclei_come_apart(shared):
    """A perfect prediction of the separated mask: what the borders cost, and what they save."""
    apart, together = SegScore(), SegScore()
    for path in sorted((shared("data/dsb2018") / "labels").iterdir())[:40]:
        nuclei = np.array(Image.open(path)).astype(np.int32)
        borders = separated(nuclei)
        pieces = instance_labels(borders > 0)
        # No component holds pixels of two nuclei.
        pairs = np.unique(np.stack([pieces[pieces > 0], borders[pieces > 0]]), axis=1)
        assert len(np.unique(pairs[0])) == pairs.shape[1]
        apart.update(nuclei, pieces)
        together.update(nuclei, instance_labels(nuclei > 0))
    assert apart.result()["seg"] > 0.95 > 0.9 > together.result()["seg"]
