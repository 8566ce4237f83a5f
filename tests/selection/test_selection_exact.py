import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.selection import top_k


def by_sorting(scores, k):
    return np.sort(np.argsort(-scores, kind="stable")[:k])


FAMILIES = {
    "continuous": lambda rng, size: rng.normal(size=size),
    "tied": lambda rng, size: rng.integers(4, size=size).astype(float),
    "constant": lambda rng, size: np.full(size, 0.7),
    "signed zeros": lambda rng, size: rng.choice([-0.0, 0.0, 1.0, -1.0], size=size),
    "tiny": lambda rng, size: rng.integers(-9, 10, size=size) * 1e-45,  # below what float32 holds at full precision
    "rising": lambda rng, size: np.linspace(-1, 1, size),
}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_a_stable_sort(family, dtype):
    rng = np.random.default_rng(0)
    for size in [1, 2, 3, 5, 17, 100, 1000, 10_000]:
        scores = FAMILIES[family](rng, size).astype(dtype)
        for k in {0, 1, size // 50, size // 3, size // 2, size - 1, size}:
            rows = top_k(scores, k)
            assert rows.dtype == np.int64
            np.testing.assert_array_equal(rows, by_sorting(scores, k))


def test_ties_go_to_the_lower_row_by_hand():
    scores = np.array([0.5, 0.9, 0.5, 0.1, 0.5])
    assert top_k(scores, 3).tolist() == [0, 1, 2]
    assert top_k(np.array([-0.0, 0.0, -0.0]), 2).tolist() == [0, 1]


def test_scores_are_left_alone():
    scores = np.array([3.0, 1.0, 2.0])
    top_k(scores, 1)
    assert scores.tolist() == [3.0, 1.0, 2.0]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_rejects_what_cannot_be_ranked(bad):
    with pytest.raises(InputError, match="in row 2"):
        top_k(np.array([1.0, 2.0, bad, bad]), 1)


@pytest.mark.parametrize("k", [-1, 4])
def test_rejects_a_count_out_of_range(k):
    with pytest.raises(InputError, match=rf"\[0, 3\], got {k}"):
        top_k(np.zeros(3), k)


def test_rejects_a_matrix():
    with pytest.raises(InputError, match=r"shape \(2, 2\)"):
        top_k(np.zeros((2, 2)), 1)
