import numpy as np
import pytest

from tfseg.metrics import SegScore
from tfseg.metrics.seg import object_jaccards


def grid(*rows):
    return np.array([[int(digit) for digit in row] for row in rows], np.int32)


def test_a_table_by_hand():
    reference = grid("110022", "110022", "000000", "333300")
    proposal = grid("500066", "500066", "000066", "777000")
    # 1: two of its four pixels are not more than half. 2: 4 of 4, proposed 6. 3: 3 of 4.
    np.testing.assert_allclose(object_jaccards(reference, proposal), [0, 4 / 6, 3 / 4])


def test_one_proposal_may_match_several_objects():
    reference, proposal = grid("110022"), grid("444444")
    np.testing.assert_allclose(object_jaccards(reference, proposal), [2 / 6, 2 / 6])


def test_the_background_matches_nothing_and_spare_proposals_cost_nothing():
    reference = grid("110000")
    np.testing.assert_array_equal(object_jaccards(reference, grid("000000")), [0])
    np.testing.assert_array_equal(object_jaccards(reference, grid("110203")), [1])
    assert object_jaccards(grid("0000"), grid("0110")).shape == (0,)


def test_ids_may_be_large():
    reference = grid("110022") * np.int32(1_000_000_007)
    proposal = np.array([[2**16 - 1] * 2 + [0] * 4], np.uint16)
    np.testing.assert_array_equal(object_jaccards(reference, proposal), [1, 0])


def by_hand(reference, proposal):
    """The definition, one pair of objects at a time."""
    scores = []
    for r in sorted(set(reference.ravel().tolist()) - {0}):
        score = 0.0
        for s in sorted(set(proposal.ravel().tolist()) - {0}):
            common = np.sum((reference == r) & (proposal == s))
            if common > 0.5 * np.sum(reference == r):
                score = common / np.sum((reference == r) | (proposal == s))
        scores.append(score)
    return scores


@pytest.mark.parametrize("seed", range(5))
def test_equals_the_definition(seed):
    rng = np.random.default_rng(seed)
    reference = np.kron(rng.integers(0, 9, (6, 7)), np.ones((4, 4), int))
    proposal = np.where(rng.random(reference.shape) < 0.3, 0, np.roll(reference, 1, 1) * 11)
    np.testing.assert_allclose(object_jaccards(reference, proposal), by_hand(reference, proposal))


def test_the_mean_is_over_the_objects_of_all_images():
    score = SegScore()
    score.update(grid("1122"), grid("1100"))
    score.update(grid("0000"), grid("1111"))
    score.update(grid("3333"), grid("0333"))
    assert score.result() == {"seg": pytest.approx((1 + 0 + 3 / 4) / 3)}


def test_errors():
    with pytest.raises(ValueError, match=r"reference is \(1, 4\) but proposal \(1, 3\)"):
        object_jaccards(grid("0000"), grid("000"))
    with pytest.raises(ValueError, match="proposal must hold object ids"):
        object_jaccards(grid("0000"), grid("0000").astype(float))
    with pytest.raises(ValueError, match="reference must hold object ids"):
        object_jaccards(-grid("0001"), grid("0000"))
    with pytest.raises(ValueError, match="no image had a reference object"):
        SegScore().result()
