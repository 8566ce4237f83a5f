"""Wrong labels in a known number of rows."""

from collections.abc import Sequence

import numpy as np

from ..errors import InputError
from ..selection.counts import round_half_up


def add_label_noise(labels: np.ndarray | Sequence[int], num_classes: int, *, rate: float, seed: int) -> np.ndarray:
    """Give a fraction of the rows another class, uniformly (symmetric noise).

    Exactly `floor(rate * N + 0.5)` rows change, with the rate taken as written in decimals; which rows, and which of the
    other `num_classes - 1` classes each gets, is drawn with the seed.

    Args:
        labels (`np.ndarray` or `Sequence[int]` of shape `(N,)`, any integer type):
            Labels, in `[0, num_classes)`. They are not modified.
        num_classes (`int`): Number of classes, at least 2.
        rate (`float`): Fraction of the rows to change, in `[0, 1)`.
        seed (`int`): Seed of the draw.

    Returns:
        `np.ndarray` of shape `(N,)`, int64: The noisy labels.

    Raises:
        InputError: `rate`, `num_classes` or the labels are out of range, or the labels are no vector of integers.
    """
    noisy = _check_labels(labels, num_classes)
    if not 0 <= rate < 1:
        raise InputError(f"rate is the fraction of labels to change and must lie in [0, 1), got {rate}.")
    rng = np.random.default_rng(seed)
    rows = rng.choice(len(noisy), size=round_half_up(rate, len(noisy)), replace=False)
    # A step of 1 to C - 1 classes, modulo C, reaches every other class with the same probability.
    steps = rng.integers(1, num_classes, size=len(rows))
    noisy[rows] = (noisy[rows] + steps) % num_classes
    return noisy


def _check_labels(labels: np.ndarray | Sequence[int], num_classes: int) -> np.ndarray:
    if num_classes < 2:
        raise InputError(f"Label noise needs num_classes of at least 2, got {num_classes}.")
    given = np.asarray(labels)
    if given.ndim != 1 or (given.size and not np.issubdtype(given.dtype, np.integer)):
        raise InputError(f"labels must be a vector of integers, got shape {given.shape} of {given.dtype}.")
    outside = np.flatnonzero((given < 0) | (given >= num_classes))
    if outside.size:
        raise InputError(
            f"labels must lie in [0, {num_classes}), but row {outside[0]} has {given[outside[0]]}; check num_classes."
        )
    return np.array(given, dtype=np.int64)
