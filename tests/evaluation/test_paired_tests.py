"""Paired tests over seeds against calculations by hand and against slow versions."""

import numpy as np
import pytest
from scipy.stats import t as student
from scipy.stats import ttest_rel

from hf_clipselect.evaluation.comparison.paired_tests import holm, paired_p_values, separated_best


def test_p_values_are_those_of_the_t_statistic():
    differences = np.array([[2.0, 2.2, 1.8, 2.1, 1.9], [-9.0, 8.0, -9.0, 8.0, -9.0]])
    for of_method, p_value in zip(differences, paired_p_values(differences), strict=True):
        statistic = of_method.mean() / (of_method.std(ddof=1) / 5**0.5)
        assert p_value == pytest.approx(2 * student.sf(abs(statistic), df=4))
    rng = np.random.default_rng(0)
    ours, theirs = rng.normal(size=(2, 3, 4, 10))
    assert paired_p_values(ours - theirs) == pytest.approx(ttest_rel(ours, theirs, axis=-1).pvalue)


def test_seeds_that_change_nothing_separate_nothing():
    """Repeating one observation makes it no surer."""
    assert paired_p_values(np.array([0.3])) == paired_p_values(np.array([-80.0])) == 1  # one seed says nothing
    assert paired_p_values(np.zeros(10)) == 1
    for num_seeds in (2, 3, 5, 10, 1000):
        assert paired_p_values(np.full(num_seeds, 0.4)) == 1
    # Equal differences of figures that differ are equal but for rounding: 0.9 - 0.8 is not 0.4 - 0.3.
    rounded = np.array([0.9, 0.3, 0.4]) - np.array([0.8, 0.2, 0.3])
    assert len(set(rounded.tolist())) > 1 and paired_p_values(rounded) == 1


def test_holm_follows_its_definition():
    rng = np.random.default_rng(0)
    p_values = np.round(rng.random(40) ** 4, 3)  # with ties
    corrected = holm(p_values)
    for level in (0.01, 0.05, 0.3, 0.9):
        rejected = np.zeros(40, dtype=bool)
        for step, place in enumerate(np.argsort(p_values, kind="stable")):
            if p_values[place] > level / (40 - step):
                break
            rejected[place] = True
        assert ((corrected <= level) == rejected).all()
    assert holm(np.array([0.01, 0.04, 0.03])) == pytest.approx([0.03, 0.06, 0.06])


@pytest.mark.parametrize("highest", [True, False])
def test_the_best_is_named_where_the_slow_version_separates_it_from_the_second(highest):
    rng = np.random.default_rng(0)
    found = []
    for _ in range(200):
        values = rng.normal(size=(4, 5)) + rng.normal(scale=3, size=(4, 1))
        ranks = sorted(range(4), key=lambda method: values[method].mean(), reverse=highest)
        p_values = sorted((ttest_rel(values[ranks[0]], values[other]).pvalue, other) for other in ranks[1:])
        corrected, largest = {}, 0.0
        for step, (p_value, other) in enumerate(p_values):
            largest = max(largest, (3 - step) * p_value)
            corrected[other] = largest
        expected = ranks[0] if corrected[ranks[1]] < 0.05 else None
        assert separated_best(values, highest=highest) == expected
        found.append(expected)
    assert {None, 0, 1, 2, 3} == set(found)


def test_the_number_of_others_and_ties_count_against_the_best():
    best, second = np.array([5.0, 5.2, 5.4, 5.1]), np.array([4.2, 5.0, 4.6, 4.1])
    assert ttest_rel(best, second).pvalue < 0.05 < 2 * ttest_rel(best, second).pvalue
    assert separated_best(np.stack([second, best]), highest=True) == 1
    # A third one that the test tells less well leaves the second with half the level.
    third = np.array([-9.0, 5.0, -9.0, 5.0])
    assert ttest_rel(best, third).pvalue > ttest_rel(best, second).pvalue
    assert separated_best(np.stack([second, best, third]), highest=True) is None
    assert separated_best(np.stack([best, best, second]), highest=True) is None
    assert separated_best(np.stack([best]), highest=True) is None
    assert separated_best(np.array([[90.0], [10.0]]), highest=True) is None
    assert separated_best(np.array([[1.0] * 10, [2.0] * 10]), highest=False) is None
