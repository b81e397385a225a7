import numpy as np
import pytest

from tfseg.visualize import colorize, contact_sheet, legend, overlay, palette

COLORS = np.array([[0, 0, 0], [200, 0, 0]], np.uint8)


def test_palette_is_vocs():
    colors = palette()
    assert colors.shape == (256, 3)
    # aeroplane, bicycle, bird, person, tv monitor, void of VOCdevkit's colour map
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        7: (128, 128, 128),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        64: (32, 0, 0),
        255: (224, 224, 192),
    }
    assert {i: tuple(colors[i].tolist()) for i in known} == known
    assert len(np.unique(colors, axis=0)) == 256
    np.testing.assert_array_equal(palette(21), colors[:21])
    for count in (0, 257):
        with pytest.raises(ValueError, match="1 to 256"):
            palette(count)


def test_palette_is_that_of_voc_files(shared):
    from PIL import Image

    file = next(f for f in sorted(shared("data/voc_palette").rglob("*.png")))
    stored = np.array(Image.open(file).getpalette(), np.uint8).reshape(-1, 3)
    np.testing.assert_array_equal(stored, palette(len(stored)))


def test_overlay_by_hand():
    image = np.full((3, 4, 1), 100, np.uint8)
    labels = np.array([[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 1, 255]])
    drawn = overlay(image, labels, COLORS, alpha=0.25)
    red = drawn[..., 0].tolist()
    # 0: 75, 1: 125, full colour where the right or lower neighbour differs, ignored: the image
    assert red == [[75, 0, 125, 125], [75, 0, 125, 200], [75, 0, 200, 100]]
    assert drawn[0, 2].tolist() == [125, 75, 75]


def test_colorize_by_hand():
    drawn = colorize(np.array([[1, 255, 0]], np.uint8), COLORS)
    assert drawn.tolist() == [[[200, 0, 0], [255, 255, 255], [0, 0, 0]]]


def test_labels_that_cannot_be_drawn():
    with pytest.raises(ValueError, match="label 2 has no colour"):
        colorize(np.array([[0, 2]]), COLORS)
    with pytest.raises(ValueError, match="label -1 has no colour"):
        colorize(np.array([[0, -1]]), COLORS)
    with pytest.raises(ValueError, match="do not fit"):
        overlay(np.zeros((2, 3, 3), np.uint8), np.zeros((3, 2), int), COLORS)


def test_legend_wraps_and_shows_every_colour():
    colors = palette(21)
    names = [f"class number {i}" for i in range(21)]
    wide, narrow = legend(names, colors, 2000), legend(names, colors, 300)
    assert wide.shape[1] == 2000
    assert narrow.shape[0] > 3 * wide.shape[0]
    for picture in (wide, narrow):
        shown = {tuple(c) for c in picture.reshape(-1, 3).tolist()}
        assert {tuple(c) for c in colors.tolist()} <= shown


def test_contact_sheet_places_its_pictures():
    tall, flat = np.full((20, 10, 3), 10, np.uint8), np.full((10, 20, 1), 90, np.uint8)
    sheet = contact_sheet([[tall, flat], [flat, flat]], ("image", "truth"), cell_width=40)
    assert sheet.dtype == np.uint8
    # width 8 + 40 + 8 + 40 + 8; height 30 + 80 + 8 + 20 + 8
    assert sheet.shape == (146, 104, 3)
    assert (sheet[30:110, 8:48] == 10).all()
    assert (sheet[30:50, 56:96] == 90).all()
    assert (sheet[50:110, 56:96] == 255).all()
    assert (sheet[118:138, 8:48] == 90).all()
    assert (sheet[:30, 8:48] < 128).any()
    below = contact_sheet([[tall]], ("image",), classes=("a", "b"), colors=COLORS, cell_width=40)
    assert (below[-20:] == COLORS[1]).all(-1).any()


def test_contact_sheet_errors():
    cell = np.zeros((2, 2, 3), np.uint8)
    with pytest.raises(ValueError, match=r"2 captions .* \[2, 1\]"):
        contact_sheet([[cell, cell], [cell]], ("a", "b"))
    with pytest.raises(ValueError, match=r"not \[\]"):
        contact_sheet([], ("a",))
    with pytest.raises(ValueError, match="one colour a class"):
        contact_sheet([[cell]], ("a",), classes=("x",))
