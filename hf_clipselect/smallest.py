"""The mean of the k smallest distances of each row: most of them are only counted, none is moved.

Shapes: B rows, n columns.
"""

import numpy as np
import torch


# Columns of a row from which its k-th smallest distance is guessed. Sorting more of them costs more than it saves.
_SAMPLE = 256
# More than any distance between unit-norm rows, which is 2 at most.
_BEYOND = 3.0
# Rows are left to the sort when so few of them are open, or after so many passes over all of them.
_OPEN_SHARE = 1 / 16
_MAX_PASSES = 8
# The largest error allowed, as a part of the k-th smallest distance. Most are a tenth of it, no more than float32's rounding.
_TOLERANCE = 4e-6
# A distance that is not 0 is larger than this.
_TINY = 1e-30


def mean_of_smallest(distances: np.ndarray | torch.Tensor, k: int) -> np.ndarray | torch.Tensor:
    """Mean of the k smallest distances of each row, too low by 4e-6 of the k-th smallest at most. Overwrites `distances`.

    Args:
        distances (`np.ndarray` or `torch.Tensor` of shape `(B, n)`): Float32, in [0, 2], or infinite for what does not count.
        k (`int`): How many, in `[1, n)` and at most the finite ones of a row.

    Returns:
        `np.ndarray` or `torch.Tensor` of shape `(B,)`: Means, float32, as the distances are.
    """
    if isinstance(distances, torch.Tensor) or distances.shape[1] < 4 * _SAMPLE:
        return smallest(distances, k).mean(1)
    # The sum of the k smallest d is the maximum over t of k t - sum(max(t - d, 0)), which is flat where t is the k-th of
    # them. So a close t will do, and finding one takes a few counts, where a partition takes twenty times as long as each.
    brackets = _brackets(distances, k)
    still_open = np.flatnonzero(brackets.is_open())
    sorted_means = [_mean_by_sorting(distances[row], brackets.high[row], k) for row in still_open]
    thresholds = brackets.best().astype(np.float32)
    thresholds[thresholds < 2 * _TINY] = 0  # all k are
    np.subtract(thresholds[:, None], distances, out=distances)
    np.clip(distances, 0, _BEYOND, out=distances)  # twice as fast as maximum
    means = thresholds - distances.sum(axis=1) / np.float32(k)
    means[still_open] = sorted_means
    return np.maximum(means, 0)  # rounding takes a mean of zeros a little below


def smallest(distances: np.ndarray | torch.Tensor, k: int) -> np.ndarray | torch.Tensor:
    """The k smallest distances of each row, in no order. Reorders an array.

    Args:
        distances (`np.ndarray` or `torch.Tensor` of shape `(B, n)`): Float32.
        k (`int`): How many, in `[1, n]`.

    Returns:
        `np.ndarray` or `torch.Tensor` of shape `(B, k)`: Their values.
    """
    if isinstance(distances, torch.Tensor):
        return distances.topk(k, dim=1, largest=False, sorted=False).values
    distances.partition(k - 1, axis=1)  # ten times as fast as topk on a CPU
    return distances[:, :k]


def _mean_by_sorting(distances: np.ndarray, high: float, k: int) -> float:
    # Not a partition: numpy's is very slow where many values are equal.
    return np.sort(distances[distances < high])[:k].mean()


class _Brackets:
    """For each row two thresholds around its k-th smallest distance, and how many distances lie below each."""

    def __init__(self, num_rows: int, num_columns: int, k: int) -> None:
        self.k = k
        self.low, self.below_low = np.zeros(num_rows), np.zeros(num_rows)
        self.high, self.below_high = np.full(num_rows, _BEYOND), np.full(num_rows, float(num_columns))

    def narrow(self, thresholds: np.ndarray, counts: np.ndarray) -> None:
        lower = counts <= self.k
        for ends, new in ((self.low, thresholds), (self.below_low, counts)):
            np.copyto(ends, new, where=lower)
        for ends, new in ((self.high, thresholds), (self.below_high, counts)):
            np.copyto(ends, new, where=~lower)

    def missing(self) -> tuple[np.ndarray, np.ndarray]:
        """How many distances too few lie below the low threshold, and how many too many below the high one."""
        return self.k - self.below_low, self.below_high - self.k

    def best(self) -> np.ndarray:
        """Where the tangents of the sum at both ends meet."""
        too_few, too_many = self.missing()
        return self.low + (self.high - self.low) * too_few / np.maximum(too_few + too_many, 1)

    def error(self) -> np.ndarray:
        """The sum of the k smallest, taken at `best`, lies at most this much too low: it is concave."""
        too_few, too_many = self.missing()
        return (self.high - self.low) * too_few * too_many / np.maximum(too_few + too_many, 1)

    def is_open(self) -> np.ndarray:
        return self.error() > self.k * (_TOLERANCE * self.high + _TINY)

    def next(self, scale: np.ndarray) -> np.ndarray:
        """Thresholds to try: beyond k as seen from the nearer end, by as much as a guess from there may be wrong.

        `scale` is how far the logarithm of the count takes the threshold, used while one end is still missing.
        """
        too_few, too_many = self.missing()
        no_low, no_high = self.below_low == 0, self.high == _BEYOND
        step_down = np.where(no_low | no_high, no_low, too_few > too_many)
        gap = np.where(step_down, too_many, too_few)
        beyond = 0.6 * np.sqrt(gap) + np.where(no_low | no_high, 0.2 * gap, 0)
        aim = np.clip(self.k + np.where(step_down, -beyond, beyond), self.below_low + 0.5, self.below_high - 0.5)
        between = np.log(aim / (self.below_low + 0.5)) / np.log((self.below_high + 0.5) / (self.below_low + 0.5))
        inside = self.low + (self.high - self.low) * between
        start, count = np.where(no_low, [self.high, self.below_high], [self.low, self.below_low])
        outside = start + scale * np.log(aim / np.maximum(count, 0.5))
        wanted = np.where(no_low | no_high, outside, inside).astype(np.float32)
        return np.where((wanted > self.low) & (wanted < self.high), wanted, (self.low + self.high) / 2)


def _brackets(distances: np.ndarray, k: int) -> _Brackets:
    num_rows, num_columns = distances.shape
    thresholds, scale = _first_guess(distances, k)
    brackets = _Brackets(num_rows, num_columns, k)
    # In whole words, so that eight comparisons are counted at once.
    below = np.zeros((num_rows, -(-num_columns // 8) * 8), dtype=bool)
    for _ in range(_MAX_PASSES):
        thresholds = thresholds.astype(np.float32)
        np.less(distances, thresholds[:, None], out=below[:, :num_columns])
        brackets.narrow(thresholds, np.bitwise_count(below.view(np.uint64)).sum(axis=1, dtype=np.uint32))
        if np.count_nonzero(brackets.is_open()) <= _OPEN_SHARE * num_rows:
            break
        thresholds, scale = brackets.next(scale), 2 * scale
    return brackets


def _first_guess(distances: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k-th smallest distance as a sample of the columns has it, and the slope there: threshold over log count."""
    num_columns = distances.shape[1]
    sample = np.sort(distances[:, :: max(1, num_columns // _SAMPLE)], axis=1)
    size = sample.shape[1]
    rank = k * size / num_columns
    at = min(max(round(rank - 0.5), 0), size - 1)
    reach = int(np.sqrt(max(rank * (1 - k / num_columns), 1))) + 2
    first, last = max(at - reach, 0), min(at + reach, size - 1)
    spread = np.minimum(sample[:, last], _BEYOND) - np.minimum(sample[:, first], _BEYOND)
    scale = np.maximum(spread, 1e-7) / np.log((last + 0.5) / (first + 0.5))
    # Where nearly all are wanted, that may be all: what is infinite is seen by counting the rest.
    guess = sample[:, at] if rank < size - 1 else np.full(len(sample), _BEYOND - 0.5)
    return np.clip(guess, _TINY, _BEYOND - 0.5), scale.astype(np.float64)
