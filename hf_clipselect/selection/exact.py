"""The exact solver: the rows with the highest scores."""

import numpy as np

from ..errors import InputError


def top_k(scores: np.ndarray, k: int) -> np.ndarray:
    """The k rows with the highest of the finite scores `(num_rows,)`: row numbers `(k,)`, int64, rising.

    Equal to the first k of a stable sort by falling score, in O(N): of equal scores the lower row number goes first.
    Since the objective of the paper (eq. 6 of https://huggingface.co/papers/2410.11215) is a sum over rows, these rows
    are its optimum. Raises `InputError` where a score is not finite, or k is not in `[0, num_rows]`.
    """
    scores = finite_scores(scores)
    num_rows = len(scores)
    if not 0 <= k <= num_rows:
        raise InputError(f"The number of rows to keep must lie in [0, {num_rows}], got {k}.")
    if k == 0:
        return np.empty(0, dtype=np.int64)
    threshold = np.partition(scores, num_rows - k)[num_rows - k]
    rows = np.flatnonzero(scores >= threshold)
    if len(rows) > k:
        ties = np.flatnonzero(scores[rows] == threshold)
        rows = np.delete(rows, ties[k - len(rows) :])
    return rows


def finite_scores(scores: np.ndarray) -> np.ndarray:
    """The same scores `(num_rows,)`; raises `InputError` where they have another shape, or one is NaN or infinite."""
    scores = np.asarray(scores)
    if scores.ndim != 1:
        raise InputError(f"Scores must be one number per row, got an array of shape {scores.shape}.")
    finite = np.isfinite(scores)
    if not finite.all():
        row = int(np.argmin(finite))
        raise InputError(f"Scores must be finite, got {scores[row]} in row {row}.")
    return scores
