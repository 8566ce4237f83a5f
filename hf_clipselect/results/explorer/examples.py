"""Rows to compare a doubtful one with: its nearest rows of a class, or where features are missing typical ones."""

from dataclasses import dataclass

import numpy as np

from .explored import Explored


NUM_EXAMPLES = 6
# Rows that one is compared with, spread evenly: the features of more would have to be read for seconds.
MOST_COMPARED = 100_000


@dataclass(frozen=True)
class Examples:
    """Rows of one class, or of all, int64, best first, and in words what they are."""

    words: str
    rows: np.ndarray
    are_nearest: bool


def examples_of(explored: Explored, row: int, label: int | None = None) -> Examples:
    """At most six rows without the row itself, of one class or of all: by the features that the run left its nearest
    ones, and where they are missing, of a class those with the highest alignment to its label.
    """
    rows = np.flatnonzero(explored.readable if label is None else explored.readable & (explored.labels == label))
    labelled = "" if label is None else f" labelled {explored.name_of(label)}"
    rows = rows[rows != row]
    if explored.embeds is not None and explored.readable[row]:
        step = -(-len(rows) // MOST_COMPARED)
        compared = rows[:: max(step, 1)]
        among = "" if step <= 1 else f", of {len(compared):,} looked at"
        number = int(explored.source_index[row])
        nearest = explored.embeds.nearest(number, explored.source_index[compared], NUM_EXAMPLES)
        return Examples(f"Nearest rows{labelled}{among}", np.searchsorted(explored.source_index, nearest), True)
    if label is None:
        return Examples("Nearest rows", rows[:0], False)
    best = np.argsort(-explored.column("sas")[rows], kind="stable")[:NUM_EXAMPLES]
    return Examples(f"Typical rows (highest alignment){labelled}", rows[best], False)
