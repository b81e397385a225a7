import numpy as np
import pytest
from scipy import ndimage

from tfseg.metrics import warping
from tfseg.metrics.warping import warp, warping_error

EIGHT = np.ones((3, 3))


def cells(*rows):
    return np.array([[character == "#" for character in row] for row in rows])


def topology(inside):
    """4-connected objects, and 8-connected pieces of membrane, the outside included."""
    return ndimage.label(inside)[1], ndimage.label(~np.pad(inside, 1), EIGHT)[1]


def test_simple_points_are_those_that_keep_both_topologies():
    ring = [(0, 1), (-1, 1), (-1, 0), (-1, -1), (0, -1), (1, -1), (1, 0), (1, 1)]
    for code in range(256):
        patch = np.zeros((3, 3), bool)
        for bit, (dy, dx) in enumerate(ring):
            patch[1 + dy, 1 + dx] = code >> bit & 1
        # 4-adjacent objects among the neighbours, 8-adjacent membrane among the neighbours
        objects, _ = ndimage.label(patch)
        touching = {objects[0, 1], objects[1, 0], objects[1, 2], objects[2, 1]} - {0}
        hollow = ~patch
        hollow[1, 1] = False
        _, membranes = ndimage.label(hollow, EIGHT)
        assert bool(warping._SIMPLE[code]) == (len(touching) == 1 and membranes == 1), code


def test_a_moved_boundary_costs_nothing():
    truth = cells(*["##...###"] * 3)
    proposal = cells(*["####...#"] * 3)
    np.testing.assert_array_equal(warp(truth, proposal), proposal)
    assert warping_error(truth, proposal).error == 0


def test_a_wider_boundary_costs_nothing():
    truth = cells(*["####.####"] * 5)
    proposal = cells(*["###...###"] * 5)
    assert warping_error(truth, proposal).error == 0


def test_a_gap_in_a_membrane_is_a_merger():
    truth = cells(*["###.###"] * 5)
    proposal = truth.copy()
    proposal[2, 3] = True
    found = warping_error(truth, proposal)
    assert (found.mismatches, found.splits, found.mergers) == (1, 0, 1)
    assert found.error == pytest.approx(1 / 35)


def test_a_missing_membrane_costs_its_length():
    truth = cells(*["###.###"] * 5)
    found = warping_error(truth, np.ones_like(truth))
    assert (found.mismatches, found.mergers) == (5, 5)


def test_a_line_through_a_cell_is_one_split():
    truth = cells(*["#######"] * 5)
    proposal = cells(*["###.###"] * 5)
    found = warping_error(truth, proposal)
    assert (found.mismatches, found.splits, found.mergers) == (1, 1, 0)


def test_a_hole_is_a_mismatch_but_no_split():
    truth = cells(*["#######"] * 5)
    proposal = truth.copy()
    proposal[1:4, 2:5] = False
    found = warping_error(truth, proposal)
    assert (found.splits, found.mergers) == (0, 0)
    assert 1 <= found.mismatches <= 9


def test_a_lost_and_a_made_up_cell_are_mismatches_only():
    empty = np.zeros((5, 7), bool)
    dot = empty.copy()
    dot[2, 3] = True
    for truth, proposal in ((dot, empty), (empty, dot)):
        found = warping_error(truth, proposal)
        assert (found.mismatches, found.splits, found.mergers) == (1, 0, 0)


def test_a_thin_membrane_moved_past_its_own_width_is_a_mistake():
    # only pixels that differ may flip, so the truth cannot pass through the column between
    truth = cells(*["##.####"] * 3)
    assert warping_error(truth, cells(*["###.###"] * 3)).error == 0
    assert warping_error(truth, cells(*["####.##"] * 3)).error > 0


def test_a_cell_split_far_from_its_other_way_round():
    # a ring: cut once it is still one object, so that cut is no split; cut twice it is two
    ring = cells("#####", "#...#", "#...#", "#...#", "#####")
    once = ring.copy()
    once[0, 2] = False
    assert warping_error(ring, once).splits == 0
    assert warping_error(ring, once).mismatches == 1
    twice = once.copy()
    twice[4, 2] = False
    assert warping_error(once, twice).splits == 1


@pytest.mark.parametrize("seed", range(5))
def test_warping_keeps_topology_and_never_moves_away(seed):
    rng = np.random.default_rng(seed)
    truth, proposal = (
        ndimage.gaussian_filter(rng.normal(size=(40, 40)), 1.5) > -0.05 for _ in range(2)
    )
    warped = warp(truth, proposal)
    assert topology(warped) == topology(truth)
    assert not ((truth == proposal) & (warped != proposal)).any()
    # what is left cannot be flipped
    padded = np.pad(warped, 1)
    for y, x in np.argwhere(warped != proposal):
        flipped = warped.copy()
        flipped[y, x] ^= True
        patch = padded[y : y + 3, x : x + 3].copy()
        patch[1, 1] = False
        around = ndimage.label(patch)[0]
        touching = {around[0, 1], around[1, 0], around[1, 2], around[2, 1]} - {0}
        assert topology(flipped) != topology(warped) or len(touching) != 1


def test_the_most_confident_pixel_flips_first():
    # a line through a strip of two pixels: either can flip, but not both
    truth = cells("#####", "#####")
    proposal = cells("##.##", "##.##")
    for kept in range(2):
        confidence = np.ones((2, 5))
        confidence[kept] = 0.1
        warped = warp(truth, proposal, confidence)
        assert np.argwhere(warped != proposal).tolist() == [[kept, 2]]


def test_outside_the_mask_nothing_moves_and_nothing_counts():
    truth = cells(*["###.###"] * 4)
    proposal = np.ones_like(truth)
    mask = np.zeros_like(truth)
    mask[:2] = True
    found = warping_error(truth, proposal, mask=mask)
    assert (found.pixels, found.mismatches) == (14, 2)
    np.testing.assert_array_equal(warp(truth, proposal, mask=mask), truth)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"truth is \(2, 2\) but proposal \(2, 3\)"):
        warping_error(np.ones((2, 2), bool), np.ones((2, 3), bool))
