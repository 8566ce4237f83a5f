"""The order in which herding takes the rows of a class: a pool of rows whose labels are safe, then the doubtful ones.

Legend: N rows, n rows of one class, D embedding dimensions.
"""

import numpy as np
import torch

from .herding_order import herding_order, order_by_content


# The largest probability of a wrong label in the pool. A pool whose size follows from the estimated share of wrong
# labels in place of their probabilities holds many of these where the judges are weak.
SAFE_PROBABILITY = 0.02


def safe_pool(error_probability: np.ndarray, *, excluded: np.ndarray | None = None) -> np.ndarray:
    """Which rows are in the pool, `(N,)`, bool: those whose label is wrong with a probability of at most 0.02.

    Takes these probabilities, `(N,)`, float32, in [0, 1]; and the rows that no subset may hold, `(N,)`, bool, if there
    are any, which stay out too.
    """
    in_pool = error_probability <= SAFE_PROBABILITY
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
