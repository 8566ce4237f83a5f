"""How many rows each class may keep."""

import numpy as np

from ..errors import InputError


CLASS_QUOTAS = ("proportional", "uniform")


def class_quotas(
    labels: np.ndarray,
    k: int,
    *,
    balance: str,
    num_classes: int,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
) -> np.ndarray:
    """Share k rows out among C classes by largest remainder; of equal remainders the lower class goes first.

    A class whose quota would leave its bounds gets the bound, and the rest is shared out anew among the others.
    Without `upper` the upper bounds are the class sizes. Largest remainder alone is not monotone (a class may lose a
    row as k grows), so for nested subsets `upper` takes the quotas of the next larger k; where those bind nothing,
    they change nothing.

    Takes labels `(num_rows,)`, integers in `[0, C)`, of which a class may be empty; k in `[0, num_rows]`; the balance,
    "proportional" to the class sizes or "uniform" over the classes that have rows; and bounds `(C,)`. Returns quotas
    `(C,)`, int64, that add up to k. Raises `InputError` for an unknown balance, or bounds that leave no room for k
    rows.
    """
    sizes = np.bincount(labels, minlength=num_classes)
    return quotas_of_sizes(sizes, k, balance=balance, lower=lower, upper=upper)


def quotas_of_sizes(
    sizes: np.ndarray, k: int, *, balance: str, lower: np.ndarray | None = None, upper: np.ndarray | None = None
) -> np.ndarray:
    """[`class_quotas`] where the class sizes `(C,)`, int64, are known, and the labels of the rows are not."""
    num_classes = len(sizes)
    high = sizes if upper is None else np.minimum(sizes, upper)
    low = np.zeros(num_classes, dtype=np.int64) if lower is None else lower
    if not low.sum() <= k <= high.sum() or (low > high).any():
        raise InputError(f"The number of rows to keep must lie in [{low.sum()}, {high.sum()}], got {k}.")
    weights = quota_weights(sizes, balance)
    quotas = np.zeros(num_classes, dtype=np.int64)
    open_classes = np.arange(num_classes)
    while len(open_classes):
        shares = largest_remainder(weights[open_classes], k - int(quotas.sum()))
        above, below = shares - high[open_classes], low[open_classes] - shares
        if max(above.max(), below.max()) <= 0:
            quotas[open_classes] = shares
            break
        # Classes above their upper bound, or those below their lower one, are settled first, whichever are off by more
        # rows: what they give or take then moves the others only towards bounds of that same side.
        too_many = above.clip(0).sum() >= below.clip(0).sum()
        settled, bounds = (above > 0, high) if too_many else (below > 0, low)
        quotas[open_classes[settled]] = bounds[open_classes[settled]]
        open_classes = open_classes[~settled]
    return quotas


def quota_weights(sizes: np.ndarray, balance: str) -> np.ndarray:
    """The weights `(num_classes,)` by which classes of these sizes share, int64; 0 for a class without rows.

    Raises `InputError` for an unknown balance.
    """
    if balance not in CLASS_QUOTAS:
        raise InputError(f"class_balance must be one of {', '.join(CLASS_QUOTAS)} to give quotas, got {balance!r}.")
    return (sizes if balance == "proportional" else sizes > 0).astype(np.int64)


def largest_remainder(weights: np.ndarray, total: int) -> np.ndarray:
    """Shares `(num_classes,)` of a total by weight, int64, in integer arithmetic so that equal remainders are equal.

    The weights `(num_classes,)` are integers of at least 0, not all of them 0 unless the total is.
    """
    if total == 0:
        return np.zeros(len(weights), dtype=np.int64)
    # Billions of rows in one class times billions to keep go beyond 64 bits; Python's integers have no bounds.
    wide = weights.astype(object) if int(weights.max()) * total >= 2**63 else weights
    products, divisor = wide * total, wide.sum()
    shares, remainders = (products // divisor).astype(np.int64), (products % divisor).astype(np.int64)
    by_remainder = np.argsort(-remainders, kind="stable")
    shares[by_remainder[: total - shares.sum()]] += 1
    return shares
