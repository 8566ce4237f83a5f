"""Rows that repeat what is already selected: a greedy order that puts them last, and the groups of near duplicates.

The objective of the paper is a sum over rows, so it keeps or drops near duplicates as a whole, and the diversity
score, a mean over a tenth of a class, hardly sees them. This term is not in the paper.

Shapes: N rows.
"""

from heapq import heappop, heappush, heapreplace
from math import inf

import numpy as np

from .exact import finite_scores
from .neighbor_graph import DUPLICATE_WEIGHT, NeighborGraph


def redundancy_scores(
    scores: np.ndarray, graph: NeighborGraph, weight: float, *, tiers: np.ndarray | None = None
) -> np.ndarray:
    """What each row adds at the moment when a greedy selection picks it: `(N,)`, float32, at most the score.

    The greedy picks all rows one by one, always the one with the highest `score_i - weight * max W_ij` over the rows j
    picked before. The value at that moment is what it returns. Within a tier these values never rise along the order
    of the picks, so the k rows with the highest of them (of equal ones the lower row number) are the first k picks. As
    edges join rows of the same class only, this holds for the rows of a class alone as well, and with that for quotas
    of classes; for those of other cells the graph has to be one [`NeighborGraph.within`] the cells.

    In a group of near duplicates too large for the lists of nearest rows, some copies have no edge between them: there
    every member counts as a near duplicate of the one picked first. The greedy is evaluated lazily
    (https://doi.org/10.1007/BFb0006528), which takes O(N log N) time for a bounded number of edges per row.

    Takes finite scores `(N,)`, of which float32 is ranked, and the likeness W of the rows; `weight`, at least 0, is
    what an exact copy of a picked row loses. All rows of a lower tier, integers `(N,)`, are picked before any of a
    higher one; values of different tiers can't be compared: order rows by tier first. Raises `InputError` where a
    score is not finite.
    """
    scores = np.ascontiguousarray(finite_scores(scores), dtype=np.float32)
    tiers = np.zeros(len(scores), dtype=np.int64) if tiers is None else tiers
    greedy = _LazyGreedy(scores, graph, float(weight))
    # No edge joins two classes. One after the other they stay in a core's cache, which halves the time of many rows.
    order = np.lexsort((tiers, graph.part))
    parts, tiers = graph.part[order], tiers[order]
    for rows in np.split(order, np.flatnonzero((np.diff(parts) != 0) | (np.diff(tiers) != 0)) + 1):
        greedy.pick(rows)
    return greedy.gains


def duplicate_groups(graph: NeighborGraph, threshold: float = DUPLICATE_WEIGHT) -> np.ndarray:
    """The lowest row number of each row's group of near duplicates, `(N,)`, int64; -1 for a row that is in none.

    Rows of a group are joined by edges of at least the threshold, in (0, 1], directly or through others.
    """
    strong = graph.weights >= threshold
    rows, columns = graph.edge_rows()[strong], graph.columns[strong]
    group = np.arange(graph.num_rows, dtype=np.int64)
    while (group[rows] != group[columns]).any():
        # What a group is called after joins the lowest group beside any of its rows, then every row follows.
        np.minimum.at(group, group[rows], group[columns])
        while not np.array_equal(further := group[group], group):
            group = further
    alone = np.ones(graph.num_rows, dtype=bool)
    alone[rows] = False
    group[alone] = -1
    return group


class _LazyGreedy:
    """Picks rows by their gains. Gains only fall, so an earlier one is a bound: a row waits until its bound is next.

    The order must be that of the returned values, which are rounded to float32; so gains are worked out in `gains`.
    """

    def __init__(self, scores: np.ndarray, graph: NeighborGraph, weight: float) -> None:
        self.gains = np.empty_like(scores)
        self._scores, self._graph, self._weight = scores, graph, weight
        self._likeness = np.zeros_like(scores)  # the highest W to a row that is picked
        self._crowd_of = _crowds(graph)
        self._each_gain, self._each_score = _each(self.gains), _each(scores)
        self._each_likeness, self._each_start = _each(self._likeness), graph.starts.data

    def pick(self, rows: np.ndarray) -> None:
        """Pick all of some rows, which rise, one by one; those that were picked before count."""
        bounds = (self._scores[rows] - self._weight * self._likeness[rows].astype(np.float64)).astype(np.float32)
        order = np.argsort(-bounds, kind="stable")
        rows, bounds = rows[order], bounds[order]
        # Rows that lost something before their turn wait here for a later one: (minus a bound of the gain, row).
        waiting: list[tuple[float, int]] = []
        for row, bound in zip(rows.data, _each(bounds), strict=True):
            self._pick_before((-bound, row), waiting)
            gain = self._gain(row)
            if gain < bound:
                heappush(waiting, (-gain, row))
            else:
                self._settle(row)
        self._pick_before((inf, 0), waiting)

    def _pick_before(self, turn: tuple[float, int], waiting: list[tuple[float, int]]) -> None:
        while waiting and waiting[0] < turn:
            loss, row = waiting[0]
            gain = self._gain(row)
            if -gain > loss:
                heapreplace(waiting, (-gain, row))
            else:
                heappop(waiting)
                self._settle(row)

    def _gain(self, row: int) -> float:
        self._each_gain[row] = self._each_score[row] - self._weight * self._each_likeness[row]
        return self._each_gain[row]

    def _settle(self, row: int) -> None:
        """A picked row, whose gain stays what it was worked out to be, takes from what the rows like it would add."""
        start, end = self._each_start[row], self._each_start[row + 1]
        if start < end:
            columns = self._graph.columns[start:end]
            self._likeness[columns] = np.maximum(self._likeness[columns], self._graph.weights[start:end])
        if (crowd := self._crowd_of.get(row)) is not None:
            self._likeness[crowd] = np.maximum(self._likeness[crowd], np.float32(DUPLICATE_WEIGHT))
            for member in crowd.tolist():
                del self._crowd_of[member]


def _each(numbers: np.ndarray) -> "memoryview[float]":
    """Float32 numbers to read one by one, several times as fast as from the array itself."""
    return numbers.data.cast("B").cast("f")


def _crowds(graph: NeighborGraph) -> dict[int, np.ndarray]:
    """For each row of a group of near duplicates that some member's list can't hold, all rows of the group."""
    if not graph.crowded.any():
        return {}
    groups = duplicate_groups(graph)
    crowded = np.unique(groups[graph.crowded])
    members = np.flatnonzero(np.isin(groups, crowded))
    members = members[np.argsort(groups[members], kind="stable")]
    crowds = np.split(members, np.flatnonzero(np.diff(groups[members])) + 1)
    return {row: crowd for crowd in crowds for row in crowd.tolist()}
