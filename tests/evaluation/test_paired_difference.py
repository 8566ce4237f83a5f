"""The difference of two accuracies and its standard error: by hand, and against loops."""

import statistics
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import bisect

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.classifier.paired_difference import (
    LEVEL,
    PairedDifference,
    clear_differences,
    paired_difference,
)
from hf_clipselect.evaluation.comparison.paired_tests import holm


def test_by_hand():
    # Differences: 1 0 0 1 of the first seed, 0 0 -1 1 of the second.
    first = np.array([[1, 1, 0, 1], [0, 1, 0, 1]], dtype=bool)
    second = np.array([[0, 1, 0, 0], [0, 1, 1, 0]], dtype=bool)
    found = paired_difference(first, second)
    assert found.difference == 0.25
    # Seeds: 1/2 and 0, a standard deviation of sqrt(1/8), over sqrt(2).
    assert found.of_seeds == pytest.approx(0.25)
    # Rows: 1/2, 0, -1/2, 1 about 1/4: the sum of squares is 5/4, the variance 5/12, over 4.
    assert found.of_test_rows == pytest.approx((5 / 48) ** 0.5)
    assert found.standard_error == pytest.approx((1 / 16 + 5 / 48) ** 0.5)


@pytest.mark.parametrize("shape", [(1, 2), (2, 7), (3, 200)])
def test_against_loops(shape):
    rng = np.random.default_rng(shape)
    first, second = rng.random(shape) < 0.8, rng.random(shape) < 0.6
    seeds, rows = range(shape[0]), range(shape[1])
    by_seed = [statistics.fmean(int(first[s, r]) - int(second[s, r]) for r in rows) for s in seeds]
    by_row = [statistics.fmean(int(first[s, r]) - int(second[s, r]) for s in seeds) for r in rows]
    found = paired_difference(first, second)
    assert found.difference == pytest.approx(first.mean() - second.mean())
    assert found.of_test_rows == pytest.approx(statistics.stdev(by_row) / len(rows) ** 0.5)
    if len(seeds) == 1:
        assert found.of_seeds is None and found.standard_error == found.of_test_rows
    else:
        assert found.of_seeds == pytest.approx(statistics.stdev(by_seed) / len(seeds) ** 0.5)
        assert found.standard_error**2 == pytest.approx(found.of_test_rows**2 + found.of_seeds**2)


def test_the_error_is_that_of_trainings_done_again():
    """Of 2,000 made comparisons; the true difference is 0.1, and seeds and rows have an effect on both trainings."""
    rng, errors, differences = np.random.default_rng(0), [], []
    for _ in range(2000):
        of_seed = rng.normal(0, 0.05, size=(2, 4, 1))
        of_row = rng.normal(0, 0.3, size=(1, 1, 100)) + rng.normal(0, 0.1, size=(2, 1, 100))
        chance = np.clip(np.array([0.6, 0.5])[:, None, None] + of_seed + of_row, 0, 1)
        first, second = rng.random((2, 4, 100)) < chance
        found = paired_difference(first, second)
        errors.append(found.standard_error)
        differences.append(found.difference)
    # Not below, and, since what varies with both is counted twice, above by less than sqrt(2).
    assert 1 < np.mean(errors) / np.std(differences) < 2**0.5


@pytest.mark.parametrize(("seed_spread", "num_rows"), [(0.05, 4000), (0.0, 200)])
def test_a_difference_of_none_is_claimed_in_one_case_of_twenty_at_most(seed_spread, num_rows):
    """Three seeds; where they make the error, two standard errors would claim a difference in one case of six."""
    rng, claimed, of_two_errors = np.random.default_rng(1), [], []
    for _ in range(2000):
        chance = np.clip(0.6 + rng.normal(0, seed_spread, size=(2, 3, 1)), 0, 1)
        first, second = rng.random((2, 3, num_rows)) < chance
        found = paired_difference(first, second)
        claimed.append(found.is_clear())
        of_two_errors.append(abs(found.difference) > 2 * found.standard_error)
    assert np.mean(claimed) < 0.055
    assert seed_spread == 0 or np.mean(of_two_errors) > 0.1


def test_clear_by_the_quantile_of_student():
    # Seeds alone: differences of 0.5, 0.25 and 0.75, a standard error of 0.25 / sqrt(3); t(2) at 97.5 % is 4.303.
    first = np.array([[1, 1, 0, 0], [1, 0, 0, 0], [1, 1, 1, 0]], dtype=bool)
    found = paired_difference(first, np.zeros_like(first))
    assert found.of_seeds == pytest.approx(0.25 / 3**0.5)
    alone = replace(found, of_test_rows=0.0)
    assert not replace(alone, difference=4.29 * alone.standard_error).is_clear()
    assert replace(alone, difference=4.31 * alone.standard_error).is_clear()
    assert not replace(alone, of_seeds=0.0).is_clear()


def test_one_seed_claims_nothing():
    first = np.ones((1, 10_000), dtype=bool)
    found = paired_difference(first, np.arange(10_000)[None] % 2 == 0)
    assert found.difference == 0.5 and found.standard_error < 0.01 and found.of_seeds is None
    assert not found.is_clear() and clear_differences([found, found]) == [False, False]


def _p_value(found: PairedDifference) -> float:
    if found.difference == 0:
        return 1.0
    return bisect(lambda level: 0.5 - found.is_clear(level), 1e-9, 1 - 1e-9)


def test_the_correction_is_that_of_holm():
    """As Holm's p-values tell, where the p-value of a difference is the level from which on it is clear."""
    rng, found_numbers = np.random.default_rng(0), set()
    for _ in range(300):
        shares = rng.uniform(0.6, 0.8, size=(4, 1, 1)) + rng.normal(0, 0.01, size=(4, 3, 1))
        differences = [
            paired_difference(rng.random((3, 500)) < 0.7, values) for values in rng.random((4, 3, 500)) < shares
        ]
        p_values = [_p_value(found) for found in differences]
        clear = clear_differences(differences)
        assert clear == (holm(np.array(p_values)) < LEVEL).tolist()
        found_numbers.add((sum(clear), sum(found.is_clear() for found in differences)))
    assert {clear for clear, _ in found_numbers} == {0, 1, 2, 3, 4} and any(a < b for a, b in found_numbers)
    assert clear_differences([]) == []


def test_several_differences_of_none_are_claimed_in_one_case_of_twenty_at_most():
    """Three arms beside the same selected rows; each tested for itself would claim one in twice as many."""
    rng, claimed, for_itself = np.random.default_rng(2), [], []
    for _ in range(1000):
        chance = np.clip(0.6 + rng.normal(0, 0.05, size=(4, 3, 1)), 0, 1)
        selected, *others = rng.random((4, 3, 2000)) < chance
        differences = [paired_difference(selected, other) for other in others]
        claimed.append(any(clear_differences(differences)))
        for_itself.append(any(found.is_clear() for found in differences))
    assert np.mean(claimed) < 0.055 and np.mean(for_itself) > 0.08


def test_what_can_not_be_paired_is_refused():
    for first, second in (((2, 5), (3, 5)), ((0, 5), (0, 5)), ((2, 1), (2, 1)), ((5,), (5,))):
        with pytest.raises(InputError, match="Expected two arrays of the same shape"):
            paired_difference(np.ones(first, dtype=bool), np.ones(second, dtype=bool))
