"""What rows are aligned with: the class of each, or a caption of its own.

Legend: N rows, C classes or captions, R references.
"""

from dataclasses import dataclass, replace

import numpy as np

from .clusters import cluster_names
from .sample_scores import SampleScores


@dataclass(frozen=True)
class Classes:
    """Rows with a label each."""

    labels: np.ndarray  # (N,), int64, in [0, C): class of each row, numbered among those with rows
    numbers: np.ndarray  # (C,), int64, rising: the classes with rows in the numbering of the dataset
    names: list[str]  # of all classes of the dataset, in its numbering

    @property
    def references(self) -> None:
        """None: a row is compared with the texts of all classes."""
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
        """Scores as the table has them: classes, numbers among the texts with rows, in the dataset's numbering."""
        clean_label = None if scores.clean_label is None else self.numbers[scores.clean_label]
        return replace(scores, predicted_label=self.numbers[scores.predicted_label], clean_label=clean_label)


@dataclass(frozen=True)
class Captions:
    """Rows with a caption each; clusters of their images stand in for classes."""

    labels: np.ndarray  # (N,), int64, in [0, C): caption of each row, which rows may share
    references: np.ndarray  # (R,), int64, rising: captions that each row's own is compared with
    clusters: np.ndarray  # (N,), int64, from 0, none empty: cluster of each row's image

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
        """What tables and reports call the clusters, by their numbers."""
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
