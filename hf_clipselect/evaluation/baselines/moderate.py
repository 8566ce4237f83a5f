"""Moderate-DS: the rows that are neither the nearest to the centre of their class nor the farthest from it.

Xia, Liu, Yu, Shen, Han and Liu, "Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient
Deep Learning", ICLR 2023, https://openreview.net/forum?id=7D5EECbOaf9.

With z_c the centre of class c and d_i = ||x_i - z_(y_i)||, the k rows with the smallest |d_i - median(d)| are kept.
The centre is the median of each dimension, as in the authors' code; the text has the mean.
"""

import numpy as np

from ...scores.arrays import Array, checked_labels
from .inputs import unit_embeds


def moderate_scores(embeds: Array, labels: Array) -> np.ndarray:
    """How close a row's distance to the centre of its class is to the median distance.

    The median is over the rows of all classes, as in the paper. Deviations: the features are unit-norm embeddings (the
    paper takes what a network trained on the dataset gives, unnormalised), and rows are ranked by the distance to the
    median as the text has it, where the authors' code takes as many ranks from below the median as from above.

    Args:
        embeds (`np.ndarray` or `torch.Tensor` of shape `(N, D)`): Image embeddings, normalised here.
        labels (`np.ndarray` or `torch.Tensor` of shape `(N,)`): Given classes, integers from 0.

    Returns:
        `np.ndarray` of shape `(N,)`: `-|d - median(d)|`, float32, at most 0, higher is kept first.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, or a label is negative.
    """
    images = unit_embeds(embeds)
    labels = checked_labels(labels, num_rows=len(images))
    by_class = np.argsort(labels, kind="stable")
    sizes = np.unique(labels, return_counts=True)[1]
    distances = np.empty(len(images))
    for members in np.split(by_class, np.cumsum(sizes)[:-1]):
        rows = images[members].astype(np.float64)
        distances[members] = np.linalg.norm(rows - np.median(rows, axis=0), axis=1)
    return -np.abs(distances - np.median(distances)).astype(np.float32)
