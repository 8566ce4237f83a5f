import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.baselines.ccs import ccs_rows


def slow_counts(scores, count, num_strata, cutoff):
    """Rows that each stratum gives, one stratum at a time, and the strata of the rows that are not dropped."""
    order = sorted(range(len(scores)), key=lambda row: (scores[row], row))
    left = order[: len(scores) - int(cutoff * len(scores) + 1e-9)]
    low, high = min(scores[row] for row in left), max(scores[row] for row in left)
    width = (high - low) / num_strata
    strata = [[] for _ in range(num_strata)]
    for row in left:
        number = 0
        while number < num_strata - 1 and width and scores[row] >= low + (number + 1) * width:
            number += 1
        strata[number].append(row)
    gives, open_strata = {}, list(range(num_strata))
    while open_strata:
        smallest = min(open_strata, key=lambda number: (len(strata[number]), number))
        gives[smallest] = min(len(strata[smallest]), count // len(open_strata))
        count -= gives[smallest]
        open_strata.remove(smallest)
    return gives, strata


def test_four_rows_by_hand():
    # Two strata, {0, 1, 2} and {3}: each gives a row, and the third comes from the larger.
    scores = np.array([0.0, 1, 2, 10])
    for seed in range(5):
        two, three = (ccs_rows(scores, count, num_strata=2, seed=seed) for count in (2, 3))
        assert two.dtype == np.int64
        assert two[1] == 3 and three[2] == 3 and set(two) < set(three)
    assert {int(ccs_rows(scores, 2, num_strata=2, seed=seed)[0]) for seed in range(20)} == {0, 1, 2}
    # Without the hardest row the strata are {0} and {1, 2}.
    assert {tuple(ccs_rows(scores, 2, num_strata=2, cutoff=0.25, seed=seed)) for seed in range(20)} == {(0, 1), (0, 2)}
    assert ccs_rows(scores, 4, seed=0).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("family", ["even", "skewed", "tied"])
def test_strata_give_what_a_slow_count_says(family, seed):
    rng = np.random.default_rng(seed)
    scores = {"even": rng.random, "skewed": rng.exponential, "tied": lambda size: rng.integers(4, size=size) / 4}[
        family
    ](size=200)
    for count, num_strata, cutoff in ((1, 50, 0.0), (20, 7, 0.3), (90, 50, 0.1), (140, 10, 0.3), (200, 50, 0.0)):
        rows = ccs_rows(scores, count, num_strata=num_strata, cutoff=cutoff, seed=seed)
        gives, strata = slow_counts(scores, count, num_strata, cutoff)
        assert rows.tolist() == sorted(set(rows.tolist())) and len(rows) == count
        for number, members in enumerate(strata):
            assert np.isin(members, rows).sum() == gives[number]


def test_selections_are_nested():
    scores = np.random.default_rng(0).exponential(size=120)
    before = set()
    for count in range(1, 109):
        rows = set(ccs_rows(scores, count, num_strata=9, cutoff=0.1, seed=4).tolist())
        assert before < rows
        before = rows


def test_the_draw_within_a_stratum_is_even():
    scores = np.repeat([0.0, 1.0], [10, 2])
    drawn = np.zeros(12)
    for seed in range(600):
        drawn[ccs_rows(scores, 4, num_strata=2, seed=seed)] += 1
    assert (drawn[10:] == 600).all()
    assert drawn[:10].min() > 70 and drawn[:10].max() < 175  # 120 each, five standard deviations of 10


def test_a_ratio_and_the_rest_as_cutoff_fit_whatever_the_number_of_rows():
    for num_rows in range(1, 60):
        count = int(0.9 * num_rows + 0.5)
        assert len(ccs_rows(np.arange(num_rows), count, cutoff=0.1, seed=0)) == count


def test_of_equal_scores_the_higher_rows_are_dropped():
    assert ccs_rows(np.ones(5), 3, cutoff=0.4, seed=0).tolist() == [0, 1, 2]


def test_rejects_a_cutoff_that_leaves_too_few():
    with pytest.raises(
        InputError, match="cutoff 0.3 leaves 7 of 10 rows, fewer than the 8 to keep; give at most 2/10"
    ):
        ccs_rows(np.arange(10), 8, cutoff=0.3, seed=0)


@pytest.mark.parametrize("cutoff", [-0.1, 1, np.nan])
def test_rejects_cutoffs_out_of_range(cutoff):
    with pytest.raises(InputError, match=r"cutoff is the part of the rows .* must lie in \[0, 1\), got"):
        ccs_rows(np.arange(10), 2, cutoff=cutoff, seed=0)


def test_rejects_counts_strata_and_scores():
    with pytest.raises(InputError, match="count must be an integer from 1 to the number of rows, 10, got 11"):
        ccs_rows(np.arange(10), 11, seed=0)
    with pytest.raises(InputError, match="num_strata must be an integer of at least 1, got 0"):
        ccs_rows(np.arange(10), 2, num_strata=0, seed=0)
    with pytest.raises(InputError, match="got nan in row 1"):
        ccs_rows(np.array([0, np.nan]), 1, seed=0)
    with pytest.raises(InputError, match="scores must be one number per row, at least 1, got 0"):
        ccs_rows(np.array([]), 1, seed=0)
