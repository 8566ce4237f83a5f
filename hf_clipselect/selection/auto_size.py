"""How many rows the size "auto" keeps: those whose labels are right, by the estimate of their errors.

Legend: N rows, C cells (the classes, or the groups, that quotas are for).
"""

import numpy as np


# A probability is a multiple of 1 / _UNITS. Sums of up to 2^31 rows stay within int64, and do not round.
_UNITS = 2**32
# No cell keeps less than one row of so many.
LEAST_SHARE = 10


def auto_counts(error_probability: np.ndarray, cells: np.ndarray, num_cells: int) -> np.ndarray:
    """The estimated number of right rows of each cell, `(C,)`, int64, but at least a tenth of its rows, rounded up.

    The estimate is the sum of 1 - p over the rows of the cell. The sums of all cells are rounded together by largest
    remainder, so that they add up to `floor(sum + 0.5)` before the tenths are ensured; of equal remainders the lower
    cell goes first. They are summed as integers, so that the order of the rows changes nothing.

    Takes p, `(N,)`, in [0, 1], the probability that the label of a row is wrong, and cells, `(N,)`, integers in
    `[0, C)`, of which one may have no row.
    """
    right = np.zeros(num_cells, dtype=np.int64)
    units = np.rint(np.asarray(error_probability, dtype=np.float64) * _UNITS).astype(np.int64)
    np.add.at(right, cells, _UNITS - units)
    counts, remainders = np.divmod(right, _UNITS)
    total = (int(right.sum()) + _UNITS // 2) // _UNITS
    by_remainder = np.argsort(-remainders, kind="stable")
    counts[by_remainder[: total - int(counts.sum())]] += 1
    least = -(-np.bincount(cells, minlength=num_cells) // LEAST_SHARE)
    return np.maximum(counts, least)
