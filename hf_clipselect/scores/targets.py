"""What rows are aligned with: the class of each, or a caption of its own.

Legend: N rows, C classes or captions, R references.
"""

from dataclasses import dataclass, replace

import numpy as np

from .clusters import cluster_names
from .sample_scores import SampleScores


@dataclass(frozen=True)
class Classes:
    """Rows with a label each.

    Args:
        labels (`np.ndarray` of shape `(N,)`, int64): Class of each row, in `[0, C)`: a number among those with rows.
        numbers (`np.ndarray` of shape `(C,)`, int64): The classes with rows in the numbering of the dataset, rising.
        names (`list[str]`): Names of all classes of the dataset, in its numbering.
    """

    labels: np.ndarray
    numbers: np.ndarray
    names: list[str]

    @property
    def references(self) -> None:
        """The texts that a row is compared with, where these are not all."""
        return None

    @property
    def cells(self) -> np.ndarray:
        """Which rows are compared with each other in the diversity, `(N,)`, from 0, none empty."""
        return self.labels

    @property
    def cell_numbers(self) -> np.ndarray:
        """What messages call the cells."""
        return self.numbers

    def in_table(self, scores: SampleScores) -> SampleScores:
        """Scores as the table has them: predictions, numbers among the texts with rows, in the dataset's numbering."""
        return replace(scores, predicted_label=self.numbers[scores.predicted_label])


@dataclass(frozen=True)
class Captions:
    """Rows with a caption each; clusters of their images stand in for classes.

    Args:
        labels (`np.ndarray` of shape `(N,)`, int64): Caption of each row, in `[0, C)`; rows may share one.
        references (`np.ndarray` of shape `(R,)`, int64): Captions that each row's own is compared with, rising.
        clusters (`np.ndarray` of shape `(N,)`, int64): Cluster of each row's image, from 0, none empty.
    """

    labels: np.ndarray
    references: np.ndarray
    clusters: np.ndarray

    @property
    def cells(self) -> np.ndarray:
        """Which rows are compared with each other in the diversity, `(N,)`, from 0, none empty."""
        return self.clusters

    @property
    def cell_numbers(self) -> np.ndarray:
        """What messages call the cells."""
        return np.arange(self.clusters.max() + 1)

    @property
    def names(self) -> list[str]:
        return cluster_names(self.clusters)

    def in_table(self, scores: SampleScores) -> SampleScores:
        """Scores as the table has them: predictions, which are captions, as clusters, and with `better_caption`."""
        _, first_rows = np.unique(self.labels, return_index=True)
        first_row = first_rows[scores.predicted_label]
        agrees = scores.predicted_label == self.labels
        return replace(
            scores,
            predicted_label=np.where(agrees, self.clusters, self.clusters[first_row]),
            better_caption=np.where(agrees, -1, first_row),
        )


Targets = Classes | Captions
