"""Herding: an order of a class's rows whose every beginning has a mean close to that of the class.

Max Welling, "Herding Dynamical Weights to Learn", ICML 2009, https://doi.org/10.1145/1553374.1553517. For picking rows
of a class it is used since iCaRL (Rebuffi et al., CVPR 2017, https://huggingface.co/papers/1611.07725).

Shapes: n rows of one class, D embedding dimension, p rows of a part.
"""

import numpy as np
import torch


# A larger class is herded in parts: the cosines of so many rows with each other take 64 MB.
MAX_PART_ROWS = 4096
# Embeddings are rounded to multiples of this. Then all products, and all sums of them, are multiples of 2^-22 that are
# below 2: float32 holds them exactly, whichever threads, library or device add them up. Of cosines that were rounded
# another way the order would soon be another one, as good but not the same.
_STEP = 2**-11


def herding_order(embeds: np.ndarray | torch.Tensor, seed: int) -> np.ndarray:
    """Order the rows of a class so that the mean of the first ones follows the mean of all.

    In a class with mean m the weights w start as m; each step picks the row x with the highest `w . x` and adds `m -
    x` to w (the paper's herding, with embeddings as the features). As the rows have unit norm, each pick is also the
    one that takes the mean of the picked rows closest to m, which is iCaRL's rule.

    A class of more than `MAX_PART_ROWS` rows is herded in random parts, as few and as equal in size as can be. Each
    part follows its own mean, and the parts are merged by quantile: the row at place i of p is due at `(i + 1/2) / p`.
    Every beginning then has nearly the same share of each part, so its mean follows that of the class too.

    The order depends on what the rows are and on the seed. It does not depend on how they are ordered, except that
    equal rows may change places, nor on threads or device: the rule sees the embeddings rounded to multiples of 2^-11
    (0.3 % of a row's length at 512 dimensions), whose products are exact.

    Costs O(n D p) for the cosines, which are computed on the device of the embeddings, and O(n p) for the steps, which
    are taken on the CPU: a step is too short for a GPU.

    Deviations from the paper: no row is picked twice, w starts at the mean, the features are embeddings of unit
    length, rounded, and large classes are herded in parts.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(n, D)`): Embeddings of the rows of one class, float32, of
            unit norm, finite; n may be 0.
        seed (`int`): Of the parts that a large class is shared out among.

    Returns:
        `np.ndarray` of shape `(n,)`: All row numbers, int64, first picked first.
    """
    return _in_parts(embeds, seed, MAX_PART_ROWS)


def _in_parts(embeds: np.ndarray | torch.Tensor, seed: int, max_rows: int) -> np.ndarray:
    if len(embeds) == 0:
        return np.empty(0, dtype=np.int64)
    rows = order_by_content(embeds)
    num_parts = -(-len(rows) // max_rows)
    if num_parts > 1:  # 0 to 6 are the streams of what else is drawn
        rows = np.random.default_rng([seed, 7]).permutation(rows)
    parts = [part[_herd(embeds[part])] for part in np.array_split(rows, num_parts)]
    due = np.concatenate([(np.arange(len(part)) + 0.5) / len(part) for part in parts])
    return np.concatenate(parts)[np.argsort(due, kind="stable")]


def order_by_content(embeds: np.ndarray | torch.Tensor) -> np.ndarray:
    """Numbers of the rows `(n, D)`, in [-1, 1], in an order that does not depend on the given one.

    By their numbers, rounded as herding rounds them: last digits, which differ between devices, decide only where no
    others do. Returns int64, `(n,)`; of equal rows the lower number goes first.
    """
    if len(embeds) == 0:
        return np.empty(0, dtype=np.int64)
    if isinstance(embeds, torch.Tensor):
        embeds = embeds.cpu().numpy()
    exact = np.ascontiguousarray(embeds + 0.0)  # -0 has other bytes than 0
    order = np.argsort(_as_texts(exact), kind="stable")
    rounded = (exact[order] / _STEP).round() + 1 / _STEP  # of at least 0, so that the bytes sort as the numbers do
    return order[np.argsort(_as_texts(rounded.astype(">u2")), kind="stable")]


def _as_texts(rows: np.ndarray) -> np.ndarray:
    """Rows as texts `(n,)` of their bytes, which numpy sorts."""
    return rows.view(f"S{rows.itemsize * rows.shape[1]}")[:, 0]


def _herd(embeds: np.ndarray | torch.Tensor) -> np.ndarray:
    """Places `(p,)` of the rows of a part in the order of the picks.

    `w . x` of all rows changes by `m . x - pick . x` in each step: a row of their cosines holds all that it takes.
    """
    rounded = (embeds / _STEP).round() * _STEP
    cosines = rounded @ rounded.T
    steps = cosines.cpu().numpy() if isinstance(cosines, torch.Tensor) else cosines
    fit = steps.mean(axis=0, dtype=np.float64).astype(steps.dtype)  # with the mean of the part
    np.subtract(fit, steps, out=steps)
    picks = np.empty(len(steps), dtype=np.int64)
    for place in range(len(picks)):
        pick = fit.argmax()
        picks[place] = pick
        fit += steps[pick]
        fit[pick] = -np.inf
    return picks
