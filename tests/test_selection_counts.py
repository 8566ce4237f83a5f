import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.selection import check_ratios, column_suffix, selection_count


@pytest.mark.parametrize(
    ("ratio", "num_rows", "count"),
    [
        (0.29, 50_000, 14_500),  # 14499.999... in binary
        (0.29, 50, 15),  # 14.5 in decimals, below it in binary
        (0.125, 4, 1),
        (0.125, 12, 2),
        (0.1, 5, 1),
        (0.3, 1297, 389),
        (1.0, 7, 7),
        (1, 7, 7),
        (1e-5, 50_000, 1),
        (0.07, 1_281_167, 89_682),
    ],
)
def test_selection_count(ratio, num_rows, count):
    assert selection_count(ratio, num_rows) == count


def test_selection_count_of_a_narrow_float():
    assert selection_count(np.float32(0.3), 10**9) == 300_000_000


def test_a_count_of_zero_is_an_error():
    with pytest.raises(InputError, match="selection_ratio 0.01 of 49 rows keeps none"):
        selection_count(0.01, 49)


@pytest.mark.parametrize(
    ("ratio", "name"),
    [
        (0.3, "30"),
        (0.125, "12_5"),
        (0.001, "0_1"),
        (1.0, "100"),
        (1, "100"),
        (0.29, "29"),
        (1e-7, "0_00001"),
        (0.1, "10"),
    ],
)
def test_ratio_name(ratio, name):
    assert column_suffix(ratio) == name


@pytest.mark.parametrize(
    ("ratios", "checked"),
    [(0.3, (0.3,)), (1, (1.0,)), ([0.5, 0.2], (0.5, 0.2)), ((0.1,), (0.1,)), (np.array([0.1, 0.9]), (0.1, 0.9))],
)
def test_check_ratios_keeps_the_order(ratios, checked):
    assert check_ratios(ratios) == checked
    assert all(type(ratio) is float for ratio in check_ratios(ratios))


def test_check_ratios_reads_a_narrow_float_in_decimals():
    assert check_ratios(np.float32(0.3)) == (0.3,)


@pytest.mark.parametrize(
    "ratios", [0, 0.0, -0.1, 1.01, 30, float("nan"), float("inf"), True, "0.3", None, [0.2, "x"], [[0.2]]]
)
def test_check_ratios_rejects(ratios):
    with pytest.raises(InputError, match=r"\(0, 1\]"):
        check_ratios(ratios)


def test_check_ratios_rejects_none_and_twice():
    with pytest.raises(InputError, match="empty"):
        check_ratios([])
    with pytest.raises(InputError, match="0.3 more than once"):
        check_ratios([0.3, 0.5, 0.30])
