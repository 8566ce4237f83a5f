"""The safe pool, and the order in which herding takes the rows of a class."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from hf_clipselect.selection import (
    Candidates,
    RowColumns,
    class_order,
    resolve_objective,
    safe_pool,
    select_subsets,
    selection_scores,
)
from hf_clipselect.selection.herding_order import herding_order, order_by_content


def unit_rows(num_rows, seed=0, dim=8):
    rows = np.random.default_rng(seed).normal(size=(num_rows, dim)) + 1
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def test_the_pool_by_hand():
    p = np.array([0.0, 0.9, 0.02, 0.5, 0.0201, 0.001], dtype=np.float32)
    assert safe_pool(p).tolist() == [True, False, True, False, False, True]
    excluded = np.array([True, False, False, False, False, True])
    assert safe_pool(p, excluded=excluded).tolist() == [False, False, True, False, False, False]


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_the_pool_is_herded_and_the_others_follow_by_their_probability(kind):
    embeds, p = unit_rows(9), np.array([0.9, 0.1, 0.2, 0.8, 0.1, 0.9, 0.0, 0.1, 0.7], dtype=np.float32)
    in_pool = p < 0.5
    ranks = class_order(kind(embeds), in_pool, p, 3)
    assert ranks.dtype == np.int64 and sorted(ranks) == list(range(9))
    pool = np.flatnonzero(in_pool)
    surest = np.array([0, 5])[order_by_content(embeds[[0, 5]])]
    assert np.argsort(ranks).tolist() == [*pool[herding_order(embeds[pool], 3)], 8, 3, *surest]
    order = np.array([5, 1, 8, 0, 7, 2, 6, 4, 3])
    permuted = class_order(kind(embeds[order]), in_pool[order], p[order], 3)
    assert permuted.tolist() == ranks[order].tolist()


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
@pytest.mark.parametrize("all_in", [True, False])
def test_a_class_that_is_all_in_the_pool_or_all_out_of_it(all_in, kind):
    embeds, p = unit_rows(5), np.array([0.5, 0.2, 0.9, 0.1, 0.2], dtype=np.float32)
    ranks = class_order(kind(embeds), np.full(5, all_in), p, 0)
    equal = np.array([1, 4])[order_by_content(embeds[[1, 4]])]
    expected = herding_order(embeds, 0) if all_in else [3, *equal, 0, 2]
    assert np.argsort(ranks).tolist() == list(expected)


@settings(max_examples=60, deadline=None)
@given(
    labels=st.lists(st.integers(0, 3), min_size=2, max_size=60),
    seed=st.integers(0, 99),
    balance=st.sampled_from(["none", "proportional", "uniform"]),
    data=st.data(),
)
def test_sizes_nest_and_follow_from_the_ranks_alone(labels, seed, balance, data):
    """What robust keeps is a beginning of the order of each class, at every size."""
    labels, rng = np.array(labels), np.random.default_rng(seed)
    embeds, p = unit_rows(len(labels), seed), rng.random(len(labels)).astype(np.float32) ** 3
    in_pool, ranks = safe_pool(p), np.empty(len(labels), dtype=np.int64)
    for label in np.unique(labels):
        of_class = np.flatnonzero(labels == label)
        ranks[of_class] = class_order(embeds[of_class], in_pool[of_class], p[of_class], seed)
    objective = resolve_objective("robust", {"class_balance": balance})
    flat = np.zeros(len(labels), dtype=np.float32)
    rows = RowColumns(labels, p < 0.5, flat, flat, flat, error_probability=p, class_rank=ranks)
    scores = selection_scores(objective, rows, 0.3)
    sizes = data.draw(st.lists(st.integers(1, len(labels)), min_size=1, max_size=5, unique=True))
    subsets = select_subsets([scores] * len(sizes), Candidates(labels), sizes, objective)
    assert [len(kept) for kept in subsets] == sizes
    by_size = sorted(subsets, key=len)
    for smaller, larger in zip(by_size, by_size[1:], strict=False):
        assert np.isin(smaller, larger).all()
    for kept in subsets:
        for label in np.unique(labels):
            of_class = kept[labels[kept] == label]
            assert sorted(ranks[of_class]) == list(range(len(of_class)))
