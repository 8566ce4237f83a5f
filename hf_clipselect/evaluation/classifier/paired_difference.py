"""How much better one set of training rows is than another, and how uncertain that is.

Shapes: S seeds, N test rows, K comparisons.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # the quantiles of Student's t, without the checks of scipy.stats

from ...errors import InputError


# How probable it may be that a difference is claimed where there is none.
LEVEL = 0.05


@dataclass(frozen=True)
class PairedDifference:
    """Difference of two accuracies, as fractions.

    Args:
        difference (`float`): The first minus the second, in [-1, 1].
        of_test_rows (`float`): Standard error that comes from the choice of the test rows.
        of_seeds (`float`, *optional*): Standard error that comes from the seeds; `None` for one seed, which tells
            nothing of others.
        num_seeds (`int`), num_test_rows (`int`): S and N.
    """

    difference: float
    of_test_rows: float
    of_seeds: float | None
    num_seeds: int
    num_test_rows: int

    @property
    def standard_error(self) -> float:
        """Both parts, added in squares; for one seed that of the test rows alone, which is too small."""
        return float(np.hypot(self.of_test_rows, self.of_seeds or 0.0))

    def is_clear(self, level: float = LEVEL) -> bool:
        """Whether the difference is told from none, two-sided at a level.

        Each part of the error counts as often as Student's t says, by N - 1 and S - 1 degrees of freedom, and both are
        added in squares: two standard errors of three seeds would claim too much. Nothing is told by one seed, since
        others may differ by any amount, nor without any error, where all differences are one.
        """
        if self.of_seeds is None:
            return False
        quantile = 1 - level / 2
        bound = np.hypot(
            stdtrit(self.num_test_rows - 1, quantile) * self.of_test_rows,
            stdtrit(self.num_seeds - 1, quantile) * self.of_seeds,
        )
        return bool(abs(self.difference) > bound > 0)


def clear_differences(differences: Sequence[PairedDifference]) -> list[bool]:
    """Which differences are told from none together: with Holm's correction for how many there are.

    What is clear at `LEVEL` / K is claimed; if that is one at least, what is clear at `LEVEL` / (K - 1); if two, what
    is at `LEVEL` / (K - 2), and so on (Holm 1979, https://www.jstor.org/stable/4615733). It goes by levels and not by
    p-values, since a bound that adds two quantiles has no formula for these.

    Args:
        differences (`Sequence[PairedDifference]`): All that are looked at, whatever depends on what.

    Returns:
        `list[bool]` of length K: Any is claimed where there is none with a probability of `LEVEL` at most.
    """
    clear = [False] * len(differences)
    for remaining in range(len(differences), 0, -1):
        clear = [difference.is_clear(LEVEL / remaining) for difference in differences]
        if sum(clear) <= len(differences) - remaining:
            break
    return clear


def paired_difference(first: np.ndarray, second: np.ndarray) -> PairedDifference:
    """Compare trainings of which each seed made two, both tested on the same rows.

    Both trainings of a seed begin with the same weights, and both meet the same test rows. What a seed or a test row
    does to both of them cancels in their difference, so the errors are taken of differences and not of accuracies:

    - of seeds: the difference of each seed over all test rows; the standard deviation of the S of them (with S - 1)
      over sqrt(S). For rows that are drawn anew for each seed it holds the draw too.
    - of test rows: the difference of each test row over all seeds; the standard deviation of the N of them (with
      N - 1) over sqrt(N).

    They answer for two draws that are independent of each other, another set of seeds and another set of test rows,
    so their squares add. What varies with seed and row together is in both: the sum errs to the large side.

    Args:
        first, second (`np.ndarray` of shape `(S, N)`, bool): Whether each training is right on each test row.

    Returns:
        [`PairedDifference`]

    Raises:
        InputError: The shapes differ, or there is no seed or fewer than two test rows.
    """
    if first.shape != second.shape or first.ndim != 2 or first.shape[0] < 1 or first.shape[1] < 2:
        raise InputError(
            f"Expected two arrays of the same shape, at least 1 seed x 2 test rows, got {first.shape} and "
            f"{second.shape}."
        )
    difference = first.astype(np.float64) - second.astype(np.float64)
    return PairedDifference(
        float(difference.mean()),
        _standard_error(difference.mean(axis=0)),
        _standard_error(difference.mean(axis=1)) if len(difference) > 1 else None,
        *difference.shape,
    )


def _standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / np.sqrt(len(values)))
