import numpy as np
import pytest

from hf_clipselect.errors import InputError
from hf_clipselect.selection import (
    AUTO,
    check_numbers,
    check_ratios,
    check_sizes,
    column_suffix,
    config_name,
    is_count,
    selection_count,
)


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
        (1, 7, 1),
        (7, 7, 7),
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
        (1, "count_1"),
        (500, "count_500"),
        (0.29, "29"),
        (1e-7, "0_00001"),
        (0.1, "10"),
    ],
)
def test_column_suffix(ratio, name):
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


def test_names_of_configs():
    assert column_suffix(AUTO) == "auto"
    assert [config_name(size) for size in (AUTO, 0.3, 0.125, 1.0, 500, 1)] == [
        "ratio_auto",
        "ratio_30",
        "ratio_12_5",
        "ratio_100",
        "count_500",
        "count_1",
    ]


def test_sizes_are_ratios_then_counts():
    assert check_sizes() == (0.3,)
    assert check_sizes(1) == (1.0,)
    assert not is_count(check_sizes(1)[0])
    assert check_sizes(counts=500) == (500,)
    assert check_sizes([0.5, 0.2], np.array([7, 3])) == (0.5, 0.2, 7, 3)
    assert [is_count(size) for size in check_sizes(1.0, 1)] == [False, True]


def test_auto_is_a_size_like_a_ratio():
    assert check_sizes("auto") == (AUTO,) and not is_count(AUTO)
    assert check_sizes(np.str_("auto")) == (AUTO,) and type(check_sizes([np.str_("auto")])[0]) is str
    assert check_sizes([0.3, "auto", 0.5], 7) == (0.3, "auto", 0.5, 7)
    assert check_sizes(("auto",), [7, 5]) == ("auto", 7, 5)
    with pytest.raises(InputError, match="auto more than once"):
        check_sizes(["auto", 0.3, "auto"])
    with pytest.raises(InputError, match=r"""must be a number in \(0, 1\] or "auto", got 'all'"""):
        check_sizes([0.3, "all"])
    for name_of in (column_suffix, config_name):
        with pytest.raises(InputError, match="got 'all'"):
            name_of("all")


def test_auto_is_no_number():
    assert check_numbers() == (0.3,) and check_numbers([0.5], 7) == (0.5, 7)
    for check in (check_numbers, check_ratios):
        with pytest.raises(InputError, match=r"must be a number in \(0, 1\], got 'auto'"):
            check("auto")
    with pytest.raises(TypeError, match="takes a number, got 'auto'"):
        selection_count(AUTO, 10)


@pytest.mark.parametrize("counts", [0, -1, 2.0, 0.5, True, "5", [3, None]])
def test_check_sizes_rejects_what_is_no_count(counts):
    with pytest.raises(InputError, match="selection_count is the number of rows to keep"):
        check_sizes(counts=counts)


def test_check_sizes_rejects_none_and_twice():
    with pytest.raises(InputError, match="selection_count is empty"):
        check_sizes(0.3, [])
    with pytest.raises(InputError, match="5 more than once"):
        check_sizes(None, [5, 7, 5])


def test_more_rows_than_there_are():
    assert selection_count(7, 7) == 7
    with pytest.raises(InputError, match="selection_count 8 is more than there are, 7 rows"):
        selection_count(8, 7)
