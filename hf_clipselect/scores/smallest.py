"""The mean of the k smallest distances of each row: most of them are only counted, none is moved.

Shapes: B rows, n columns.
"""

from collections.abc import Iterator

import numpy as np
import torch


# Columns of a row from which its k-th smallest distance is guessed. Sorting more of them costs more than it saves.
_SAMPLE = 256
# More than any distance between unit-norm rows, which is 2 at most.
_BEYOND = 3.0
# Passes over all rows end when so few of them are open; these go on alone, and what is left after so many passes is
# sorted.
_OPEN_SHARE = 1 / 4
_MAX_PASSES = 12
# The largest error allowed, as a part of the k-th smallest distance. Most are a tenth of it, no more than float32's
# rounding.
_TOLERANCE = 4e-6
# A distance that is not 0 is larger than this.
_TINY = 1e-30
# Rows of this many distances (16 MB) are searched together: fewer of them are fast to go through, but not to think
# about.
_GROUP_ELEMENTS = 2**22
# What goes through the same distances several times does it in pieces of this many (1 MB), which stay in a core's
# cache.
_PIECE_ELEMENTS = 2**18


def mean_of_smallest(distances: np.ndarray | torch.Tensor, k: int) -> np.ndarray | torch.Tensor:
    """Mean of the k smallest distances of each row, too low by 4e-6 of the k-th smallest at most. Overwrites
    `distances`.

    Args:
        distances (`np.ndarray` or `torch.Tensor` of shape `(B, n)`): Float32, in [0, 2], or infinite for what does not
            count.
        k (`int`): How many, in `[1, n)` and at most the finite ones of a row.

    Returns:
        `np.ndarray` or `torch.Tensor` of shape `(B,)`: Means, float32, as the distances are.
    """
    if isinstance(distances, torch.Tensor) or distances.shape[1] < 4 * _SAMPLE:
        return smallest(distances, k).mean(1)
    size = max(1, _GROUP_ELEMENTS // distances.shape[1])
    count = _CountBelow(min(size, len(distances)), distances.shape[1])
    groups = (distances[start : start + size] for start in range(0, len(distances), size))
    return np.concatenate([_means_by_counting(group, k, count) for group in groups])


def in_pieces(distances: np.ndarray) -> Iterator[slice]:
    """Rows of distances that fit into a core's cache, in order.

    Args:
        distances (`np.ndarray` of shape `(B, n)`): Float32.

    Yields:
        `slice`: Of rows.
    """
    size = max(1, _PIECE_ELEMENTS // distances.shape[1])
    for start in range(0, len(distances), size):
        yield slice(start, start + size)


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


def _means_by_counting(distances: np.ndarray, k: int, count: "_CountBelow") -> np.ndarray:
    # The sum of the k smallest d is the maximum over t of k t - sum(max(t - d, 0)), which is flat where t is the k-th
    # of them. So a close t will do, and finding one takes a few counts, where a partition takes twenty times as long
    # as each.
    brackets = _brackets(distances, k, count)
    still_open = np.flatnonzero(brackets.is_open())
    sorted_means = [_mean_by_sorting(distances[row], brackets.high[row], k) for row in still_open]
    thresholds = brackets.best().astype(np.float32)
    thresholds[thresholds < 2 * _TINY] = 0  # all k are
    sums = np.empty(len(distances), dtype=np.float32)
    for rows in in_pieces(distances):
        piece = distances[rows]
        np.subtract(thresholds[rows, None], piece, out=piece)
        np.clip(piece, 0, _BEYOND, out=piece)  # twice as fast as maximum
        sums[rows] = piece.sum(axis=1)
    means = thresholds - sums / np.float32(k)
    means[still_open] = sorted_means
    return np.maximum(means, 0)  # rounding takes a mean of zeros a little below


def _mean_by_sorting(distances: np.ndarray, high: float, k: int) -> float:
    # Not a partition: numpy's is very slow where many values are equal.
    return np.sort(distances[distances < high])[:k].mean()


class _CountBelow:
    """Counts the distances of each row below its threshold, eight of them at once.

    Its arrays are used again: such large ones come from the system anew each time, and their pages one by one.
    """

    def __init__(self, num_rows: int, num_columns: int) -> None:
        num_words = -(-num_columns // 8)
        self._num_columns = num_columns
        self._below = np.zeros((num_rows, 8 * num_words), dtype=bool)
        self._in_words = np.empty((num_rows, num_words), dtype=np.uint8)

    def __call__(self, distances: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
        below, in_words = self._below[: len(distances)], self._in_words[: len(distances)]
        np.less(distances, thresholds[:, None], out=below[:, : self._num_columns])
        return np.bitwise_count(below.view(np.uint64), out=in_words).sum(axis=1, dtype=np.uint32)


class _Brackets:
    """For each row two thresholds around its k-th smallest distance, and how many distances lie below each."""

    def __init__(self, k: int, ends: np.ndarray) -> None:
        self.k = k
        self.low, self.below_low, self.high, self.below_high = self._ends = ends

    @classmethod
    def around_all(cls, num_rows: int, num_columns: int, k: int) -> "_Brackets":
        return cls(k, np.repeat([[0.0], [0.0], [_BEYOND], [float(num_columns)]], num_rows, axis=1))

    def of(self, rows: np.ndarray) -> "_Brackets":
        return _Brackets(self.k, self._ends[:, rows])

    def put(self, rows: np.ndarray, brackets: "_Brackets") -> None:
        self._ends[:, rows] = brackets._ends

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
        inside = (wanted > self.low) & (wanted < self.high)
        return np.where(inside, wanted, (self.low + self.high) / 2).astype(np.float32)


def _brackets(distances: np.ndarray, k: int, count: _CountBelow) -> _Brackets:
    thresholds, scale = _first_guess(distances, k)
    brackets = _Brackets.around_all(*distances.shape, k)
    _narrow(brackets, distances, count, thresholds.astype(np.float32), scale, _MAX_PASSES)
    return brackets


def _narrow(
    brackets: _Brackets,
    distances: np.ndarray,
    count: _CountBelow,
    thresholds: np.ndarray,
    scale: np.ndarray,
    num_passes: int,
) -> None:
    """Take passes over the rows; when most are done, over a copy of the others."""
    while num_passes > 0:
        brackets.narrow(thresholds, count(distances, thresholds))
        num_passes -= 1
        rows = np.flatnonzero(brackets.is_open())
        if not len(rows):
            return
        thresholds, scale = brackets.next(scale), 2 * scale
        if len(rows) <= _OPEN_SHARE * len(distances):
            some = brackets.of(rows)
            _narrow(some, distances[rows], count, thresholds[rows], scale[rows], num_passes)
            brackets.put(rows, some)
            return


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
