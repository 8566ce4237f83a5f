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


def examples_of(explored: Explored, row: int, label: int) -> Examples:
    """At most six rows of a class without the row itself: with the highest alignment to their label."""
    rows = np.flatnonzero((explored.given == label) & explored.readable)
    rows = rows[rows != row]
    sas = explored.column("sas")[rows]
    best = np.argsort(-sas, kind="stable")[:NUM_EXAMPLES]
    return Examples(explored.name_of(label), rows[best], False)
