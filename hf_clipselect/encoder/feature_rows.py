"""Rows of features that need not be in memory: several arrays, often mapped from files, read as one."""

from collections.abc import Sequence

import numpy as np


class FeatureRows:
    """Features `(N, H)`, float32, whose rows are copied when they are asked for.

    `parts` are at least one array `(rows, H)`, in row order; of these together `rows` takes some, by default all.
    """

    def __init__(self, parts: Sequence[np.ndarray], rows: np.ndarray | None = None) -> None:
        self._parts = list(parts)
        self._stops = np.cumsum([len(part) for part in self._parts])
        self._rows = rows

    def __len__(self) -> int:
        return int(self._stops[-1]) if self._rows is None else len(self._rows)

    @property
    def hidden_size(self) -> int:
        return self._parts[0].shape[1]

    def subset(self, rows: np.ndarray) -> "FeatureRows":
        """The features of some rows; nothing is copied."""
        return FeatureRows(self._parts, rows if self._rows is None else self._rows[rows])

    def take(self, rows: np.ndarray) -> np.ndarray:
        """A copy `(count, H)`, float32, of the rows with these numbers in `[0, N)`, in any order."""
        if self._rows is not None:
            rows = self._rows[rows]
        if len(self._parts) == 1:
            return self._parts[0][rows]
        taken = np.empty((len(rows), self.hidden_size), dtype=np.float32)
        part_of = np.searchsorted(self._stops, rows, side="right")
        by_part = np.argsort(part_of, kind="stable")
        numbers, starts = np.unique(part_of[by_part], return_index=True)
        for number, places in zip(numbers, np.split(by_part, starts)[1:], strict=True):
            first = self._stops[number] - len(self._parts[number])
            taken[places] = self._parts[number][rows[places] - first]
        return taken
