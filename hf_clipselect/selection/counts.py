"""Sizes of subsets: ratios and counts, and the row counts and names that follow from them.

A size is a ratio (a float: the fraction of the rows to keep), a count (an int: their number), or "auto": as many rows
as have right labels, by the estimate of the wrong ones.
"""

from collections.abc import Callable, Sequence
from decimal import ROUND_FLOOR, Decimal
from math import isfinite
from typing import Any, Final, Literal, TypeGuard, TypeVar

import numpy as np

from ..errors import InputError
from ..runtime.words import counted


DEFAULT_RATIO = 0.3

AUTO: Final = "auto"

Ratio = float | Literal["auto"]
Size = float | int | Literal["auto"]

_Checked = TypeVar("_Checked", bound=Size)


def check_sizes(
    ratios: Ratio | Sequence[Ratio] | None = None, counts: int | Sequence[int] | None = None
) -> tuple[Size, ...]:
    """The sizes that a caller asks for: the ratios, as floats in `(0, 1]` or "auto", then the counts, as ints of at
    least 1, in the orders given. Without either it is the ratio 0.3.

    Raises `InputError` where there is none, one comes twice, is neither a number nor "auto", or out of range.
    """
    return _checked_sizes(ratios, counts, _check_ratio_or_auto)


def check_numbers(
    ratios: float | Sequence[float] | None = None, counts: int | Sequence[int] | None = None
) -> tuple[float | int, ...]:
    """The same as `check_sizes` where labels are not judged: "auto" is an error as any other word."""
    return _checked_sizes(ratios, counts, _check_ratio)


def check_ratios(ratios: float | Sequence[float]) -> tuple[float, ...]:
    """One or several selection ratios as floats, in the order given; "auto" is none of them.

    Raises `InputError` where there is none, or one comes twice, is not a number or lies outside `(0, 1]`.
    """
    return _check_each(ratios, "selection_ratio", _check_ratio)


def selection_count(size: float, num_rows: int) -> int:
    """Number of rows k, in `[1, num_rows]`, that a size keeps: a count itself, of a ratio as written in decimals
    `floor(ratio * N + 0.5)`. What "auto" keeps follows from the rows, see `resolved_count`.

    Raises `InputError` where the ratio is not in `(0, 1]` or so small that it keeps no row, or there are fewer rows
    than the count; `TypeError` for "auto".
    """
    if isinstance(size, str):
        raise TypeError(f"selection_count takes a number, got {size!r}; resolved_count takes every size.")
    if is_count(size):
        if _check_count(size) > num_rows:
            raise InputError(
                f"--selection_count {size} is more than there are, {counted(num_rows, 'row')}; give at most "
                f"{num_rows}."
            )
        return int(size)
    count = round_half_up(_check_ratio(size), num_rows)
    if count == 0:
        raise InputError(f"--selection_ratio {size} of {counted(num_rows, 'row')} keeps none; give a larger ratio.")
    return count


def is_count(size: Size) -> TypeGuard[int]:
    """Whether a size is a number of rows, not a fraction of them."""
    return isinstance(size, (int, np.integer)) and not isinstance(size, bool)


def config_name(size: Size) -> str:
    """The config that holds the subset of a size: 0.3 -> "ratio_30", 0.125 -> "ratio_12_5", "auto" -> "ratio_auto",
    500 -> "count_500".

    Raises `InputError` for a size that is out of range, as [`column_suffix`] does.
    """
    suffix = column_suffix(size)
    return suffix if is_count(size) else f"ratio_{suffix}"


def column_suffix(size: Size) -> str:
    """What the columns of a size end in: 0.3 -> "30" as in `selected_30`, 0.125 -> "12_5", "auto" -> "auto", 500 ->
    "count_500".
    """
    if isinstance(size, str):
        return str(_check_ratio_or_auto(size))
    if is_count(size):
        return f"count_{_check_count(size)}"
    percent = f"{Decimal(str(_check_ratio(size))) * 100:f}"
    return (percent.rstrip("0").rstrip(".") if "." in percent else percent).replace(".", "_")


def round_half_up(fraction: float, count: int) -> int:
    """`floor(fraction * count + 0.5)` in decimals, because in binary 0.29 * 50 is just below its half."""
    return int((Decimal(str(fraction)) * count + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def _checked_sizes(ratios: Any, counts: Any, check: Callable[[Any], _Checked]) -> tuple[_Checked | int, ...]:
    checked = _check_each(DEFAULT_RATIO, "selection_ratio", check) if ratios is None and counts is None else ()
    if ratios is not None:
        checked = _check_each(ratios, "selection_ratio", check)
    return checked if counts is None else (*checked, *_check_each(counts, "selection_count", _check_count))


def _check_each(sizes: Any, name: str, check: Callable[[Any], _Checked]) -> tuple[_Checked, ...]:
    several = isinstance(sizes, (list, tuple)) or (isinstance(sizes, np.ndarray) and sizes.ndim == 1)
    checked = tuple(check(size) for size in (sizes if several else [sizes]))
    if not checked:
        example = "number in (0, 1], e.g. 0.3" if name == "selection_ratio" else "whole number, e.g. 500"
        raise InputError(f"--{name} is empty; give at least one {example}.")
    for size in checked:
        if checked.count(size) > 1:
            raise InputError(f"--{name} names {size} more than once; give each once.")
    return checked


def _check_ratio_or_auto(ratio: Any) -> Ratio:
    return AUTO if isinstance(ratio, str) and ratio == AUTO else _check_ratio(ratio, 'a number in (0, 1] or "auto"')


def _check_ratio(ratio: float, expected: str = "a number in (0, 1]") -> float:
    if isinstance(ratio, (bool, np.bool_)) or not isinstance(ratio, (int, float, np.integer, np.floating)):
        raise InputError(f"--selection_ratio must be {expected}, got {ratio!r}.")
    value = float(str(ratio))  # through its decimals, so that a float32 0.3 is 0.3
    if not isfinite(value) or not 0 < value <= 1:
        raise InputError(f"--selection_ratio is the fraction of rows to keep and must lie in (0, 1], got {ratio}.")
    return value


def _check_count(count: int) -> int:
    if not is_count(count) or count < 1:
        raise InputError(
            f"--selection_count is the number of rows to keep and must be an integer of at least 1, got {count!r}."
        )
    return int(count)
