import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.selection import class_quotas, quotas_of_sizes


def quotas(sizes, k, balance="proportional", upper=None):
    labels = np.repeat(np.arange(len(sizes)), sizes)
    upper = None if upper is None else np.array(upper)
    return class_quotas(labels, k, balance=balance, num_classes=len(sizes), upper=upper).tolist()


@pytest.mark.parametrize(
    ("sizes", "k", "expected"),
    [
        ([50, 30, 20], 10, [5, 3, 2]),
        ([5, 3, 2], 5, [3, 1, 1]),  # 2.5, 1.5, 1: equal remainders, the lower class
        ([7, 2, 1], 4, [3, 1, 0]),  # 2.8, .8, .4
        ([10, 10, 10], 4, [2, 1, 1]),
        ([4, 0, 4], 8, [4, 0, 4]),
        ([3, 3], 0, [0, 0]),
    ],
)
def test_proportional_by_hand(sizes, k, expected):
    assert quotas(sizes, k) == expected


@pytest.mark.parametrize(
    ("sizes", "k", "expected"),
    [
        ([100, 100, 100], 10, [4, 3, 3]),
        ([10, 100, 100], 100, [10, 45, 45]),  # the 24 that class 0 lacks are shared by the others
        ([1, 5, 100, 100], 50, [1, 5, 22, 22]),
        ([1, 20, 100], 90, [1, 20, 69]),  # class 1 overflows only once class 0 has passed on its share
        ([0, 4, 0, 4], 5, [0, 3, 0, 2]),
        ([0, 9], 1, [0, 1]),
        ([2, 3], 5, [2, 3]),
    ],
)
def test_uniform_by_hand(sizes, k, expected):
    assert quotas(sizes, k, "uniform") == expected


def test_upper_binds_a_class_and_passes_its_rows_on():
    assert quotas([50, 30, 20], 10, upper=[3, 30, 20]) == [3, 4, 3]
    assert quotas([50, 30, 20], 10, upper=[5, 3, 2]) == [5, 3, 2]


def test_upper_that_binds_nothing_changes_nothing():
    # 4.2 of class 0 is above its bound of 4, but largest remainder gives it no more than 4 anyway.
    assert quotas([42, 29, 29], 10) == [4, 3, 3]
    assert quotas([42, 29, 29], 10, upper=[4, 29, 29]) == [4, 3, 3]


@pytest.mark.parametrize("balance", ["proportional", "uniform"])
def test_exact_total_within_the_classes(balance):
    rng = np.random.default_rng(0)
    for _ in range(300):
        sizes = rng.integers(0, 40, size=rng.integers(1, 12))
        k = int(rng.integers(0, sizes.sum() + 1))
        result = np.array(quotas(sizes, k, balance))
        assert result.sum() == k
        assert (result >= 0).all()
        assert (result <= sizes).all()
        if balance == "proportional" and k:
            assert (np.abs(result - k * sizes / sizes.sum()) < 1).all()
        elif k:  # no class with room has two rows less than another
            assert (result.max() - result[result < sizes] <= 1).all()


def test_rejects_an_unknown_balance_and_too_many_rows():
    with pytest.raises(InputError, match="proportional, uniform .* got 'none'"):
        quotas([2, 2], 2, "none")
    with pytest.raises(InputError, match=r"\[0, 4\], got 5"):
        quotas([2, 2], 5)
    with pytest.raises(InputError, match=r"\[0, 3\], got 4"):
        quotas([2, 2], 4, upper=[1, 2])


def test_billions_of_rows_do_not_overflow():
    sizes = np.array([4 * 10**9, 6 * 10**9, 7])
    assert quotas_of_sizes(sizes, 3 * 10**9, balance="proportional").tolist() == [1_199_999_999, 1_799_999_999, 2]
