"""From the columns of a scores table to subsets: what is selected from, and the columns that tell what was."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from datasets import Dataset

from ..data.row_facts import RowFacts
from ..errors import InputError
from ..runtime.words import are, there_are
from ..selection import (
    AUTO,
    FIRST,
    LAST,
    MUST_DROP,
    MUST_KEEP,
    NOT_READABLE,
    Candidates,
    NeighborGraph,
    Objective,
    RowColumns,
    Size,
    check_size,
    column_suffix,
    largest_remainder,
    passes_gate,
    quota_weights,
    reasons,
    redundancy_scores,
    resolved_count,
    safe_pool,
    select_subsets,
    selection_scores,
)
from .scores_table import SCORE_COLUMNS, column_values, is_selection_column, join_columns


logger = logging.getLogger(__name__)

# Fields of `RowColumns`, each with its column of the table; not every table has all of them.
_COLUMNS = {name: name for name in (*SCORE_COLUMNS, "ensemble", "clean_label", "class_rank")}
_COLUMNS["error_probability"] = "label_error_probability"


def select_from_table(
    table: Dataset,
    objective: Objective,
    sizes: Sequence[Size],
    *,
    graph: NeighborGraph | None = None,
) -> Dataset:
    """Add selection_score_<percent> and selected_<percent> of each size to a scores table, and reasons for the first.

    Columns of earlier selections are replaced. The sizes count readable rows; the graph tells which of these are
    alike. Where redundancy counts and there is no graph, the scores of an earlier selection of the table are taken,
    which know of it.

    Raises `InputError` where a size keeps no row or more than there are, the quotas can't be met, solver "sgd" can't
    converge, or the table lacks what the objective or the size "auto" needs.
    """
    base = table.select_columns([name for name in table.column_names if not is_selection_column(name)])
    rows = _readable_rows(base, objective)
    if AUTO in sizes and rows.columns.error_probability is None:
        raise InputError(
            "--selection_ratio auto needs the column label_error_probability, which these scores lack; they have "
            f"{', '.join(base.column_names)}. Select anew with auto among the sizes, or give a number in (0, 1]."
        )
    names = table.features["label"].names
    candidates = replace(
        _candidates(rows.columns.labels, names, rows.facts, objective, rows.first),
        error_probability=rows.columns.error_probability,
    )
    num_readable = len(rows.places)
    ratios = [
        size if isinstance(size, float) else resolved_count(size, candidates, objective) / num_readable
        for size in sizes
    ]
    by_ratio = {
        ratio: _ranked_by(table, rows, objective, ratio, candidates, graph)
        for ratio in (set(ratios) if objective.alpha_is_ratio else ratios[:1])
    }
    scores = [by_ratio[ratio if objective.alpha_is_ratio else ratios[0]] for ratio in ratios]
    subsets = select_subsets(scores, candidates, sizes, objective)
    if sizes[0] != AUTO or objective.class_balance != "proportional":  # there no cell gets what another lacks
        _warn_of_small_cells(candidates, objective, resolved_count(sizes[0], candidates, objective))
    added: dict[str, np.ndarray] = {}
    for size, score, subset in zip(sizes, scores, subsets, strict=True):
        selected = np.zeros(num_readable, dtype=bool)
        selected[subset] = True
        added[f"selection_score_{column_suffix(size)}"] = rows.scattered(score, np.nan)
        added[f"selected_{column_suffix(size)}"] = rows.scattered(selected, False)
    kept = added[f"selected_{column_suffix(sizes[0])}"][rows.places]
    added["reason"] = _reasons(base, rows, objective, scores[0], kept)
    return join_columns(base, added)


def add_reason(table: Dataset, objective: Objective, size: Size) -> Dataset:
    """Add the column `reason`, which tells why a size keeps each row or not, to a table that has none."""
    rows, suffix = _readable_rows(table, objective), column_suffix(size)
    scores, kept = (column_values(table, f"{kind}_{suffix}")[rows.places] for kind in ("selection_score", "selected"))
    return join_columns(table, {"reason": _reasons(table, rows, objective, scores, kept)})


def check_demands(
    labels: np.ndarray, class_names: Sequence[str], facts: RowFacts, objective: Objective, sizes: Sequence[Size]
) -> None:
    """Raise `InputError`, as [`select_from_table`], for sizes, quotas and lists of rows that can't be met, before any
    image is encoded. Takes the labels `(N,)`, int64, and what a user says of these rows.
    """
    candidates = _candidates(labels, class_names, facts, objective, None)
    for size in sizes:
        check_size(candidates, size, objective)


@dataclass(frozen=True)
class _ReadableRows:
    """The rows that can be selected from: their places in the table, what is known of them, which come first."""

    num_rows: int
    places: np.ndarray
    columns: RowColumns
    facts: RowFacts
    first: np.ndarray | None

    def scattered(self, values: np.ndarray, elsewhere: object) -> np.ndarray:
        spread = np.full(self.num_rows, elsewhere, dtype=values.dtype)
        spread[self.places] = values
        return spread


def _readable_rows(table: Dataset, objective: Objective) -> _ReadableRows:
    for knob, column in _needed_columns(objective):
        if column not in table.column_names:
            raise InputError(
                f"--{knob} needs the column {column}, which these scores lack; they have "
                f"{', '.join(table.column_names)}."
            )
    places = np.flatnonzero(~np.isnan(column_values(table, "sas")))
    names = {"labels": "label", "agrees": "label_agrees"}
    names |= {name: column for name, column in _COLUMNS.items() if column in table.column_names}
    columns = RowColumns(**{argument: column_values(table, name)[places] for argument, name in names.items()})
    told = [column.name for column in fields(RowFacts) if column.name in table.column_names]
    facts = RowFacts(**{name: column_values(table, name)[places] for name in told})
    return _ReadableRows(len(table), places, columns, facts, _first_rows(objective, columns))


def _first_rows(objective: Objective, columns: RowColumns) -> np.ndarray | None:
    """The rows that come before the others in all that they share a quota with, `(N,)`, bool; None where none do.

    Ranks of herding tell which rows of a class come first, but not that doubtful ones of one class come behind safe
    ones of another, nor that they come behind safe ones that are like a kept row.
    """
    if objective.gate:
        return passes_gate(objective, columns)
    return safe_pool(columns.needed("error_probability")) if objective.herding else None


def _needed_columns(objective: Objective) -> Iterator[tuple[str, str]]:
    """Columns that only some tables have, each with the knob that needs it."""
    if objective.alignment == "ensemble":
        yield "alignment ensemble", "ensemble"
    if objective.needs_noise_model:
        knob = "herding true" if objective.herding else "alignment noise_model"
        yield knob, "label_error_probability"
        yield knob, "clean_label"
    if objective.herding:
        yield "herding true", "class_rank"


def _reasons(
    table: Dataset, rows: _ReadableRows, objective: Objective, scores: np.ndarray, selected: np.ndarray
) -> np.ndarray:
    """The reason for each row of the table, strings; scores and what is selected, bool, are those of readable rows."""
    decision = rows.facts.decision
    why = reasons(
        objective,
        rows.columns,
        scores=scores,
        selected=selected,
        tiers=_tiers(rows.facts, rows.first),
        duplicate_group=column_values(table, "duplicate_group")[rows.places],
        source_index=column_values(table, "source_index")[rows.places],
        class_names=table.features["label"].names,
        dropped_by_reviewer=None if decision is None else decision == "drop",
        leak_of=rows.facts.leak_of,
        quality_issues=rows.facts.quality_issues,
    )
    return rows.scattered(why, NOT_READABLE)


def _candidates(
    labels: np.ndarray, class_names: Sequence[str], facts: RowFacts, objective: Objective, first: np.ndarray | None
) -> Candidates:
    """The cells that quotas are for, numbered among those that have rows, and the tiers."""
    if objective.balance_by == "group":
        if facts.group is None:
            raise InputError(
                "--balance_by group needs a category for each row; name its column with --group_column, or pass "
                "groups beside embeddings."
            )
        groups, cells = np.unique(facts.group.astype(str), return_inverse=True)
        names = groups.tolist()
    else:
        classes, cells = np.unique(labels, return_inverse=True)
        names = [class_names[label] for label in classes]
    quotas = objective.class_quotas or {}
    if unknown := [name for name in quotas if name not in names]:
        raise InputError(
            f"--class_quotas_file names {', '.join(unknown[:5])}, which no row has as its {objective.balance_by}; "
            f"{there_are(names)}."
        )
    counts = {names.index(name): count for name, count in quotas.items()}
    return Candidates(cells, _tiers(facts, first), counts, names)


def _tiers(facts: RowFacts, first: np.ndarray | None) -> np.ndarray | None:
    listed = [
        (rows, tier) for rows, tier in ((facts.must_keep, MUST_KEEP), (facts.must_drop, MUST_DROP)) if rows is not None
    ]
    if not listed and first is None:
        return None
    tiers = np.full(len(listed[0][0]), FIRST) if first is None else np.where(first, FIRST, LAST)
    for rows, tier in listed:
        tiers[rows] = tier
    return tiers


def _ranked_by(
    table: Dataset,
    rows: _ReadableRows,
    objective: Objective,
    ratio: float,
    candidates: Candidates,
    graph: NeighborGraph | None,
) -> np.ndarray:
    """Scores of the readable rows, less their redundancy."""
    if not objective.redundancy_weight:
        return selection_scores(objective, rows.columns, ratio)
    if graph is not None:
        scores = selection_scores(objective, rows.columns, ratio)
        if objective.balance_by == "group":
            # A row must not lose for being like one of another group, whose quota may leave that one out.
            graph = graph.within(candidates.cells)
        return redundancy_scores(scores, graph, objective.redundancy_weight, tiers=candidates.tiers)
    earlier = [name for name in table.column_names if name.startswith("selection_score_")]
    if not earlier or objective.alpha_is_ratio:
        raise InputError(
            "--redundancy_weight compares images, which the scores alone do not tell: select again with this size "
            "beside the others."
        )
    return column_values(table, earlier[0])[rows.places]


def _warn_of_small_cells(candidates: Candidates, objective: Objective, k: int) -> None:
    """Name the classes or groups of which fewer rows may be kept than they are due; others got what was missing."""
    if objective.class_balance == "none":
        return
    sizes = np.bincount(candidates.cells)
    allowed = sizes
    if candidates.tiers is not None:
        allowed = np.bincount(candidates.cells[candidates.tiers != MUST_DROP], minlength=len(sizes))
    due = largest_remainder(quota_weights(sizes, objective.class_balance), k)
    # A quota of its own is what was asked for.
    small = np.setdiff1d(np.flatnonzero(due > allowed), list(candidates.counts))
    if len(small):
        named = ", ".join(f"{candidates.name(cell)} ({allowed[cell]} of {due[cell]})" for cell in small[:5].tolist())
        logger.warning(
            "%d of the %s quotas %s more rows than may be kept, and the rest went to the others: %s%s.",
            len(small),
            objective.balance_by,
            are(len(small)),
            named,
            ", ..." if len(small) > 5 else "",
        )
