"""Greedy k-center: rows such that none is far from a picked one.

Ozan Sener and Silvio Savarese, "Active Learning for Convolutional Neural Networks: A Core-Set Approach", ICLR 2018,
https://huggingface.co/papers/1708.00489.

Shapes: N rows, D embedding dimension.
"""

import numpy as np

from ...scores.arrays import Array
from .inputs import checked_count, unit_embeds


def k_center_rows(embeds: Array, count: int, *, seed: int) -> np.ndarray:
    """Pick the row that is farthest from its nearest picked one, again and again (algorithm 1 of the paper).

    `argmax over i of min over picked j of |x_i - x_j|`, after a first row drawn with the seed; of equally far ones the
    lower row number. The largest distance that is left is at most twice the smallest possible for as many rows. **The
    first n picks are the selection of n.** Copies come last. No label is looked at, and outliers come first.

    Deviations from the paper: there is no pool of labelled rows to start from, embeddings are normalised to unit
    length, and the mixed integer program that allows for outliers is left out. Costs O(N D) for each pick, O(N D
    count) in all, and O(N) memory beside the embeddings. Distances are ordered by their cosines in float32: those of
    near copies, where 1 - cos is below 1e-6, by its rounding.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): Image embeddings, normalised here.
        count (`int`): Rows to keep, in `[1, N]`.
        seed (`int`): Draws the first row.

    Returns:
        `np.ndarray` of shape `(count,)`: Row numbers in the order of the picks, int64.

    Raises:
        InputError: A row is zero or not finite, or the count is out of range.
    """
    images = unit_embeds(embeds)
    picks = np.empty(checked_count(count, len(images)), dtype=np.int64)
    nearest = np.full(len(images), -np.inf, dtype=np.float32)  # cosine with the nearest picked row
    row = int(np.random.default_rng(seed).integers(len(images)))
    for place in range(len(picks)):
        picks[place] = row
        np.maximum(nearest, images @ images[row], out=nearest)
        nearest[row] = np.inf  # a copy is at 1: it may still come, the row itself may not
        row = int(nearest.argmin())
    return picks
