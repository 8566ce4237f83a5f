"""How alike rows are: a graph of the nearest rows of the same class.

Shapes: N rows, n rows of one class, m nearest rows that are listed for each, E edges, each counted from both its ends.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


# Nearest rows to list for each row.
NUM_NEAREST = 32
# Rows joined by a weight of at least this count as near duplicates. On the synthetic set of the tests copies at a
# cosine of 0.992 have weights of 0.91 and more, other rows of a class 0.05 at most.
DUPLICATE_WEIGHT = 0.8
# The cosine that has weight 0 stays below this, so that exact copies keep weight 1 in a class full of them.
_HIGHEST_ZERO = 1 - 1e-4


@dataclass(frozen=True)
class NeighborGraph:
    """Weighted edges between rows of the same class, as compressed sparse rows; every edge stands at both its ends.

    `starts` `(N + 1,)`, int64, tells where the edges of each row start, and their number E; `columns` `(E,)`, int32,
    the row at the other end; `weights` `(E,)`, float32, the likeness W in (0, 1], 1 for exact copies. `crowded` `(N,)`
    is true for a row whose list of nearest rows is full of near duplicates, so that it may have more of them than
    edges. `part` `(N,)`, int64, is the lowest row number of the row's class, which no edge leaves; -1 for rows of no
    class.
    """

    starts: np.ndarray
    columns: np.ndarray
    weights: np.ndarray
    crowded: np.ndarray
    part: np.ndarray

    @property
    def num_rows(self) -> int:
        return len(self.crowded)

    def edge_rows(self) -> np.ndarray:
        """The row `(E,)` that each edge starts from, int32."""
        return np.repeat(np.arange(self.num_rows, dtype=np.int32), np.diff(self.starts))

    def within(self, cells: np.ndarray) -> "NeighborGraph":
        """Without the edges between rows of different cells, `(N,)`, integers from 0."""
        rows = self.edge_rows()
        stays = cells[rows] == cells[self.columns]
        starts = np.concatenate([[0], np.cumsum(np.bincount(rows[stays], minlength=self.num_rows))])
        _, first, number = np.unique(
            self.part * (int(cells.max()) + 1) + cells, return_index=True, return_inverse=True
        )
        part = np.where(self.part < 0, -1, first[number])
        return NeighborGraph(starts, self.columns[stays], self.weights[stays], self.crowded, part)


def class_graph(nearest: np.ndarray, cosines: np.ndarray) -> NeighborGraph:
    """The graph of one class of n rows from the lists of nearest rows, and cosines, both `(n, m)`, that
    `class_diversity` gives.

    `W_ij = clamp((cos_ij - zero) / (1 - zero), 0, 1)^2` where one of the two rows lists the other, zero being the
    median of all listed cosines: classes differ in how alike their rows are, and half of the listed neighbours are no
    more than that. Edges of weight 0 are left out.
    """
    num_rows, num_listed = nearest.shape
    part = np.zeros(num_rows, dtype=np.int64)
    if num_listed == 0:
        nothing = np.empty(0, dtype=np.float32)
        return NeighborGraph(np.append(part, 0), nothing.astype(np.int32), nothing, part.astype(bool), part)
    weights = likeness(cosines, zero_cosine(cosines))
    crowded = (weights.min(axis=1) >= DUPLICATE_WEIGHT) & (num_listed < num_rows - 1)
    rows, places = np.nonzero(weights)
    pairs, weights = _pairs(rows, nearest[rows, places].astype(np.int64), weights[rows, places], num_rows)
    low, high = pairs // num_rows, pairs % num_rows
    rows, columns = np.concatenate([low, high]), np.concatenate([high, low])
    order = np.argsort(rows * num_rows + columns)
    starts = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=num_rows))])
    return NeighborGraph(
        starts, columns[order].astype(np.int32), np.concatenate([weights, weights])[order], crowded, part
    )


def zero_cosine(listed: np.ndarray) -> np.float32:
    """The cosine that means no likeness in a class, from the cosines of rows with their nearest, one or more."""
    return np.float32(min(np.median(listed), _HIGHEST_ZERO))


def likeness(cosines: np.ndarray, zero: np.ndarray | np.float32) -> np.ndarray:
    """The likeness W in [0, 1], float32, of rows with these cosines, float32; `zero` as by [`zero_cosine`]."""
    return np.clip((cosines - zero) / (1 - zero), 0, 1) ** 2


def joined_graph(parts: Sequence[tuple[np.ndarray, NeighborGraph]], num_rows: int) -> NeighborGraph:
    """One graph over all rows from the row numbers and the graph of each class, the same for any order of these.

    Rows of no class, such as unreadable ones, have no edges.
    """
    degrees, crowded = np.zeros(num_rows, dtype=np.int64), np.zeros(num_rows, dtype=bool)
    part = np.full(num_rows, -1, dtype=np.int64)
    for rows, graph in parts:
        degrees[rows] = np.diff(graph.starts)
        crowded[rows] = graph.crowded
        part[rows] = rows.min()
    starts = np.concatenate([[0], np.cumsum(degrees)])
    columns, weights = np.empty(starts[-1], dtype=np.int32), np.empty(starts[-1], dtype=np.float32)
    for rows, graph in parts:
        places = np.repeat(starts[rows] - graph.starts[:-1], np.diff(graph.starts)) + np.arange(len(graph.columns))
        columns[places] = rows[graph.columns]
        weights[places] = graph.weights
    return NeighborGraph(starts, columns, weights, crowded, part)


def _pairs(rows: np.ndarray, columns: np.ndarray, weights: np.ndarray, num_rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Each pair once, as `low * num_rows + high`, rising, and its weight.

    Two rows may list each other with cosines that rounding sets apart; the larger counts.
    """
    keys = np.minimum(rows, columns) * num_rows + np.maximum(rows, columns)
    order = np.argsort(keys)
    keys = keys[order]
    first = np.flatnonzero(np.diff(keys, prepend=-1))
    return keys[first], np.maximum.reduceat(weights[order], first) if len(first) else weights
