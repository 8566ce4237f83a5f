"""Rows to compare a doubtful one with: its nearest rows of a class, or where features are missing typical ones."""

from dataclasses import dataclass

import numpy as np

from .explored import Explored


NUM_EXAMPLES = 6


@dataclass(frozen=True)
class Examples:
    """Rows of one class, int64, best first; `are_nearest` tells nearest ones from typical ones."""

    name: str
    rows: np.ndarray
    are_nearest: bool


def examples_of(explored: Explored, row: int, label: int | None = None) -> Examples:
    """At most six rows without the row itself, of one class or of all: by the features that the run left its nearest
    ones, and where they are missing, of a class those with the highest alignment to its label.
    """
    rows = np.flatnonzero(explored.readable if label is None else explored.readable & (explored.given == label))
    name = "" if label is None else explored.name_of(label)
    rows = rows[rows != row]
    if explored.embeds is not None and explored.readable[row]:
        number = int(explored.source_index[row])
        nearest = explored.embeds.nearest(number, explored.source_index[rows], NUM_EXAMPLES)
        return Examples(name, np.searchsorted(explored.source_index, nearest), True)
    if label is None:
        return Examples(name, rows[:0], False)
    best = np.argsort(-explored.column("sas")[rows], kind="stable")[:NUM_EXAMPLES]
    return Examples(name, rows[best], False)
