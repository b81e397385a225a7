"""The Cell Tracking Challenge's layout, and an experiment on it that is scored by SEG."""

import numpy as np
import pytest
from PIL import Image

from tfseg import config, evaluation, experiment
from tfseg.data import DataError, open_reader
from tfseg.data.border_weights import unet_weight_map

CELLS = np.zeros((40, 48), np.uint16)
CELLS[4:20, 4:20] = 3
CELLS[4:20, 20:36] = 700
CELLS[26:36, 8:30] = 12


def save(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path):
    """Two sequences: three frames of which 0 and 2 are annotated, and one of 16 bits."""
    for n in range(3):
        save(tmp_path / f"01/t{n:03d}.tif", np.full((40, 48), n, np.uint8))
    for n in (2, 0):
        save(tmp_path / f"01_GT/SEG/man_seg{n:03d}.tif", CELLS)
    save(tmp_path / "01_ST/SEG/man_seg001.tif", CELLS)
    save(tmp_path / "02/t0007.tif", np.full((40, 48), 7 * 256, np.uint16))
    save(tmp_path / "02_GT/SEG/man_seg0007.tif", CELLS)
    save(tmp_path / "01_GT/TRA/man_track000.tif", CELLS)
    return tmp_path


def test_annotated_frames_of_all_sequences(root):
    reader = open_reader("cell_tracking", root=root)
    assert [s["name"] for s in reader] == ["01_000", "01_002", "02_007"]
    assert [s["image"][0, 0, 0] for s in reader] == [0, 2, 7]
    assert reader.classes == ("background", "cell")
    assert reader.keys() == tuple(reader[0])


def test_options(root):
    def names(**options):
        return [s["name"] for s in open_reader("cell_tracking", root=root, **options)]

    assert names(sequences=["02"]) == ["02_007"]
    assert names(subset=[1, 3]) == ["01_002", "02_007"]
    assert names(annotations="ST") == ["01_001"]


def test_touching_cells_are_apart_in_the_mask_and_whole_in_the_instances(root):
    sample = open_reader("cell_tracking", root=root, border_weights=True)[0]
    np.testing.assert_array_equal(sample["instances"], CELLS)
    assert sample["instances"].dtype == sample["mask"].dtype == np.int32
    expected = CELLS > 0
    expected[4:20, 19:21] = False
    np.testing.assert_array_equal(sample["mask"], expected)
    apart = np.where(expected, CELLS, 0).astype(np.int32)
    np.testing.assert_array_equal(sample["weights"], unet_weight_map(apart))
    # d1 + d2 is 3 between the cells: 1 to the one and 2 to the other.
    border = 10 * np.exp(-(3**2) / 50)
    np.testing.assert_allclose(sample["weights"][10, 19] - sample["weights"][39, 47], border, 1e-4)


def test_errors(root):
    def message(match, **options):
        with pytest.raises(DataError, match=match):
            list(open_reader("cell_tracking", **{"root": root, **options}))

    message("the folder .*03 is missing", sequences=["03"])
    message("no folder \\*_GT/SEG", root=root / "01")
    save(root / "02_GT/SEG/man_seg0008.tif", CELLS)
    message("1 annotations have no frame: man_seg0008.tif")
    save(root / "02/t0008.tif", np.zeros((8, 8), np.uint8))
    message(r"man_seg0008.tif is \(40, 48\), its frame is \(8, 8\)")
    save(root / "02_GT/SEG/man_seg_008_001.tif", CELLS)
    message("not named man_segNUMBER.tif, as those of 2D data are: man_seg_008_001.tif")


class Oracle:
    """Predicts a sample's own mask, one pixel of it wrong."""

    def __init__(self, mask):
        self.mask = mask.copy()
        self.mask[0, 0] = 1

    def __call__(self, image):
        return np.eye(2, dtype=np.float32)[self.mask]


def test_evaluation_reports_seg(root):
    reader = open_reader("cell_tracking", root=root)
    predictor = Oracle(reader[0]["mask"])
    # Of two cells of 16 x 16 pixels a column each went into the border.
    expected = (2 * 15 / 16 + 1) / 3
    for min_area in (0, 1):
        metrics = config.Metrics(seg=True, seg_min_area=min_area)
        scores = evaluation.evaluate(predictor, reader, metrics, progress=False)
        assert scores.summary()["seg"] == pytest.approx(expected)
    assert "seg" in evaluation.scores_as_json(scores, reader, {})
    assert scores.summary()["pixel_accuracy"] == pytest.approx(1 - 1 / CELLS.size)


def test_seg_needs_instances(tmp_path):
    save(tmp_path / "image/0.png", np.zeros((4, 4), np.uint8))
    save(tmp_path / "label/0.png", np.zeros((4, 4), np.uint8))
    split = {"reader": "isbi", "options": {"root": str(tmp_path)}}
    optimizer = {"learning_rate": 0.1}
    tree = {
        "name": "x",
        "model": {"name": "unet", "num_classes": 2},
        "data": {"train": split, "validation": split},
        "train": {"steps": 1, "batch_size": 1, "optimizer": optimizer},
        "metrics": {"seg": True},
    }
    with pytest.raises(config.ConfigError, match=r"metrics.seg needs instances.*name, image, mask"):
        experiment.open_split(config.parse(tree), "validation")
    tree["model"] = {"name": "fusionnet", "num_classes": 1}
    assert experiment.open_split(config.parse(tree), "train").classes == ("membrane", "inside")
    tree["model"]["num_classes"] = 3
    with pytest.raises(config.ConfigError, match=r"num_classes is 3, but data.train has 2 classes"):
        experiment.open_split(config.parse(tree), "train")
