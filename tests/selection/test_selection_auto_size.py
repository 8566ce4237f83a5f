"""The size "auto": as many rows of each cell as have right labels, by the estimate."""

from fractions import Fraction
from math import ceil, floor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_clipselect.errors import InputError
from hf_clipselect.selection import (
    AUTO,
    FIRST,
    MUST_DROP,
    MUST_KEEP,
    Candidates,
    auto_counts,
    check_size,
    resolve_objective,
    resolved_count,
    select_rows,
    select_subsets,
)


CLEAN = resolve_objective("clean")
UNIFORM = resolve_objective("clean", {"class_balance": "uniform"})
FREE = resolve_objective("clean", {"class_balance": "none"})
BALANCES = pytest.mark.parametrize("objective", [CLEAN, UNIFORM, FREE], ids=["proportional", "uniform", "none"])


def exactly(error_probability, cells, num_cells):
    """The counts in fractions, cell by cell, and the sum before the tenths."""
    right = [sum(1 - Fraction(float(p)) for p in error_probability[cells == cell]) for cell in range(num_cells)]
    counts, total = [floor(value) for value in right], floor(sum(right) + Fraction(1, 2))
    for cell in sorted(range(num_cells), key=lambda cell: (counts[cell] - right[cell], cell)):
        counts[cell] += sum(counts) < total
    rows = [int((cells == cell).sum()) for cell in range(num_cells)]
    return [max(count, ceil(Fraction(size, 10))) for count, size in zip(counts, rows, strict=True)], total


def test_counts_by_hand():
    # 2.75, 1.5 and 0.25 right rows are 4.5, so 5 rows: 2, 1 and 0, and the two largest remainders get one each. A
    # tenth of the one row of cell 2 is one row; cell 3 has none.
    p = np.array([0, 0, 0.25, 0.25, 0.25, 0.75], dtype=np.float32)
    assert auto_counts(p, np.array([0, 0, 0, 1, 1, 2]), 4).tolist() == [3, 2, 1, 0]
    # All of 21 labels are wrong, and three rows stay.
    assert auto_counts(np.ones(21), np.zeros(21, dtype=int), 1).tolist() == [3]
    assert auto_counts(np.zeros(21), np.zeros(21, dtype=int), 1).tolist() == [21]
    # Of equal remainders the lower cell goes first: 1.5 and 1.5 are 3.
    assert auto_counts(np.array([0.5, 0, 0.5, 0]), np.array([0, 0, 1, 1]), 2).tolist() == [2, 1]


# Multiples of 2^-16, of which float32 and the sums hold every one: the fractions are exact too.
PROBABILITIES = st.one_of(st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.integers(0, 2**16).map(lambda n: n / 2**16))


@st.composite
def judged_rows(draw):
    num_rows = draw(st.integers(1, 60))
    column = lambda values: np.array(draw(st.lists(values, min_size=num_rows, max_size=num_rows)))  # noqa: E731
    p, cells = column(PROBABILITIES).astype(np.float32), column(st.integers(0, 4))
    tiers = column(st.sampled_from([MUST_KEEP, FIRST, FIRST, FIRST, FIRST, MUST_DROP]))
    scores = column(st.integers(-3, 3)).astype(np.float32)
    return p, cells, tiers, scores


@settings(max_examples=200, deadline=None)
@given(rows=judged_rows())
def test_counts_are_those_of_fractions(rows):
    p, cells, _, _ = rows
    counts = auto_counts(p, cells, 6)
    assert counts.dtype == np.int64
    expected, total = exactly(p, cells, 6)
    assert counts.tolist() == expected
    sizes = np.bincount(cells, minlength=6)
    assert (counts <= sizes).all() and (counts[sizes > 0] >= 1).all()
    assert counts.sum() >= total


@settings(max_examples=50, deadline=None)
@given(rows=judged_rows(), seed=st.integers(0, 9))
def test_the_order_of_the_rows_changes_nothing(rows, seed):
    _, cells, _, _ = rows
    rng = np.random.default_rng(seed)
    p, order = rng.random(len(cells)).astype(np.float32), rng.permutation(len(cells))
    assert auto_counts(p[order], cells[order], 5).tolist() == auto_counts(p, cells, 5).tolist()


@BALANCES
@settings(max_examples=150, deadline=None)
@given(rows=judged_rows())
def test_what_auto_keeps(objective, rows):
    p, cells, tiers, scores = rows
    candidates = Candidates(cells, tiers, error_probability=p)
    may_keep = tiers != MUST_DROP
    if not may_keep.any():
        with pytest.raises(InputError, match="--selection_ratio auto keeps none of"):
            check_size(candidates, AUTO, objective)
        with pytest.raises(InputError, match="--selection_ratio auto keeps none of"):
            select_subsets([scores], candidates, [AUTO], objective)
        return
    check_size(candidates, AUTO, objective)
    [kept] = select_subsets([scores], candidates, [AUTO], objective)
    assert len(kept) == resolved_count(AUTO, candidates, objective)
    assert may_keep[kept].all() and set(np.flatnonzero(tiers == MUST_KEEP)) <= set(kept)
    counts, _ = exactly(p[may_keep], cells[may_keep], 5)
    must = np.bincount(cells[tiers == MUST_KEEP], minlength=5)
    if objective is CLEAN:
        assert np.bincount(cells[kept], minlength=5).tolist() == np.maximum(counts, must).tolist()
    else:
        assert len(kept) == max(sum(counts), must.sum())
        # Only k is that of "auto": the rows are those that this count keeps.
        np.testing.assert_array_equal(kept, select_rows(scores, candidates, len(kept), objective))


@BALANCES
@settings(max_examples=100, deadline=None)
@given(rows=judged_rows(), data=st.data())
def test_auto_and_the_other_sizes_are_what_they_are_without_each_other(objective, rows, data):
    p, cells, tiers, scores = rows
    candidates = Candidates(cells, tiers, error_probability=p)
    least, most = int((tiers == MUST_KEEP).sum()), int((tiers != MUST_DROP).sum())
    if most == 0:
        return
    counts = data.draw(st.lists(st.integers(max(least, 1), most), max_size=3, unique=True))
    place = data.draw(st.integers(0, len(counts)))
    sizes = [*counts[:place], AUTO, *counts[place:]]
    found = select_subsets([scores] * len(sizes), candidates, sizes, objective)
    [alone] = select_subsets([scores], candidates, [AUTO], objective)
    np.testing.assert_array_equal(found.pop(place), alone)
    for rows_of_size, expected in zip(
        found, select_subsets([scores] * len(counts), candidates, counts, objective), strict=True
    ):
        np.testing.assert_array_equal(rows_of_size, expected)


def test_rows_that_must_go_make_no_room_for_wrong_ones():
    # Of ten rows five are right; of these three must go, and no wrong one takes their places, here or in cell 1.
    p = np.array([0] * 5 + [1] * 5 + [0] * 5 + [1] * 5, dtype=np.float32)
    tiers = np.full(20, FIRST)
    tiers[:3] = MUST_DROP
    candidates = Candidates(np.repeat([0, 1], 10), tiers, error_probability=p)
    [kept] = select_subsets([1 - p], candidates, [AUTO], CLEAN)
    assert kept.tolist() == [3, 4, 10, 11, 12, 13, 14]


def test_quotas_of_the_user_bind():
    p = np.full(30, 0.5, dtype=np.float32)
    cells, scores = np.repeat([0, 1, 2], 10), np.arange(30, dtype=np.float32)
    given = Candidates(cells, counts={1: 9}, error_probability=p)
    least = resolve_objective("clean", {"min_per_class": 7})
    for objective, candidates, expected in (
        (CLEAN, Candidates(cells, error_probability=p), [5, 5, 5]),
        (CLEAN, given, [5, 9, 5]),
        (least, given, [7, 9, 7]),
        (UNIFORM, given, [3, 9, 3]),  # 15 rows, of which 6 are left for the other two
    ):
        [kept] = select_subsets([scores], candidates, [AUTO], objective)
        assert np.bincount(cells[kept]).tolist() == expected
    with pytest.raises(InputError, match="--class_quotas_file asks for 11 rows of 1, of which 10 may be kept"):
        check_size(Candidates(cells, counts={1: 11}), AUTO, CLEAN)


def test_a_number_needs_no_estimate_and_auto_does():
    candidates = Candidates(np.zeros(10, dtype=int))
    assert [resolved_count(size, candidates, CLEAN) for size in (0.25, 4)] == [3, 4]
    check_size(candidates, AUTO, CLEAN)  # before there are any scores
    with pytest.raises(ValueError, match="needs error_probability"):
        resolved_count(AUTO, candidates, CLEAN)


def test_auto_by_the_loop_of_the_paper():
    rng = np.random.default_rng(0)
    p = (rng.random(400) < 0.3).astype(np.float32)
    candidates = Candidates(np.zeros(400, dtype=int), error_probability=p)
    objective = resolve_objective("released", {"solver": "sgd"})
    [kept] = select_subsets([rng.random(400)], candidates, [AUTO], objective)
    assert len(kept) == 400 - p.sum() == resolved_count(AUTO, candidates, objective)
