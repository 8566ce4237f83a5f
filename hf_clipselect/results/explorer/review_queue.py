"""The queue of a review: suspect rows, most probably wrong first, and where a person stands in it."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from .decision_log import DecisionLog
from .explored import Explored


MOST_PAIRS = 200


@dataclass(frozen=True)
class Pair:
    """Suspect rows of one given class that look like one other."""

    given: int
    proposed: int
    rows: int


@dataclass(frozen=True)
class QueueFilter:
    """Of which suspects the queue consists: of all, of one given class, or of one pair (given, proposed)."""

    label: int | None = None
    pair: tuple[int, int] | None = None


def confused_pairs(explored: Explored) -> list[Pair]:
    """The most frequent pairs of given and proposed class among the suspects, most frequent first, at most 200."""
    rows, num_classes = explored.suspects, len(explored.names)
    codes = explored.given[rows] * num_classes + explored.proposed[rows]
    pairs, counts = np.unique(codes, return_counts=True)
    most = np.argsort(-counts, kind="stable")[:MOST_PAIRS]
    return [
        Pair(code // num_classes, code % num_classes, count)
        for code, count in zip(pairs[most].tolist(), counts[most].tolist(), strict=True)
    ]


@lru_cache(maxsize=8)
def queue_of(explored: Explored, wanted: QueueFilter) -> np.ndarray:
    """Rows of the scores table, int64, in the order of review."""
    rows = explored.suspects
    if wanted.label is not None:
        rows = rows[explored.given[rows] == wanted.label]
    if wanted.pair is not None:
        given, proposed = wanted.pair
        rows = rows[(explored.given[rows] == given) & (explored.proposed[rows] == proposed)]
    return rows


def num_reviewed(explored: Explored, rows: np.ndarray, log: DecisionLog) -> int:
    return int(_is_decided(explored, rows, log).sum())


def next_open(explored: Explored, rows: np.ndarray, log: DecisionLog, position: int = 0) -> int:
    """The first place without a decision from `position` on, then from the start; `len(rows)` if there is none."""
    places = np.flatnonzero(~_is_decided(explored, rows, log))
    if not len(places):
        return len(rows)
    return int(places[np.searchsorted(places, position) % len(places)])


def _is_decided(explored: Explored, rows: np.ndarray, log: DecisionLog) -> np.ndarray:
    decided = np.fromiter(log.decided(), dtype=np.int64)
    return np.isin(explored.source_index[rows], decided)
