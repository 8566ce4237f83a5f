"""Herding: rows whose mean stays as close as can be to the mean of their class.

Max Welling, "Herding Dynamical Weights to Learn", ICML 2009, https://doi.org/10.1145/1553374.1553517. For picking rows
of a class it is used since iCaRL (Rebuffi et al., CVPR 2017, https://huggingface.co/papers/1611.07725).

Shapes: N rows, n of one class, D embedding dimension.
"""

import numpy as np

from ...scores.arrays import Array, checked_labels
from .inputs import checked_count, unit_embeds


def herding_rows(embeds: Array, labels: Array, count: int) -> np.ndarray:
    """Pick rows of each class so that the mean of the picked ones follows the mean of the class.

    In a class with mean m the weights w start as m; each step picks the row x with the highest `w . x` and adds `m -
    x` to w (the paper's herding, with embeddings as the features). As the rows have unit norm, each pick is also the
    one that takes the mean of the picked rows closest to m, which is iCaRL's rule.

    The classes take turns in proportion to their size (Sainte-Laguë: the r-th pick of n rows is due at `(r - 1/2) /
    n`), so the counts are proportional within rounding and **the first n picks are the selection of n**. Of equal rows
    the lower number, of equal turns the lower class goes first; copies may differ in the last digits by where they
    stand.

    Deviations from the paper: no row is picked twice, w starts at the mean, the features are embeddings normalised to
    unit length, and it runs per class. Costs O(n D) for each pick from a class of n rows. Labels are believed: wrong
    ones near the middle of their class are kept.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): Image embeddings, normalised here.
        labels (`np.ndarray` or `torch.Tensor` of shape `(N,)`): Given classes, integers from 0.
        count (`int`): Rows to keep, in `[1, N]`.

    Returns:
        `np.ndarray` of shape `(count,)`: Row numbers in the order of the picks, int64.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, a label is negative, or the count is out of range.
    """
    images = unit_embeds(embeds)
    labels = checked_labels(labels, num_rows=len(images))
    count = checked_count(count, len(images))
    picks = np.argsort(labels, kind="stable")
    sizes = np.unique(labels, return_counts=True)[1]
    starts = np.cumsum(sizes) - sizes
    due = np.concatenate([(np.arange(size) + 0.5) / size for size in sizes])
    turns = np.argsort(due, kind="stable")[:count]
    quotas = np.bincount(np.repeat(np.arange(len(sizes)), sizes)[turns], minlength=len(sizes))
    for start, size, quota in zip(starts, sizes, quotas, strict=True):
        members = picks[start : start + size]
        picks[start : start + quota] = members[_herd(images[members], quota)]
    return picks[turns]


def _herd(images: np.ndarray, count: int) -> np.ndarray:
    mean = images.mean(axis=0, dtype=np.float64)
    weights, picks = mean.copy(), np.empty(count, dtype=np.int64)
    for step in range(count):
        fit = images @ weights.astype(np.float32)
        fit[picks[:step]] = -np.inf
        picks[step] = fit.argmax()
        weights += mean - images[picks[step]]
    return picks
