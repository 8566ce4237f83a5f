"""Folds for scores out of the sample: each row is scored by what was learnt from the other folds' labels."""

import numpy as np

from ..errors import InputError
from .arrays import Array, as_numpy, checked_labels, row_blocks


def fold_numbers(labels: Array, num_folds: int, *, seed: int) -> np.ndarray:
    """Share the rows out among stratified folds: the fold of each row, `(num_rows,)`, int64, in `[0, num_folds)`.

    Both the folds and the parts of any class in them differ by at most one row, so a class of two rows or more is
    never in one fold alone. Which rows go together is drawn with the seed, whatever order the rows have otherwise.
    Raises `InputError` where the labels are no vector of integers of 0 or more, or `num_folds` is not in `[2,
    num_rows]`.
    """
    labels = checked_labels(labels, num_rows=len(labels))
    check_num_folds(num_folds, len(labels))
    order = np.random.default_rng([seed, 2]).permutation(len(labels))  # another stream than batches and held-out rows
    order = order[np.argsort(labels[order], kind="stable")]
    folds = np.empty(len(labels), dtype=np.int64)
    # Dealt out one by one through all classes in turn; if each class began at fold 0, that would get all odd rows.
    folds[order] = np.arange(len(labels)) % num_folds
    return folds


def content_order(embeds: Array, labels: np.ndarray, *, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An order that follows from labels and embeddings alone, for folds and sums that don't depend on the given order.

    The rows of a class are ordered along a direction that is drawn with the seed. Takes embeddings `(num_rows,
    embed_dim)` from [`checked_embeds`], and int64 labels `(num_rows,)`. Returns int64 arrays: row numbers in that
    order, by classes, `(num_rows,)`; and the places in it at which a row differs from the one before, rising from 0.
    """
    # Another stream than those of batches and held-out rows.
    direction = np.random.default_rng([seed, 2]).normal(size=embeds.shape[1])
    along = np.empty(len(labels))
    for block in row_blocks(len(labels), width=2 * embeds.shape[1]):
        # Not a matrix product, whose last digits depend on a row's place in the block.
        along[block] = (as_numpy(embeds[block]) * direction).sum(axis=1)
    order = np.lexsort((along, labels))
    changes = (np.diff(along[order]) != 0) | (np.diff(labels[order]) != 0)
    return order, np.concatenate([[0], np.flatnonzero(changes) + 1])


def check_num_folds(num_folds: int, num_rows: int) -> None:
    """Raise `InputError` where rows can't be shared out among so many folds."""
    if isinstance(num_folds, bool) or not isinstance(num_folds, int) or not 2 <= num_folds <= num_rows:
        raise InputError(
            f"--num_folds must be a whole number from 2 to the number of rows, {num_rows}, got {num_folds!r}; 5 is "
            "usual."
        )
