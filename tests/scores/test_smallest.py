import numpy as np
import pytest
import torch

from hf_clipselect.scores import smallest
from hf_clipselect.scores.smallest import mean_of_smallest


NUM_COLUMNS = 2000


def row_kinds(seed=0):
    """Rows of distances of many shapes, among them some that no guess can follow."""
    rng = np.random.default_rng(seed)
    normal = rng.normal(1.3, 0.05, (20, NUM_COLUMNS))
    rows = [
        *normal,
        *rng.uniform(0, 2, (20, NUM_COLUMNS)),
        *np.where(rng.random((20, NUM_COLUMNS)) < 0.06, 0.4, normal),  # a near group, all at one distance
        *np.where(rng.random((20, NUM_COLUMNS)) < 0.4, 0.0, normal),  # duplicates
        *np.sort(normal, axis=1),
        *np.sort(normal, axis=1)[:, ::-1],
        *rng.beta(0.1, 0.1, (20, NUM_COLUMNS)),
        *(rng.normal(0.9, 1e-7, (20, NUM_COLUMNS))),
        np.full(NUM_COLUMNS, 0.7),
        np.zeros(NUM_COLUMNS),
        np.full(NUM_COLUMNS, 2.0),
        np.repeat([0.5, 1.5], NUM_COLUMNS // 2),
    ]
    distances = np.clip(rows, 0, 2).astype(np.float32)
    distances[distances < 1e-4] = 0
    distances[np.arange(len(distances)), rng.integers(NUM_COLUMNS, size=len(distances))] = np.inf
    return distances


@pytest.mark.parametrize("k", [1, 20, 50, 101, 200, 1000, 1900, 1998, 1999])
def test_means_are_those_of_sorted_rows(k):
    distances = row_kinds()
    smallest_first = np.sort(distances.astype(np.float64), axis=1)[:, :k]
    allowed = 4e-6 * smallest_first[:, -1] + 1e-6 * smallest_first.mean(axis=1)
    means = mean_of_smallest(distances, k)
    assert means.dtype == np.float32
    assert (np.abs(means - smallest_first.mean(axis=1)) <= allowed).all()


@pytest.mark.parametrize(("passes", "open_share"), [(1, 0), (2, 0), (3, 0), (30, 0), (8, 1)])
def test_a_mean_is_right_wherever_the_search_stops(passes, open_share, monkeypatch):
    monkeypatch.setattr(smallest, "_MAX_PASSES", passes)
    monkeypatch.setattr(smallest, "_OPEN_SHARE", open_share)
    distances = row_kinds(1)
    expected = np.sort(distances.astype(np.float64), axis=1)[:, :200].mean(axis=1)
    np.testing.assert_allclose(mean_of_smallest(distances, 200), expected, rtol=6e-6, atol=1e-7)


def test_few_passes_close_rows_of_usual_shapes(monkeypatch):
    """What makes it fast: hardly a row is sorted."""
    rng = np.random.default_rng(0)
    for distances in (rng.normal(1.3, 0.05, (200, 5000)), rng.uniform(0.5, 1.5, (200, 5000))):
        brackets = smallest._brackets(distances.astype(np.float32), 500, smallest._CountBelow(*distances.shape))
        assert np.count_nonzero(brackets.is_open()) <= 200 / 16


def test_counts_are_of_each_row():
    distances = row_kinds()
    brackets = smallest._brackets(distances, 200, smallest._CountBelow(*distances.shape))
    found = brackets.low > 0
    np.testing.assert_array_equal(brackets.below_low[found], (distances < brackets.low[:, None]).sum(axis=1)[found])
    assert (brackets.below_low <= 200).all()
    assert (brackets.below_high >= 200).all()


@pytest.mark.parametrize("k", [1, 50, 700])
def test_topk_and_partition_agree(k):
    distances = row_kinds()
    by_topk = smallest.smallest(torch.from_numpy(distances), k).sort(dim=1).values.numpy()
    by_partition = np.sort(smallest.smallest(distances.copy(), k), axis=1)
    np.testing.assert_array_equal(by_topk, by_partition)
    np.testing.assert_allclose(
        mean_of_smallest(torch.from_numpy(distances), k), mean_of_smallest(distances, k), rtol=6e-6, atol=1e-7
    )
