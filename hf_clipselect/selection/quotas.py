"""How many rows each class may keep."""

import numpy as np

from ..errors import InputError


CLASS_QUOTAS = ("proportional", "uniform")


def class_quotas(
    labels: np.ndarray, k: int, *, balance: str, num_classes: int, upper: np.ndarray | None = None
) -> np.ndarray:
    """Share k rows out among the classes by largest remainder; of equal remainders the lower class goes first.

    A class whose quota would exceed its bound gets the bound, and the rest is shared out anew among the others.
    Without `upper` the bounds are the class sizes. Largest remainder alone is not monotone (a class may lose a row as
    k grows), so for nested subsets `upper` takes the quotas of the next larger k; where those bind nothing, they
    change nothing.

    Args:
        labels (`np.ndarray` of shape `(num_rows,)`): Integer classes in `[0, num_classes)`.
        k (`int`): Rows to keep in all, in `[0, num_rows]`.
        balance (`str`): "proportional" to the class sizes, or "uniform" over the classes that have rows.
        num_classes (`int`): Number of classes C; a class may be empty.
        upper (`np.ndarray` of shape `(num_classes,)`, *optional*): Tighter bounds than the class sizes.

    Returns:
        `np.ndarray` of shape `(num_classes,)`: Quotas, int64, that add up to k.

    Raises:
        InputError: The balance is unknown, or the bounds leave no room for k rows.
    """
    if balance not in CLASS_QUOTAS:
        raise InputError(f"class_balance must be one of {', '.join(CLASS_QUOTAS)} to give quotas, got {balance!r}.")
    sizes = np.bincount(labels, minlength=num_classes)
    bounds = sizes if upper is None else np.minimum(sizes, upper)
    if not 0 <= k <= bounds.sum():
        raise InputError(f"The number of rows to keep must lie in [0, {bounds.sum()}], got {k}.")
    weights = sizes if balance == "proportional" else np.ones(num_classes, dtype=np.int64)
    quotas = np.zeros(num_classes, dtype=np.int64)
    open_classes = np.arange(num_classes)
    while len(open_classes):
        shares = _largest_remainder(weights[open_classes], k - int(quotas.sum()))
        full = shares > bounds[open_classes]
        if not full.any():
            quotas[open_classes] = shares
            break
        quotas[open_classes[full]] = bounds[open_classes[full]]
        open_classes = open_classes[~full]
    return quotas


def _largest_remainder(weights: np.ndarray, total: int) -> np.ndarray:
    """Integer shares of `total` by weight, in integer arithmetic so that equal remainders are equal."""
    if total == 0:
        return np.zeros(len(weights), dtype=np.int64)
    shares, remainders = np.divmod(weights.astype(np.int64) * total, weights.sum())
    by_remainder = np.argsort(-remainders, kind="stable")
    shares[by_remainder[: total - shares.sum()]] += 1
    return shares
