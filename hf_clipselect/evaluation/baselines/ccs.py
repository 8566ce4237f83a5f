"""Coverage-centric selection: rows of every difficulty but the highest.

Haizhong Zheng, Rui Liu, Fan Lai and Atul Prakash, "Coverage-centric Coreset Selection for High Pruning Rates", ICLR
2023, https://huggingface.co/papers/2210.15809.

Shapes: N rows.
"""

from decimal import Decimal

import numpy as np

from ...errors import InputError
from ...selection.exact import top_k
from .inputs import checked_count, checked_scores


def ccs_rows(scores: np.ndarray, count: int, *, num_strata: int = 50, cutoff: float = 0.0, seed: int) -> np.ndarray:
    """Drop the hardest rows, and pick as many of each difficulty as there are (algorithm 1 of the paper).

    1. The `floor(cutoff * N)` rows with the highest scores are dropped (beta in the paper); of equal ones the higher
       row numbers.
    2. The range of the scores that are left is cut into strata of equal width.
    3. From the smallest stratum on, each gives `min(its rows, floor(rows still to pick / strata still to come))`.
    4. Rows of a stratum are drawn with the seed, all strata from one permutation of the rows.

    For the same scores, strata, cutoff and seed **the selection of n contains that of n - 1**; no order is given back.

    Deviations from the paper: it draws each stratum by itself, and searches the cutoff anew for each data set and
    count (0.3 where a tenth of CIFAR-10 is kept); the default here drops nothing. Its score, the area under the
    margin, is low where a row is hard: negate it. Classes are not balanced, there or here.

    Args:
        scores (`np.ndarray` of shape `(N,)`): Difficulty, finite, higher is harder: EL2N, forgetting events, ...
        count (`int`): Rows to keep, in `[1, N]`.
        num_strata (`int`, *optional*, defaults to 50): Strata, at least 1; the paper's number.
        cutoff (`float`, *optional*, defaults to 0.0): Part of the rows to drop as too hard, in `[0, 1)`.
        seed (`int`): Seed of the draw.

    Returns:
        `np.ndarray` of shape `(count,)`: Row numbers, int64, rising.

    Raises:
        InputError: A score is not finite, an argument is out of range, or the cutoff leaves fewer rows than the count.
    """
    scores = checked_scores(scores)
    count = checked_count(count, len(scores))
    num_strata = checked_count(num_strata, name="num_strata")
    if not 0 <= cutoff < 1:
        raise InputError(f"cutoff is the part of the rows to drop as too hard and must lie in [0, 1), got {cutoff}.")
    rows = top_k(-scores, len(scores) - int(Decimal(str(cutoff)) * len(scores)))
    if len(rows) < count:
        raise InputError(
            f"cutoff {cutoff} leaves {len(rows)} of {len(scores)} rows, fewer than the {count} to keep; "
            f"give at most {len(scores) - count}/{len(scores)}."
        )
    strata = _strata(scores[rows], num_strata)
    budgets = _budgets(np.bincount(strata, minlength=num_strata), count)
    drawn_as = np.random.default_rng(seed).permutation(len(scores))[rows]
    chosen = np.lexsort((drawn_as, strata))
    place = np.arange(len(rows)) - np.searchsorted(strata[chosen], strata[chosen])  # within the stratum
    return np.sort(rows[chosen[place < budgets[strata[chosen]]]])


def _strata(scores: np.ndarray, num_strata: int) -> np.ndarray:
    low, high = scores.min(), scores.max()
    if low == high:
        return np.zeros(len(scores), dtype=np.int64)
    return np.minimum((scores - low) / (high - low) * num_strata, num_strata - 1).astype(np.int64)


def _budgets(sizes: np.ndarray, count: int) -> np.ndarray:
    budgets = np.empty_like(sizes)
    for place, stratum in enumerate(np.argsort(sizes, kind="stable")):
        budgets[stratum] = min(sizes[stratum], count // (len(sizes) - place))
        count -= budgets[stratum]
    return budgets
