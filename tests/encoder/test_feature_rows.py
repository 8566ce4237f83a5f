"""Rows in several parts answer as one array would."""

import numpy as np
import pytest

from hf_clipselect.encoder.feature_rows import FeatureRows


@pytest.fixture
def array():
    return np.arange(60, dtype=np.float32).reshape(20, 3)


@pytest.mark.parametrize("cuts", [[], [8, 16], [1], [7, 8, 9]])
def test_any_rows_in_any_order(array, cuts):
    features = FeatureRows(np.split(array, cuts))
    assert (len(features), features.hidden_size) == (20, 3)
    rng = np.random.default_rng(0)
    for rows in (np.arange(20), np.arange(5, 9), rng.integers(0, 20, 50), rng.permutation(20), np.array([], np.int64)):
        taken = features.take(rows)
        assert np.array_equal(taken, array[rows]) and taken.dtype == np.float32
    taken = features.take(np.array([3]))
    taken[:] = -1
    assert array.min() == 0  # a copy


def test_subsets_of_subsets(array):
    features = FeatureRows(np.split(array, [8, 16]))
    odd = features.subset(np.arange(1, 20, 2))
    few = odd.subset(np.array([9, 0]))
    assert (len(odd), len(few), few.hidden_size) == (10, 2, 3)
    assert np.array_equal(odd.take(np.array([2, 8])), array[[5, 17]])
    assert np.array_equal(few.take(np.array([0, 1, 0])), array[[19, 1, 19]])
