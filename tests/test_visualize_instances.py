import numpy as np
import pytest

from tfseg.data.regions import Region
from tfseg.visualize_instances import COCO_SKELETON, draw_instances, instance_colors

RED, BLUE = (200, 0, 0), (0, 0, 200)
COLORS = np.array([RED, BLUE], np.uint8)


def gray(height, width, value=100):
    return np.full((height, width, 1), value, np.uint8)


def has(picture, color):
    """Where a picture has exactly this colour."""
    return (picture == np.array(color)).all(-1)


def grid(count, size=10):
    """Boxes of 8 pixels beside each other."""
    y, x = np.divmod(np.arange(count), 12) * np.array([[size]])
    return np.stack([x, y, x + 8, y + 8], axis=-1).astype(np.float32)


def test_masks_by_hand():
    """40 % of the colour inside, all of it on the border pixels, the rest as it was."""
    region = Region(2, 3, np.ones((5, 5), bool))
    drawn = draw_instances(
        gray(10, 12), np.array([[3, 2, 8, 7]]), regions=[region], colors=COLORS[:1]
    )
    assert drawn[3, 4].tolist() == [140, 60, 60]
    border = np.zeros((10, 12), bool)
    border[2:7, 3:8] = True
    border[3:6, 4:7] = False
    np.testing.assert_array_equal(has(drawn, RED), border)
    assert has(drawn, (100,) * 3).sum() == 120 - 25


def test_a_small_mask_lies_on_a_large_one_whatever_their_order():
    small, large = Region(2, 2, np.ones((3, 3), bool)), Region(0, 0, np.ones((9, 9), bool))
    boxes = np.array([[2, 2, 5, 5], [0, 0, 9, 9]])
    for order in ([0, 1], [1, 0]):
        regions = [(small, large)[i] for i in order]
        drawn = draw_instances(gray(9, 9), boxes[order], regions=regions, colors=COLORS[order])
        assert drawn[3, 3].tolist() == [140, 60, 60]
        assert drawn[6, 6].tolist() == [60, 60, 140]


def test_a_box_runs_along_its_own_pixels():
    drawn = draw_instances(gray(12, 12), np.array([[2, 3, 7.6, 9]]), colors=COLORS[:1])
    rows, columns = np.nonzero(has(drawn, RED))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 8, 2, 6)
    assert not has(drawn, RED)[4:8, 3:6].any()
    assert has(drawn, RED).sum() == 2 * 5 + 2 * 4


def test_neighbours_differ_in_colour():
    boxes = grid(144)
    colors = instance_colors(boxes)
    places = colors.reshape(12, 12, 3).astype(int)
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        a = places[: 12 - dy, max(-dx, 0) : 12 - max(dx, 0)]
        b = places[dy:, max(dx, 0) : 12 + min(dx, 0)]
        assert np.abs(a - b).sum(-1).min() > 60
    np.testing.assert_array_equal(instance_colors(boxes[:7]), colors[:7])
    assert instance_colors(np.zeros((0, 4))).shape == (0, 3)


def test_labels_of_many_small_objects_are_left_out():
    boxes = grid(60)
    colors = np.tile(COLORS[:1], (60, 1))
    regions = [Region(int(y), int(x), np.ones((8, 8), bool)) for x, y, _, _ in boxes]
    few = draw_instances(gray(120, 200), boxes[:2] + 40, labels=["a cell"] * 2, colors=colors[:2])
    plain = draw_instances(gray(120, 200), boxes[:2] + 40, colors=colors[:2])
    assert has(few, RED).sum() > has(plain, RED).sum() + 500
    many = draw_instances(
        gray(120, 200), boxes, regions=regions, labels=["a cell"] * 60, colors=colors
    )
    without = draw_instances(gray(120, 200), boxes, regions=regions, colors=colors)
    np.testing.assert_array_equal(many, without)


def test_labels_overlap_neither_each_other_nor_the_image_border():
    """Two equal boxes at the corner: the labels have the size of a lone one's."""
    box, size = np.array([[0, 0, 150.0, 100]]), (200, 300)
    sizes = []
    for count in (1, 2):
        drawn = draw_instances(
            gray(*size),
            box.repeat(count, 0),
            regions=[Region(0, 0, np.zeros((0, 0), bool))] * count,
            labels=["person 0.97"] * count,
            colors=COLORS[:count],
        )
        boxes_alone = draw_instances(gray(*size), box.repeat(count, 0), colors=COLORS[:count])
        changed = (drawn != boxes_alone).any(-1)
        sizes.append(changed.sum())
    assert sizes[1] == pytest.approx(2 * sizes[0], rel=0.05)


@pytest.mark.parametrize(("color", "light"), [((10, 10, 120), True), ((250, 240, 60), False)])
def test_ink_contrasts(color, light):
    drawn = draw_instances(
        gray(100, 200),
        np.array([[20, 40, 180, 90.0]]),
        labels=["word"],
        colors=np.array([color], np.uint8),
    )
    assert has(drawn, (255, 255, 255)).any() == light
    assert has(drawn, (24, 24, 24)).any() != light


def test_keypoints_and_limbs_by_hand():
    """The third is not seen, so that only one limb is drawn."""
    points = np.array([[[20.5, 30.5, 2], [60.5, 30.5, 1], [40.5, 80.5, 0]]])
    box = np.array([[0, 0, 100, 100.0]])
    drawn = draw_instances(
        gray(100, 100), box, keypoints=points, skeleton=((0, 1), (1, 2)), colors=COLORS[:1]
    )
    assert drawn[30, 20].tolist() == drawn[30, 60].tolist() == [255] * 3
    assert drawn[30, 40].tolist() == list(RED)
    assert (drawn[50:99, 20:80] == 100).all()
    higher = draw_instances(
        gray(100, 100), box, keypoints=points, keypoint_threshold=1.5, colors=COLORS[:1]
    )
    assert has(higher, (255, 255, 255)).any()
    assert (higher[25:36, 40:80] == 100).all()


def test_cocos_skeleton(shared):
    import json

    facts = json.loads((shared("data/coco_keypoints") / "test_coco.json").read_text())
    pairs = [[a + 1, b + 1] for a, b in COCO_SKELETON]
    assert pairs == facts["categories"][0]["skeleton"]


def test_nothing_to_draw():
    image = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    none = np.zeros((0, 4), np.float32)
    drawn = draw_instances(image, none, regions=[], keypoints=np.zeros((0, 17, 3)), labels=[])
    np.testing.assert_array_equal(drawn, image)
