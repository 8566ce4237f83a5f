"""Folds for scores out of the sample: each row is scored by what was learnt from the other folds' labels."""

import numpy as np

from .arrays import Array, checked_labels
from .errors import InputError


def fold_numbers(labels: Array, num_folds: int, *, seed: int) -> np.ndarray:
    """Share the rows out among stratified folds.

    Both the folds and the parts of any class in them differ by at most one row, so a class of two rows or more is never in one
    fold alone. Which rows go together is drawn with the seed, whatever order the rows have otherwise.

    Args:
        labels (`np.ndarray` or `torch.Tensor` of shape `(num_rows,)`): Given classes, integers of 0 or more.
        num_folds (`int`): Number of folds, from 2 to `num_rows`.
        seed (`int`): Seed of the draw.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: Fold of each row, int64, in `[0, num_folds)`.

    Raises:
        InputError: The labels are no vector of integers of 0 or more, or `num_folds` is out of range.

    Example:

    ```python
    >>> fold_numbers(np.array([0, 0, 0, 0, 1, 1]), 2, seed=0)
    array([1, 0, 0, 1, 1, 0])
    ```
    """
    labels = checked_labels(labels, num_rows=len(labels))
    check_num_folds(num_folds, len(labels))
    order = np.random.default_rng([seed, 2]).permutation(len(labels))  # another stream than batches and held-out rows
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    # Dealt out one by one through all classes: where one class leaves off the next goes on, or fold 0 would get all odd rows.
    folds[order] = np.arange(len(labels)) % num_folds
    return folds


def check_num_folds(num_folds: int, num_rows: int) -> None:
    """Raise `InputError` where rows can't be shared out among so many folds."""
    if isinstance(num_folds, bool) or not isinstance(num_folds, int) or not 2 <= num_folds <= num_rows:
        raise InputError(
            f"--num_folds must be a whole number from 2 to the number of rows, {num_rows}, got {num_folds!r}; 5 is usual."
        )
