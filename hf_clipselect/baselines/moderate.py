"""Moderate-DS: the rows that are neither the nearest to the centre of their class nor the farthest from it.

Xia, Liu, Yu, Shen, Han and Liu, "Moderate Coreset: A Universal Method of Data Selection for Real-world Data-efficient Deep
Learning", ICLR 2023, https://openreview.net/forum?id=7D5EECbOaf9.

With z_c the mean feature of class c and d_i = ||x_i - z_(y_i)||, a subset of k rows is the k with the smallest |d_i - median(d)|.
"""

import numpy as np

from ..arrays import Array, as_numpy, checked_embeds, checked_labels, row_blocks, row_lengths, unit_rows


def moderate_scores(image_embeds: Array, labels: Array) -> np.ndarray:
    """How close a row's distance to the centre of its class is to the median distance.

    The median is over the rows of all classes, as in the paper. Deviations: the features are unit-norm embeddings (the paper takes
    what a network trained on the dataset gives, unnormalised), and rows are ranked by the distance to the median as the text has
    it, where the authors' code takes as many ranks from below the median as from above.

    Args:
        image_embeds (`np.ndarray` or `torch.Tensor` of shape `(num_rows, embed_dim)`): Features, normalised here.
        labels (`np.ndarray` or `torch.Tensor` of shape `(num_rows,)`): Given classes, integers from 0.

    Returns:
        `np.ndarray` of shape `(num_rows,)`: `-|d - median(d)|`, float32, at most 0, higher is kept first.

    Raises:
        InputError: Shapes don't match, a row is zero or not finite, or a label is negative.
    """
    embeds = checked_embeds(image_embeds, "image_embeds")
    lengths = row_lengths(embeds, "image_embeds")
    labels = checked_labels(labels, num_rows=len(embeds))
    sums = np.zeros((int(labels.max()) + 1, embeds.shape[1]))
    for block in row_blocks(len(embeds), width=embeds.shape[1]):
        np.add.at(sums, labels[block], as_numpy(unit_rows(embeds, block, lengths)))
    centres = sums / np.maximum(np.bincount(labels), 1)[:, None]
    distances = np.empty(len(embeds))
    for block in row_blocks(len(embeds), width=embeds.shape[1]):
        rows = as_numpy(unit_rows(embeds, block, lengths))
        distances[block] = np.linalg.norm(rows - centres[labels[block]], axis=1)
    return -np.abs(distances - np.median(distances)).astype(np.float32)
