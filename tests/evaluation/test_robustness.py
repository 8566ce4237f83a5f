from decimal import Decimal

import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.evaluation.robustness import add_label_noise


@pytest.mark.parametrize(
    ("num_rows", "rate", "changed"),
    [(10, 0.2, 2), (10, 0.25, 3), (50, 0.29, 15), (1000, 0.0005, 1), (7, 0.0, 0), (3, 0.99, 3), (0, 0.5, 0)],
)
def test_exactly_that_many_rows_get_another_class(num_rows, rate, changed):
    # 0.29 * 50 = 14.5 in decimals rounds up, in binary it is 14.499999999999998.
    assert changed == int(Decimal(str(rate)) * num_rows + Decimal("0.5"))
    labels = np.arange(num_rows) % 4
    noisy = add_label_noise(labels, 4, rate=rate, seed=0)
    assert (noisy != labels).sum() == changed
    assert noisy.dtype == np.int64 and noisy.shape == labels.shape
    assert ((noisy >= 0) & (noisy < 4)).all()


def test_other_classes_and_rows_are_uniform():
    labels = np.repeat(np.arange(5), 20_000)
    noisy = add_label_noise(labels, 5, rate=0.4, seed=3)
    counts = np.zeros((5, 5), dtype=int)
    np.add.at(counts, (labels, noisy), 1)
    assert counts.sum() == 100_000 and np.trace(counts) == 60_000
    # 2,000 expected beside the diagonal and 12,000 on it; five standard deviations are about 220 and 350.
    assert abs(counts[~np.eye(5, dtype=bool)] - 2000).max() < 220
    assert abs(np.diag(counts) - 12_000).max() < 350


def test_two_classes_swap():
    labels = np.array([0, 1, 0, 1, 1, 1])
    noisy = add_label_noise(labels, 2, rate=0.5, seed=1)
    changed = noisy != labels
    assert changed.sum() == 3 and (noisy[changed] == 1 - labels[changed]).all()


def test_the_seed_decides():
    labels = np.arange(200) % 10
    first = add_label_noise(labels, 10, rate=0.3, seed=7)
    assert np.array_equal(first, add_label_noise(list(labels), 10, rate=0.3, seed=7))
    assert not np.array_equal(first, add_label_noise(labels, 10, rate=0.3, seed=8))


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_the_input_is_not_modified(rate):
    labels = np.arange(20) % 3
    copy = labels.copy()
    noisy = add_label_noise(labels, 3, rate=rate, seed=0)
    assert np.array_equal(labels, copy) and not np.shares_memory(noisy, labels)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32])
def test_narrow_integers_do_not_overflow(dtype):
    labels = np.full(400, 99, dtype=dtype)
    noisy = add_label_noise(labels, 100, rate=0.9, seed=0)
    assert noisy.dtype == np.int64 and noisy.min() >= 0 and noisy.max() <= 99


@pytest.mark.parametrize("rate", [-0.1, 1.0, 1.5, float("nan")])
def test_rate_out_of_range(rate):
    with pytest.raises(InputError, match=r"rate .*\[0, 1\)"):
        add_label_noise([0, 1], 2, rate=rate, seed=0)


def test_one_class_has_no_other():
    with pytest.raises(InputError, match="num_classes of at least 2, got 1"):
        add_label_noise([0, 0], 1, rate=0.5, seed=0)


@pytest.mark.parametrize("labels", [[0, 1, 3], [0, 1, -1]])
def test_labels_out_of_range(labels):
    with pytest.raises(InputError, match=rf"\[0, 3\), but row 2 has {labels[2]}"):
        add_label_noise(labels, 3, rate=0.5, seed=0)


@pytest.mark.parametrize("labels", [[0.0, 1.0], [[0, 1]], ["a", "b"], [True, False]])
def test_labels_of_another_kind(labels):
    with pytest.raises(InputError, match="vector of integers"):
        add_label_noise(labels, 3, rate=0.5, seed=0)
