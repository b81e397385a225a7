from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from tfseg.data.io import read_image, read_mask
from tfseg.data.sample import DataError
from tfseg.predict import predict_files
from tfseg.visualize import overlay

COLORS = np.array([[0, 0, 0], [255, 0, 0], [0, 0, 255]], np.uint8)
CLASSES = ("background", "red", "blue")


class Brightest:
    """A predictor whose probabilities are the colours' shares."""

    num_classes = 3

    def __call__(self, image, progress=None):
        progress(1, 1)
        shares = image.astype(np.float32) + 1
        return shares / shares.sum(-1, keepdims=True)


def picture(path, size=(5, 7), seed=0):
    path.parent.mkdir(exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(values).save(path)
    return path


def test_writes_labels_overlays_probabilities_and_legend(tmp_path):
    paths = [picture(tmp_path / "in/a.png"), picture(tmp_path / "in/b.png", (6, 4), seed=1)]
    out = tmp_path / "out"
    written = predict_files(
        Brightest(), paths, out, classes=CLASSES, colors=COLORS, probabilities=True, progress=False
    )
    assert written == [out / "labels/a.png", out / "labels/b.png"]
    for path, file in zip(paths, written, strict=True):
        image = read_image(path)
        np.testing.assert_array_equal(read_mask(file), image.argmax(-1))
        np.testing.assert_array_equal(Image.open(file).convert("RGB"), COLORS[image.argmax(-1)])
        drawn = np.asarray(Image.open(out / "overlays" / path.name))
        np.testing.assert_array_equal(drawn, overlay(image, image.argmax(-1), COLORS))
        stored = np.load(out / "probabilities" / f"{path.stem}.npz")["probabilities"]
        assert stored.dtype == np.float16
        expected = (image + 1.0) / (image + 1.0).sum(-1, keepdims=True)
        np.testing.assert_allclose(stored, expected, atol=1e-3)
    assert Image.open(out / "legend.png").mode == "RGB"


def test_an_unreadable_image_loses_no_other(tmp_path):
    broken = tmp_path / "in/broken.png"
    paths = [picture(tmp_path / "in/a.png"), broken, picture(tmp_path / "in/z.png")]
    broken.write_bytes(paths[0].read_bytes()[:60])
    with pytest.raises(DataError, match="2 of 4 images") as error:
        predict_files(
            Brightest(),
            [*paths, tmp_path / "in/absent.png"],
            tmp_path / "out",
            classes=CLASSES,
            progress=False,
        )
    assert "broken.png" in str(error.value)
    assert "absent.png does not exist" in str(error.value)
    labels = sorted(p.name for p in (tmp_path / "out/labels").iterdir())
    assert labels == ["a.png", "z.png"]


def test_errors_before_any_work(tmp_path):
    out = tmp_path / "out"
    one, two = picture(tmp_path / "x/a.png"), picture(tmp_path / "y/a.jpg")
    with pytest.raises(ValueError, match=r"x/a\.png and .*y/a\.jpg would both"):
        predict_files(Brightest(), [one, two], out, classes=CLASSES)
    with pytest.raises(ValueError, match="no images"):
        predict_files(Brightest(), [], out, classes=CLASSES)
    with pytest.raises(ValueError, match="3 classes, but 2 names"):
        predict_files(Brightest(), [one], out, classes=CLASSES[:2])
    with pytest.raises(ValueError, match="256"):
        predict_files(SimpleNamespace(num_classes=300), [one], out, classes=CLASSES)
    assert not out.exists()
