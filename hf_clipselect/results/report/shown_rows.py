"""Which rows the page shows: suspects, examples of confused pairs, and for each size what lies at the cut and off it.

Rows are row numbers of the scores table. C classes, or clusters of rows with captions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from datasets import Dataset

from ..noise_summary import has_noise_model
from ..scores_table import column_values
from .suspects import pick_suspects


NUM_SUSPECTS = 120
NUM_SHOWN = 16
MAX_CUTS = 24
MAX_PAIRS = 20
EXAMPLES_OF_PAIR = 2


@dataclass(frozen=True)
class Cut:
    """The last row of a class that a size keeps, and the first that it drops; None where there is no such row."""

    label: int
    kept: int | None
    dropped: int | None


@dataclass(frozen=True)
class Pair:
    """How many suspect rows of a label look like another class, their share of the label's rows, and the first two."""

    label: int
    proposed: int
    rows: int
    share: float
    examples: list[int]


@dataclass(frozen=True)
class RowsOfSize:
    """What one size keeps and drops, at most 16 rows of a kind and the cuts of 24 classes."""

    best: np.ndarray
    dropped: np.ndarray
    cuts: list[Cut]


def rows_of_size(scores: Dataset, suffix: str, classes: Sequence[int], forced: np.ndarray) -> RowsOfSize:
    """What one size keeps and drops, with the cuts of these classes.

    `best` are the rows kept with the highest selection score; `dropped` are spread evenly over the others, from the
    highest score to the lowest; ties break by row number. `forced` `(N,)`, bool, are rows that are kept or dropped
    whatever their score: they lie at no cut.
    """
    score, kept = (column_values(scores, f"{name}_{suffix}") for name in ("selection_score", "selected"))
    scored = np.isfinite(score)
    dropped = _descending(score, ~kept & scored)
    spread = np.linspace(0, len(dropped) - 1, min(NUM_SHOWN, len(dropped))).astype(np.int64)
    best = _descending(score, kept & scored)[:NUM_SHOWN]
    labels, by_score = column_values(scores, "label"), scored & ~forced
    # Of equal rows the one with the lower number is kept: the last kept has the highest, the first dropped the lowest.
    last = _edges(labels, -score, np.flatnonzero(kept & by_score))
    first = _edges(labels, score, np.flatnonzero(~kept & by_score)[::-1])
    cuts = [Cut(label, last.get(label), first.get(label)) for label in classes]
    return RowsOfSize(best, dropped[spread], [cut for cut in cuts if (cut.kept, cut.dropped) != (None, None)])


def forced_rows(scores: Dataset, report: Mapping[str, Any]) -> np.ndarray:
    """Which rows a run keeps or drops whatever their score, `(N,)`, bool."""
    forced = np.zeros(len(scores), dtype=bool)
    for name in {"must_keep", "must_drop"} & set(scores.column_names):
        forced |= column_values(scores, name)
    if (report.get("leaks") or {}).get("dropped") and "leak_of" in scores.column_names:
        forced |= column_values(scores, "leak_of") >= 0
    if (report.get("quality") or {}).get("dropped") and "quality_issues" in scores.column_names:
        forced |= column_values(scores, "quality_issues") != ""
    return forced


def classes_to_cut(scores: Dataset) -> list[int]:
    """The classes that have rows, in their order; of more than 24 those whose labels look wrong most often, or with
    which CLIP agrees least.
    """
    readable = column_values(scores, "predicted_label") >= 0
    labels = column_values(scores, "label")[readable]
    rows = np.bincount(labels)
    classes = np.flatnonzero(rows)
    if len(classes) > MAX_CUTS:
        name = "label_error_probability" if has_noise_model(scores) else "label_agrees"
        wrong = column_values(scores, name)[readable].astype(np.float64)
        wrong = wrong if has_noise_model(scores) else 1 - wrong
        share = np.bincount(labels, weights=wrong, minlength=len(rows))[classes] / rows[classes]
        classes = classes[np.argsort(-share, kind="stable")[:MAX_CUTS]]
    return classes.tolist()


def confused_pairs(scores: Dataset) -> list[Pair]:
    """The most frequent pairs of a label and what its suspect rows look like, at most 20; ties go by the numbers of
    the classes.
    """
    suspects = pick_suspects(scores)
    labels = column_values(scores, "label")
    proposed = column_values(scores, "clean_label" if has_noise_model(scores) else "predicted_label")
    num_classes = int(max(labels.max(initial=0), proposed.max(initial=0))) + 1
    of_label = np.bincount(labels[column_values(scores, "predicted_label") >= 0])
    codes = labels[suspects] * num_classes + proposed[suspects]
    pairs, counts = np.unique(codes, return_counts=True)
    found = []
    for place in np.argsort(-counts, kind="stable")[:MAX_PAIRS].tolist():
        label, other = divmod(int(pairs[place]), num_classes)
        examples = suspects[codes == pairs[place]][:EXAMPLES_OF_PAIR].tolist()
        rows = int(counts[place])
        found.append(Pair(label, other, rows, rows / int(of_label[label]), examples))
    return found


def _edges(labels: np.ndarray, score: np.ndarray, rows: np.ndarray) -> dict[int, int]:
    """Of each class the one of these rows with the highest score, of equal ones the last; sorts nothing."""
    highest = np.full(labels.max(initial=0) + 1, -np.inf)
    np.maximum.at(highest, labels[rows], score[rows])
    rows = rows[score[rows] == highest[labels[rows]]]
    return dict(zip(labels[rows].tolist(), rows.tolist(), strict=True))


def _descending(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(-values[rows], kind="stable")]
