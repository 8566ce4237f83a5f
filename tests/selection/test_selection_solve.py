import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_clipselect.errors import InputError
from hf_clipselect.selection import (
    FIRST,
    LAST,
    MUST_DROP,
    MUST_KEEP,
    Candidates,
    class_quotas,
    resolve_objective,
    select_rows,
    select_subsets,
    selection_count,
    top_k,
)


CLEAN = resolve_objective("clean")
UNIFORM = resolve_objective("clean", {"class_balance": "uniform"})
FREE = resolve_objective("clean", {"class_balance": "none"})
BALANCES = pytest.mark.parametrize("objective", [CLEAN, UNIFORM, FREE], ids=["proportional", "uniform", "none"])


def one_cell(num_rows):
    return Candidates(np.zeros(num_rows, dtype=int))


def test_quotas_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    candidates = Candidates(np.array([0, 0, 0, 0, 1, 1]))
    assert select_rows(scores, candidates, 3, FREE).tolist() == [0, 1, 2]
    assert select_rows(scores, candidates, 3, CLEAN).tolist() == [0, 1, 4]
    assert select_rows(scores, candidates, 4, UNIFORM).tolist() == [0, 1, 4, 5]


def test_tiers_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6])
    tiers = np.array([MUST_DROP, LAST, FIRST, MUST_KEEP])
    for k, kept in ((1, [3]), (2, [2, 3]), (3, [1, 2, 3])):
        assert select_rows(scores, Candidates(np.zeros(4, dtype=int), tiers), k, FREE).tolist() == kept
    two_cells = Candidates(np.array([0, 1, 1, 0]), tiers)
    assert select_rows(scores, two_cells, 2, CLEAN).tolist() == [2, 3]


@pytest.mark.parametrize("balance", ["none", "proportional", "uniform"])
def test_exact_count_and_the_best_of_each_class(balance):
    rng = np.random.default_rng(0)
    objective = resolve_objective("clean", {"class_balance": balance})
    for _ in range(50):
        size = int(rng.integers(1, 120))
        labels = rng.integers(0, 9, size=size) * 2  # every other class is empty
        scores = np.round(rng.normal(size=size), 1).astype(np.float32)
        k = int(rng.integers(1, size + 1))
        rows = select_rows(scores, Candidates(labels), k, objective)
        assert rows.dtype == np.int64
        assert len(rows) == k
        assert (np.diff(rows) > 0).all()
        if balance == "none":
            np.testing.assert_array_equal(rows, top_k(scores, k))
            continue
        quotas = class_quotas(labels, k, balance=balance, num_classes=18)
        for label in np.unique(labels):
            of_class = np.flatnonzero(labels == label)
            best = of_class[np.argsort(-scores[of_class], kind="stable")[: quotas[label]]]
            np.testing.assert_array_equal(rows[labels[rows] == label], np.sort(best))


def slowly(scores, cells, tiers, k, objective):
    """One row after the other, by tier, score and number, as long as its cell has room."""
    wanted = [t != MUST_DROP for t in tiers]
    room = {cell: k for cell in set(cells.tolist())}
    if objective.class_balance != "none":
        low = np.bincount(cells[tiers == MUST_KEEP], minlength=cells.max() + 1)
        high = np.bincount(cells[np.array(wanted)], minlength=cells.max() + 1)
        quotas = class_quotas(
            cells, k, balance=objective.class_balance, num_classes=cells.max() + 1, lower=low, upper=high
        )
        room = dict(enumerate(quotas.tolist()))
    kept = []
    for row in sorted(range(len(scores)), key=lambda row: (tiers[row], -scores[row], row)):
        if wanted[row] and len(kept) < k and room[int(cells[row])] > 0:
            kept.append(row)
            room[int(cells[row])] -= 1
    return sorted(kept)


@st.composite
def selections(draw):
    num_rows = draw(st.integers(1, 40))
    column = lambda values: np.array(draw(st.lists(values, min_size=num_rows, max_size=num_rows)))  # noqa: E731
    scores = column(st.integers(-3, 3)).astype(np.float32)
    cells = column(st.integers(0, 4))
    tiers = column(st.sampled_from([MUST_KEEP, FIRST, FIRST, FIRST, LAST, LAST, MUST_DROP]))
    least, most = int((tiers == MUST_KEEP).sum()), int((tiers != MUST_DROP).sum())
    return scores, cells, tiers, least, most


@BALANCES
@settings(max_examples=150, deadline=None)
@given(selection=selections(), data=st.data())
def test_rows_are_those_of_a_slow_greedy(objective, selection, data):
    scores, cells, tiers, least, most = selection
    k = data.draw(st.integers(least, most))
    if k == 0:
        return
    rows = select_rows(scores, Candidates(cells, tiers), k, objective)
    assert rows.tolist() == slowly(scores, cells, tiers, k, objective)
    assert set(np.flatnonzero(tiers == MUST_KEEP)) <= set(rows)
    assert not (tiers[rows] == MUST_DROP).any()


@BALANCES
@settings(max_examples=100, deadline=None)
@given(selection=selections(), data=st.data())
def test_counts_are_exact_and_subsets_nested(objective, selection, data):
    scores, cells, tiers, least, most = selection
    if most == 0:
        return
    sizes = data.draw(st.lists(st.integers(max(least, 1), most), min_size=1, max_size=5, unique=True))
    subsets = select_subsets([scores] * len(sizes), Candidates(cells, tiers), sizes, objective)
    assert [len(rows) for rows in subsets] == sizes
    by_size = sorted(subsets, key=len)
    for smaller, larger in zip(by_size, by_size[1:], strict=False):
        assert np.isin(smaller, larger).all()


@BALANCES
@settings(max_examples=100, deadline=None)
@given(selection=selections(), data=st.data())
def test_another_order_of_distinct_rows_gives_the_same_rows(objective, selection, data):
    _, cells, tiers, least, most = selection
    if most == 0:
        return
    k = data.draw(st.integers(max(least, 1), most))
    order = np.array(data.draw(st.permutations(range(len(cells)))))
    scores = np.random.default_rng(0).permutation(len(cells)).astype(np.float32)
    rows = select_rows(scores, Candidates(cells, tiers), k, objective)
    permuted = select_rows(scores[order], Candidates(cells[order], tiers[order]), k, objective)
    assert sorted(order[permuted]) == rows.tolist()


def test_counts_asked_for_some_classes():
    scores, cells = np.arange(12, dtype=np.float32), np.repeat([0, 1, 2], 4)
    rows = select_rows(scores, Candidates(cells, counts={0: 1, 2: 4}), 7, CLEAN)
    assert np.bincount(cells[rows]).tolist() == [1, 2, 4]
    assert rows.tolist() == [3, 6, 7, 8, 9, 10, 11]


def test_the_least_of_each_class():
    scores, cells = np.arange(100, dtype=np.float32), np.repeat([0, 1, 2], [90, 8, 2])
    least = resolve_objective("clean", {"min_per_class": 5})
    assert np.bincount(cells[select_rows(scores, Candidates(cells), 20, least)]).tolist() == [13, 5, 2]
    assert np.bincount(cells[select_rows(scores, Candidates(cells), 20, CLEAN)], minlength=3).tolist() == [18, 2, 0]


@pytest.mark.parametrize(
    ("candidates", "k", "knobs", "message"),
    [
        ({"tiers": [MUST_KEEP] * 3 + [FIRST] * 3}, 2, {}, "must_keep names 3 rows, but only 2 are kept"),
        (
            {"tiers": [MUST_DROP] * 3 + [FIRST] * 3},
            4,
            {},
            "3 of 6 rows must be dropped, which leaves 3, but 4 are to be kept",
        ),
        ({"counts": {1: 4}}, 4, {}, "class_quotas_file asks for 4 rows of dog, of which 3 may be kept; change"),
        ({"counts": {0: 2, 1: 2}}, 3, {}, "The quotas can't be met: 3 rows .* ask for at least 4"),
        ({"counts": {0: 1, 1: 1}}, 3, {}, "The quotas can't be met: 3 rows .* ask for at most 2"),
        ({}, 3, {"min_per_class": 2}, "The quotas can't be met: 3 rows .* ask for at least 4"),
        (
            {"counts": {0: 1}, "tiers": [MUST_KEEP] * 2 + [FIRST] * 4},
            4,
            {},
            "class_quotas_file asks for 1 row of cat, of which 3 may be kept and 2 must be",
        ),
    ],
)
def test_what_can_not_be_met(candidates, k, knobs, message):
    if "tiers" in candidates:
        candidates = {**candidates, "tiers": np.array(candidates["tiers"])}
    given = Candidates(np.repeat([0, 1], 3), names=["cat", "dog"], **candidates)
    with pytest.raises(InputError, match=message):
        select_rows(np.zeros(6, dtype=np.float32), given, k, resolve_objective("clean", knobs))


def test_sgd_keeps_the_best_rows():
    rng = np.random.default_rng(1)
    scores = rng.random(400)
    objective = resolve_objective("released", {"solver": "sgd"})
    rows = select_rows(scores, one_cell(400), 100, objective)
    np.testing.assert_array_equal(rows, top_k(scores, 100))
    with pytest.raises(InputError, match="ratio_weight"):
        select_rows(scores * 4, one_cell(400), 100, objective)
    with pytest.raises(InputError, match="sgd takes no rows that must be kept or dropped"):
        select_rows(scores, Candidates(np.zeros(400, dtype=int), np.full(400, FIRST)), 100, objective)


def test_theta_says_how_far_the_count_of_sgd_may_lie_from_the_one_asked_for():
    scores = np.random.default_rng(1).random(4000)
    kept = {}
    for theta in (0.01, 5e-4, 1e-4):
        objective = resolve_objective("released", {"solver": "sgd", "theta": theta})
        rows = select_rows(scores, one_cell(4000), 1000, objective)
        np.testing.assert_array_equal(rows, top_k(scores, len(rows)))
        kept[theta] = len(rows)
        assert abs(kept[theta] - 1000) <= theta * 4000
    assert kept[0.01] > 1000  # the loop comes from above and stops as soon as it may


@BALANCES
def test_subsets_are_nested(objective):
    rng = np.random.default_rng(2)
    for _ in range(200):
        labels = rng.integers(0, rng.integers(2, 12), size=rng.integers(10, 80))
        labels = np.where(rng.random(len(labels)) < 0.4, 0, labels)
        scores = rng.integers(0, 20, size=len(labels)).astype(np.float32)
        ratios = [float(ratio) for ratio in np.round(rng.permutation(np.arange(0.1, 1.0, 0.03))[:6], 2)]
        found = select_subsets([scores] * len(ratios), Candidates(labels), ratios, objective)
        subsets = dict(zip(ratios, found, strict=True))
        rising = sorted(ratios)
        for smaller, larger in zip(rising, rising[1:], strict=False):
            assert np.isin(subsets[smaller], subsets[larger]).all()
        for ratio, rows in subsets.items():
            assert len(rows) == selection_count(ratio, len(labels))
        alone = select_rows(scores, Candidates(labels), len(subsets[rising[-1]]), objective)
        np.testing.assert_array_equal(subsets[rising[-1]], alone)


def test_largest_remainder_alone_would_not_nest():
    # The Alabama paradox: 6, 6 and 2 rows of 14 get 4, 4, 2 of ten but 5, 5, 1 of eleven.
    labels, scores = np.repeat([0, 1, 2], [6, 6, 2]), np.arange(14, dtype=np.float32)
    assert np.bincount(labels[select_rows(scores, Candidates(labels), 10, CLEAN)]).tolist() == [4, 4, 2]
    few, many = select_subsets([scores, scores], Candidates(labels), [10 / 14, 11], CLEAN)
    assert np.bincount(labels[many]).tolist() == [5, 5, 1]
    assert np.bincount(labels[few]).tolist() == [5, 4, 1]
    assert np.isin(few, many).all()


def test_a_ratio_and_a_count_of_the_same_number_are_two_sizes():
    scores = np.arange(5, dtype=np.float32)
    every, one = select_subsets([scores, scores], one_cell(5), [1.0, 1], FREE)
    assert (every.tolist(), one.tolist()) == ([0, 1, 2, 3, 4], [4])


def test_a_ratio_does_not_depend_on_the_others_where_largest_remainder_nests():
    labels, scores = np.repeat([0, 1, 2], [50, 30, 20]), np.random.default_rng(3).random(100)
    ratios = [0.1, 0.5, 0.8]
    for ratio, rows in zip(ratios, select_subsets([scores] * 3, Candidates(labels), ratios, CLEAN), strict=True):
        np.testing.assert_array_equal(rows, select_subsets([scores], Candidates(labels), [ratio], CLEAN)[0])


def test_each_ratio_stands_alone_where_alpha_follows_it():
    rng = np.random.default_rng(4)
    labels = rng.integers(3, size=60)
    objective = resolve_objective("paper", {"class_balance": "proportional"})
    scores = [rng.random(60), rng.random(60)]
    for score, rows in zip(scores, select_subsets(scores, Candidates(labels), [0.2, 0.5], objective), strict=True):
        np.testing.assert_array_equal(rows, select_rows(score, Candidates(labels), len(rows), objective))
