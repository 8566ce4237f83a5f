"""Ratios, and the row counts and names that follow from them."""

from collections.abc import Sequence
from decimal import ROUND_FLOOR, Decimal
from math import isfinite

import numpy as np

from ..errors import InputError


def check_ratios(ratios: float | Sequence[float]) -> tuple[float, ...]:
    """Check one or several selection ratios.

    Args:
        ratios (`float` or `Sequence[float]`): Fractions of the rows to keep, each in `(0, 1]`, none twice.

    Returns:
        `tuple[float, ...]`: The ratios in the order given.

    Raises:
        InputError: There is none, one comes twice, is not a number or lies outside `(0, 1]`.
    """
    several = isinstance(ratios, (list, tuple)) or (isinstance(ratios, np.ndarray) and ratios.ndim == 1)
    checked = tuple(_check_ratio(ratio) for ratio in (ratios if several else [ratios]))
    if not checked:
        raise InputError("selection_ratio is empty; give at least one number in (0, 1], e.g. 0.3.")
    for ratio in checked:
        if checked.count(ratio) > 1:
            raise InputError(f"selection_ratio names {ratio} more than once; give each ratio once.")
    return checked


def selection_count(ratio: float, num_rows: int) -> int:
    """Number of rows that a ratio keeps: `floor(ratio * num_rows + 0.5)` on the ratio as written in decimals.

    Args:
        ratio (`float`): Fraction of the rows to keep, in `(0, 1]`.
        num_rows (`int`): Number of rows N.

    Returns:
        `int`: The count k, in `[1, num_rows]`.

    Raises:
        InputError: The ratio is not in `(0, 1]`, or so small that it keeps no row.
    """
    count = round_half_up(_check_ratio(ratio), num_rows)
    if count == 0:
        raise InputError(f"selection_ratio {ratio} of {num_rows} rows keeps none; give a larger ratio.")
    return count


def ratio_name(ratio: float) -> str:
    """A ratio as decimal percent for names of configs and columns, "_" for the point: 0.3 -> "30", 0.125 -> "12_5".

    Args:
        ratio (`float`): Fraction of the rows to keep, in `(0, 1]`.

    Returns:
        `str`: The percentage without trailing zeros.

    Raises:
        InputError: The ratio is not in `(0, 1]`.
    """
    percent = f"{Decimal(str(_check_ratio(ratio))) * 100:f}"
    return (percent.rstrip("0").rstrip(".") if "." in percent else percent).replace(".", "_")


def round_half_up(fraction: float, count: int) -> int:
    """`floor(fraction * count + 0.5)` in decimals, because in binary 0.29 * 50 is just below its half.

    Args:
        fraction (`float`): Any finite number, taken as it prints.
        count (`int`): What it is a fraction of.

    Returns:
        `int`: The rounded product.
    """
    return int((Decimal(str(fraction)) * count + Decimal("0.5")).to_integral_value(ROUND_FLOOR))


def _check_ratio(ratio: float) -> float:
    if isinstance(ratio, (bool, np.bool_)) or not isinstance(ratio, (int, float, np.integer, np.floating)):
        raise InputError(f"selection_ratio must be a number in (0, 1], got {ratio!r}.")
    value = float(str(ratio))  # through its decimals, so that a float32 0.3 is 0.3
    if not isfinite(value) or not 0 < value <= 1:
        raise InputError(f"selection_ratio is the fraction of rows to keep and must lie in (0, 1], got {ratio}.")
    return value
