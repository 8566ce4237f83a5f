import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.selection import (
    class_quotas,
    resolve_objective,
    select_rows,
    select_subsets,
    selection_count,
    top_k,
)


CLEAN = resolve_objective("clean")
UNIFORM = resolve_objective("clean", class_balance="uniform")
FREE = resolve_objective("clean", class_balance="none")


def test_quotas_by_hand():
    scores = np.array([0.9, 0.8, 0.7, 0.6, 0.5, 0.4])
    labels = np.array([0, 0, 0, 0, 1, 1])
    assert select_rows(scores, labels, 3, FREE).tolist() == [0, 1, 2]
    assert select_rows(scores, labels, 3, CLEAN).tolist() == [0, 1, 4]
    assert select_rows(scores, labels, 4, UNIFORM).tolist() == [0, 1, 4, 5]


@pytest.mark.parametrize("balance", ["none", "proportional", "uniform"])
def test_exact_count_and_the_best_of_each_class(balance):
    rng = np.random.default_rng(0)
    objective = resolve_objective("clean", class_balance=balance)
    for _ in range(50):
        size = int(rng.integers(1, 120))
        labels = rng.integers(0, 9, size=size) * 2  # every other class is empty
        scores = np.round(rng.normal(size=size), 1).astype(np.float32)
        k = int(rng.integers(1, size + 1))
        rows = select_rows(scores, labels, k, objective)
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


def test_sgd_keeps_the_best_rows():
    rng = np.random.default_rng(1)
    scores = rng.random(400)
    objective = resolve_objective("released", solver="sgd")
    rows = select_rows(scores, np.zeros(400, dtype=int), 100, objective)
    np.testing.assert_array_equal(rows, top_k(scores, 100))
    with pytest.raises(InputError, match="ratio_weight"):
        select_rows(scores * 4, np.zeros(400, dtype=int), 100, objective)


def test_rejects_arrays_that_do_not_match():
    with pytest.raises(InputError, match="3 scores and 2 labels"):
        select_rows(np.zeros(3), np.zeros(2, dtype=int), 1, FREE)


@pytest.mark.parametrize("objective", [CLEAN, UNIFORM, FREE], ids=["proportional", "uniform", "none"])
def test_subsets_are_nested(objective):
    rng = np.random.default_rng(2)
    for _ in range(200):
        labels = rng.integers(0, rng.integers(2, 12), size=rng.integers(10, 80))
        labels = np.where(rng.random(len(labels)) < 0.4, 0, labels)
        scores = rng.integers(0, 20, size=len(labels)).astype(np.float32)
        ratios = [float(ratio) for ratio in np.round(rng.permutation(np.arange(0.1, 1.0, 0.03))[:6], 2)]
        subsets = select_subsets(dict.fromkeys(ratios, scores), labels, ratios, objective)
        assert list(subsets) == ratios
        rising = sorted(ratios)
        for smaller, larger in zip(rising, rising[1:], strict=False):
            assert np.isin(subsets[smaller], subsets[larger]).all()
        for ratio, rows in subsets.items():
            assert len(rows) == selection_count(ratio, len(labels))
        alone = select_rows(scores, labels, len(subsets[rising[-1]]), objective)
        np.testing.assert_array_equal(subsets[rising[-1]], alone)


def test_largest_remainder_alone_would_not_nest():
    # The Alabama paradox: 6, 6 and 2 rows of 14 get 4, 4, 2 of ten but 5, 5, 1 of eleven.
    labels, scores = np.repeat([0, 1, 2], [6, 6, 2]), np.arange(14, dtype=np.float32)
    few, many = 10 / 14, 11 / 14
    assert np.bincount(labels[select_rows(scores, labels, 10, CLEAN)]).tolist() == [4, 4, 2]
    subsets = select_subsets({few: scores, many: scores}, labels, [few, many], CLEAN)
    assert np.bincount(labels[subsets[many]]).tolist() == [5, 5, 1]
    assert np.bincount(labels[subsets[few]]).tolist() == [5, 4, 1]
    assert np.isin(subsets[few], subsets[many]).all()


def test_a_ratio_does_not_depend_on_the_others_where_largest_remainder_nests():
    labels, scores = np.repeat([0, 1, 2], [50, 30, 20]), np.random.default_rng(3).random(100)
    together = select_subsets(dict.fromkeys([0.1, 0.5, 0.8], scores), labels, [0.1, 0.5, 0.8], CLEAN)
    for ratio, rows in together.items():
        np.testing.assert_array_equal(rows, select_subsets({ratio: scores}, labels, [ratio], CLEAN)[ratio])


def test_each_ratio_stands_alone_where_alpha_follows_it():
    rng = np.random.default_rng(4)
    labels = rng.integers(3, size=60)
    objective = resolve_objective("paper", class_balance="proportional")
    scores = {ratio: rng.random(60) for ratio in (0.2, 0.5)}
    subsets = select_subsets(scores, labels, [0.2, 0.5], objective)
    for ratio, rows in subsets.items():
        np.testing.assert_array_equal(rows, select_rows(scores[ratio], labels, len(rows), objective))
