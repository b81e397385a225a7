import numpy as np
import pytest
from scipy import ndimage
from skimage.metrics import adapted_rand_error, variation_of_information

from tfseg.metrics import EMScores, em

# Two true segments of 6 and 4 pixels; the proposal gives one column of the first to the second.
TRUTH = np.array([[1, 1, 0, 2], [1, 1, 0, 2], [1, 1, 0, 2], [0, 0, 0, 2]])
PROPOSAL = np.array([[1, 2, 2, 2], [1, 2, 2, 2], [1, 2, 2, 2], [0, 0, 0, 2]])


def blobs(seed, shape=(40, 50)):
    rng = np.random.default_rng(seed)
    return ndimage.gaussian_filter(rng.normal(size=shape), 2) > 0.02


def test_rand_scores_of_a_hand_computed_table():
    # shared by both: 3, 3, 4 pixels; truth 6, 4; proposal 3, 7
    score, split, merge = em.rand_scores(TRUTH, PROPOSAL)
    assert split == pytest.approx(34 / 52)
    assert merge == pytest.approx(34 / 58)
    assert score == pytest.approx(2 * 34 / (52 + 58))


def test_info_scores_of_a_hand_computed_table():
    def entropy(*counts):
        p = np.array(counts) / 10
        return -(p * np.log(p)).sum()

    true, proposed, joint = entropy(6, 4), entropy(3, 7), entropy(3, 3, 4)
    mutual = true + proposed - joint
    score, split, merge = em.info_scores(TRUTH, PROPOSAL)
    assert split == pytest.approx(mutual / proposed)
    assert merge == pytest.approx(mutual / true)
    assert score == pytest.approx(2 * mutual / (true + proposed))


def test_proposed_membrane_inside_the_truth_is_a_segment_a_pixel():
    truth = np.ones((1, 4), int)
    proposal = np.array([[1, 1, 0, 0]])
    # pairs: both 2*2 + 1 + 1, truth 4*4, proposal the same 6
    assert em.rand_scores(truth, proposal) == pytest.approx((12 / 22, 6 / 16, 1))
    as_singletons = np.array([[1, 1, 2, 3]])
    for score in (em.rand_scores, em.info_scores):
        assert score(TRUTH, np.where(PROPOSAL == 1, 0, PROPOSAL)) == pytest.approx(
            score(TRUTH, np.array([[3, 2, 2, 2], [4, 2, 2, 2], [5, 2, 2, 2], [0, 0, 0, 2]]))
        )
        assert score(truth, proposal) == pytest.approx(score(truth, as_singletons))


@pytest.mark.parametrize("seed", range(4))
def test_agrees_with_scikit_image(seed):
    truth = em.segments(blobs(seed))
    rng = np.random.default_rng(seed)
    proposal = em.segments(blobs(seed) & (rng.random((40, 50)) > 0.03)) + 1  # no membrane
    inside = truth > 0
    error, precision, recall = adapted_rand_error(truth, proposal)
    # scikit-image counts pairs of different pixels, we also each pixel with itself
    n = inside.sum()
    _, split, merge = em.rand_scores(truth, proposal)
    both = split * (np.bincount(truth[inside]) ** 2).sum()
    true, proposed = both / split, both / merge
    # and it calls precision the score over the truth's pairs
    assert precision == pytest.approx((both - n) / (true - n))
    assert recall == pytest.approx((both - n) / (proposed - n))
    assert error == pytest.approx(1 - 2 * (both - n) / (true + proposed - 2 * n))

    excess_split, excess_merge = variation_of_information(truth[inside], proposal[inside])
    entropy = -sum(p * np.log2(p) for p in np.bincount(truth[inside])[1:] / n)
    _, info_split, info_merge = em.info_scores(truth, proposal)
    mutual = entropy - excess_merge
    assert info_merge == pytest.approx(mutual / entropy)
    assert info_split == pytest.approx(mutual / (mutual + excess_split))


def test_one_segment_each_is_a_perfect_match_and_no_information_scores_zero():
    one, two = np.ones((2, 2), int), np.array([[1, 1], [2, 2]])
    assert em.info_scores(one, one) == (1, 1, 1)
    assert em.info_scores(one, two)[0] == 0
    assert em.info_scores(two, one)[0] == 0


def test_segments_are_four_connected():
    labels = em.segments(np.array([[1, 0, 1], [0, 1, 1]], bool))
    np.testing.assert_array_equal(labels > 0, [[1, 0, 1], [0, 1, 1]])
    assert labels[0, 0] != labels[0, 2] == labels[1, 1]


def test_thinning_leaves_a_border_of_one_pixel():
    wide = np.array([[1, 1, 0, 0, 0, 0, 2, 2]] * 3)
    np.testing.assert_array_equal(em.thin_borders(wide), [[1, 1, 1, 1, 0, 2, 2, 2]] * 3)
    odd = np.array([[1, 0, 0, 0, 2], [1, 0, 0, 0, 2]])
    np.testing.assert_array_equal(em.thin_borders(odd), [[1, 1, 0, 2, 2]] * 2)
    np.testing.assert_array_equal(em.thin_borders(odd.T), em.thin_borders(odd).T)


@pytest.mark.parametrize("seed", range(4))
def test_thinning_keeps_every_segment_apart_and_shrinks_none(seed):
    labels = em.segments(blobs(seed))
    thinned = em.thin_borders(labels)
    np.testing.assert_array_equal(thinned[labels > 0], labels[labels > 0])
    for a, b in ((thinned[1:], thinned[:-1]), (thinned[:, 1:], thinned[:, :-1])):
        assert not ((a != b) & (a > 0) & (b > 0)).any()
    assert (thinned == 0).sum() < (labels == 0).sum()
    # hardly a border pixel is surplus: they meet two segments among their 3x3 neighbours
    surplus = [
        len(set(near[near > 0])) < 2
        for y, x in np.argwhere(thinned == 0)
        for near in [thinned[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]]
    ]
    assert np.mean(surplus or [0]) < 0.05


def test_thinning_of_nothing_but_membrane():
    assert not em.thin_borders(np.zeros((3, 3), int)).any()


def test_pixel_error_is_one_minus_the_f_score_of_the_inside():
    truth = np.array([[1, 1, 1, 0]], bool)
    proposal = np.array([[1, 1, 0, 1]], bool)
    assert em.pixel_error(truth, proposal) == pytest.approx(1 - 2 * 2 / (3 + 3))
    assert em.pixel_error(truth, truth) == 0


class TestEMScores:
    def test_of_the_truth_itself_are_perfect(self):
        scores = EMScores()
        labels = blobs(0).astype(int)
        scores.update(labels, labels.astype(float))
        assert scores.result() == {
            "pixel_error": 0,
            "rand_error": 0,
            "v_rand": 1,
            "v_info": pytest.approx(1),
            "warping_error": 0,
        }

    def test_take_the_best_threshold_of_the_stack_for_each_score(self):
        labels, other = blobs(1).astype(int), blobs(2).astype(int)
        # right between 0.3 and 0.6, all inside below, all membrane above
        scores = EMScores(thresholds=(0.1, 0.4, 0.7))
        scores.update(labels, 0.3 + 0.3 * labels)
        scores.update(other, 0.3 + 0.3 * other)
        assert scores.result()["rand_error"] == 0
        only_low = EMScores(thresholds=(0.1,))
        only_low.update(labels, 0.3 + 0.3 * labels)
        truth = em.segments(labels > 0)
        expected = 1 - em.rand_scores(truth, np.ones_like(truth))[0]
        assert only_low.result()["rand_error"] == pytest.approx(expected)
        assert only_low.result()["pixel_error"] == pytest.approx(
            em.pixel_error(labels > 0, np.ones_like(labels, bool))
        )

    def test_sum_pairs_and_average_information_over_slices(self):
        scores = EMScores(thresholds=(0.5,))
        truths, proposals = (blobs(3), blobs(4)), (blobs(5), blobs(6))
        both = true = proposed = info = 0.0
        for inside, cut in zip(truths, proposals, strict=True):
            scores.update(inside.astype(int), cut.astype(float))
            truth, thinned = em.segments(inside), em.thin_borders(em.segments(cut))
            _, split, merge = em.rand_scores(truth, thinned)
            pairs = (np.bincount(truth[truth > 0]) ** 2).sum()
            both, true = both + split * pairs, true + pairs
            proposed += split * pairs / merge
            info += em.info_scores(truth, thinned)[0] / 2
        result = scores.result()
        assert result["v_rand"] == pytest.approx(2 * both / (true + proposed))
        assert result["v_info"] == pytest.approx(info)

    def test_wider_membranes_cost_rand_error_but_not_v_rand(self):
        labels = np.ones((21, 21), int)
        labels[10] = 0
        wide = np.ones((21, 21))
        wide[8:13] = 0
        scores = EMScores()
        scores.update(labels, wide)
        result = scores.result()
        assert result["rand_error"] > 0.1
        assert result["v_rand"] == 1
        assert result["warping_error"] == 0

    def test_boundary_class_and_ignored_pixels(self):
        labels = np.array([[1, 0, 0, 255], [1, 0, 0, 255]])  # class 1 is the membrane
        probability = np.array([[0.0, 1, 1, 1], [0, 1, 1, 0]])
        scores = EMScores(boundary_class=1)
        scores.update(labels, probability)
        assert scores.result()["pixel_error"] == 0
        assert scores.result()["warping_error"] == 0

    @pytest.mark.parametrize(
        ("labels", "probability", "message"),
        [
            (np.ones((2, 2), int), np.ones((2, 3)), "one \\(H, W\\)"),
            (np.ones((2, 2), int), np.full((2, 2), 1.5), "0..1"),
            (np.ones((2, 2), int), np.full((2, 2), np.nan), "0..1"),
            (np.zeros((2, 2), int), np.ones((2, 2)), "no inside pixel"),
        ],
    )
    def test_refuse_what_cannot_be_scored(self, labels, probability, message):
        with pytest.raises(ValueError, match=message):
            EMScores().update(labels, probability)

    def test_of_nothing_are_refused(self):
        with pytest.raises(ValueError, match="no slice"):
            EMScores().result()


def test_real_labels_against_a_shifted_copy(shared):
    from PIL import Image

    first = sorted(shared("data/isbi2012/label").iterdir())[0]
    labels = (np.asarray(Image.open(first)) > 0).astype(int)[:160, :160]
    shifted = np.roll(labels, 1, axis=0).astype(float)
    scores = EMScores(thresholds=(0.5,))
    scores.update(labels, shifted)
    result = scores.result()
    assert 0.02 < result["pixel_error"] < 0.15  # a pixel's shift costs pixels
    assert result["v_rand"] > 0.97  # and hardly any topology
    assert result["warping_error"] < 2e-3
