"""The order in which herding takes the rows of a class: a pool of rows whose labels are safe, then the doubtful ones.

Legend: N rows, n rows of one class, D embedding dimensions.
"""

import numpy as np
import torch

from .herding_order import herding_order, order_by_content
from .probability_sums import UNITS, in_units


# Rows that stay out of the pool, as a multiple of the estimated number of wrong labels. One number for all sizes, so
# that their subsets are nested.
POOL_SHARES = 1.5


def safe_pool(error_probability: np.ndarray, *, excluded: np.ndarray | None = None) -> np.ndarray:
    """Which rows are in the pool, `(N,)`, bool: all but the most probably wrong ones, over all classes together.

    `POOL_SHARES * sum(p)` rows stay out, rounded half up: 1.5 times as many as there are wrong labels by the estimate.
    Of rows with the same p all are in where not all of them may stay out, so that the order of the rows changes
    nothing. Without an estimated error all rows are in.

    Takes p, `(N,)`, float32, in [0, 1], the probability that the label of a row is wrong; and the rows that no subset
    may hold, `(N,)`, bool, if there are any, which stay out beside the others.
    """
    num_wrong = int(in_units(error_probability).sum()) / UNITS
    num_out = min(int(POOL_SHARES * num_wrong + 0.5), len(error_probability))
    in_pool = np.ones(len(error_probability), dtype=bool)
    if num_out:
        least = np.partition(error_probability, -num_out)[-num_out]
        reaching = error_probability >= least
        in_pool = ~reaching if np.count_nonzero(reaching) <= num_out else error_probability <= least
    return in_pool if excluded is None else in_pool & ~excluded


def class_order(
    embeds: np.ndarray | torch.Tensor, in_pool: np.ndarray, error_probability: np.ndarray, seed: int
) -> np.ndarray:
    """The rank of each row of one class, `(n,)`, int64: 0 is taken first, n - 1 last.

    Rows of the pool come first, in the order of herding, which makes the mean of every beginning follow the mean of
    them all; then the others, from the least to the most probably wrong. Equally probable ones, such as the surest
    mistakes, whose probability is 1, come in an order that follows from their embeddings. Where the rows come in
    another order only equal rows change places.

    Takes embeddings of norm 1, `(n, D)`, on any device; which rows are in the pool, `(n,)`, bool; the probability that
    the label of a row is wrong, `(n,)`, in [0, 1]; and the seed of `herding_order`.
    """
    pool, others = np.flatnonzero(in_pool), np.flatnonzero(~in_pool)
    others = others[order_by_content(embeds[others])]
    others = others[np.argsort(error_probability[others], kind="stable")]
    herded = pool[herding_order(embeds[pool], seed=seed)]
    ranks = np.empty(len(in_pool), dtype=np.int64)
    ranks[np.concatenate([herded, others])] = np.arange(len(in_pool))
    return ranks
