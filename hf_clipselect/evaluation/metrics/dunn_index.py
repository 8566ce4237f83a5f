"""The Dunn index: how well classes lie apart in an embedding.

J. C. Dunn, "Well-Separated Clusters and Optimal Fuzzy Partitions", Journal of Cybernetics 4 (1974),
https://doi.org/10.1080/01969727408546059. The paper on which this package rests compares embeddings by it (figure 7 of
https://huggingface.co/papers/2410.11215).

Shapes: N rows, D embedding dimension, B rows of a block.
"""

from typing import Any

import datasets
import evaluate
import numpy as np
from sklearn.metrics import pairwise_distances_chunked

from hf_clipselect.errors import InputError
from hf_clipselect.scores.arrays import as_numpy, checked_embeds, checked_labels


_BLOCK_MB = 64

_DESCRIPTION = """
The smallest distance between two rows of different classes, divided by the largest between two rows of the same class:

    min over i, j with y_i != y_j of |x_i - x_j|  /  max over i, j with y_i = y_j of |x_i - x_j|

Two rows alone decide each of the two, so one outlier or one wrong label can decide the index.
"""

_INPUTS = """
Args:
    embeds (`list`, `np.ndarray` or `torch.Tensor` of shape `(N, D)`): Embeddings, or t-SNE's two coordinates; taken as
        they are.
    references (`list`, `np.ndarray` or `torch.Tensor` of shape `(N,)`): Classes of the rows, integers from 0, at least
        two.

Returns:
    `dict[str, float]`: `dunn_index`, at least 0, higher is better separated. Above 1 every row is nearer to all of its
    class than to any other. 0 where rows of two classes are equal; infinite where no class spreads and none meets
    another. O(N^2 D) time.
"""


class DunnIndex(evaluate.Metric):
    """How well classes lie apart, from the closest and the farthest rows; [`compute`] has the inputs."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description=_DESCRIPTION,
            citation="",
            inputs_description=_INPUTS,
            features=datasets.Features(
                {"embeds": datasets.List(datasets.Value("float32")), "references": datasets.Value("int64")}
            ),
            reference_urls=["https://doi.org/10.1080/01969727408546059"],
        )

    def _compute(self, embeds: Any, references: Any, **_of_others: Any) -> dict[str, float]:
        if len({len(row) for row in embeds}) > 1:
            raise InputError("embeds must have rows of one length, got several.")
        rows = as_numpy(checked_embeds(np.asarray(embeds, dtype=np.float32), "embeds"))
        labels = checked_labels(np.asarray(references), num_rows=len(rows))
        if not np.isfinite(rows).all():
            raise InputError(f"embeds must be finite; row {int(np.argmin(np.isfinite(rows).all(axis=1)))} is not.")
        if (labels == labels[0]).all():
            raise InputError(f"The Dunn index compares classes and needs at least two, got class {labels[0]} alone.")
        separation, diameter = _extremes(rows, labels)
        if separation == 0:
            return {"dunn_index": 0.0}
        return {"dunn_index": separation / diameter if diameter > 0 else float("inf")}


def _extremes(rows: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """The smallest distance between classes and the largest within one."""

    def of_block(distances: np.ndarray, start: int) -> tuple[np.ndarray, np.ndarray]:
        same = labels[start : start + len(distances), None] == labels
        nearest = np.where(same, np.inf, distances).argmin(axis=1)
        return nearest, np.where(same, distances, -1).argmax(axis=1)

    blocks = list(pairwise_distances_chunked(rows, reduce_func=of_block, working_memory=_BLOCK_MB))
    nearest, farthest = (np.concatenate(pairs) for pairs in zip(*blocks, strict=True))
    # By difference: from products the distance of copies is not quite 0.
    separation = np.linalg.norm(rows - rows[nearest], axis=1).min()
    return float(separation), float(np.linalg.norm(rows - rows[farthest], axis=1).max())
