"""Sizes that earlier runs in a folder selected from the same scores: they stay beside those that are asked for now."""

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
from datasets import Dataset

from ..errors import InputError
from ..runtime.notices import NOT_IN_REPORT
from ..runtime.processes import Processes
from ..selection import Size, column_suffix, config_name
from .scores_table import NOISE_COLUMNS, column_values, is_selection_column, join_columns
from .selection_result import SelectionResult


logger = logging.getLogger(__name__)

_SOURCE_FIELDS = ("fingerprint", "content_id", "num_rows", "image_column", "label_column")
# Scores that differ by less are the same.
_LAST_DIGITS = 1e-5
_Kept = tuple[list[Size], dict[str, np.ndarray]]


def with_earlier_sizes(result: SelectionResult, subset: Path, processes: Processes) -> SelectionResult:
    """Add the sizes that are in the folder already, where nothing but the sizes is new; tell which ones go otherwise.

    The rows of an earlier size stay what they were, behind those that are asked for. Since a folder of subsets is
    replaced as a whole, a run that was killed and is repeated finds the same sizes again, or those and its own. The
    main process looks.
    """
    sizes, columns = processes.broadcast(_earlier(result, subset) if processes.index == 0 else None)
    if not sizes:
        return result
    reason = {"reason": column_values(result.scores, "reason")}
    scores = join_columns(join_columns(result.scores.remove_columns("reason"), columns), reason)
    return replace(result, scores=scores, ratios=(*result.ratios, *sizes))


def _earlier(result: SelectionResult, subset: Path) -> _Kept:
    if not (subset / "selection.json").exists():
        return [], {}
    try:
        earlier = SelectionResult.from_folder(subset)
    except InputError as error:
        logger.warning("What an earlier run left is replaced. %s", error, extra=NOT_IN_REPORT)
        return [], {}
    asked = set(map(column_suffix, result.ratios))
    others = [size for size in earlier.ratios if column_suffix(size) not in asked]
    names = ", ".join(map(config_name, others))
    if others and not _same_but_for_sizes(earlier, result):
        logger.warning(
            "Subsets of an earlier run go from %s, since the scores or the settings of the selection are others "
            "now: %s. Name their sizes too to have them anew.",
            subset,
            names,
            extra=NOT_IN_REPORT,
        )
        return [], {}
    if others:
        logger.info("Subsets of an earlier run stay in %s, since the scores are the same: %s.", subset, names)
    columns = [f"{kind}_{column_suffix(size)}" for size in others for kind in ("selection_score", "selected")]
    return others, {name: column_values(earlier.scores, name) for name in columns}


def _same_but_for_sizes(earlier: SelectionResult, result: SelectionResult) -> bool:
    if (earlier.objective, earlier.seed) != (result.objective, result.seed):
        return False
    if any(getattr(earlier.source, name) != getattr(result.source, name) for name in _SOURCE_FIELDS):
        return False
    names = [_scores_of(table) for table in (earlier.scores, result.scores)]
    if not result.objective.needs_noise_model:
        # Then only "auto" needs the columns of the noise model, and what an earlier one kept has columns of its own.
        lacking = NOISE_COLUMNS - (set(names[0]) & set(names[1]))
        names = [[name for name in of_table if name not in lacking] for of_table in names]
    before, now = earlier.scores.select_columns(names[0]), result.scores.select_columns(names[1])
    return before.features == now.features and all(
        _is_equal(column_values(before, name), column_values(now, name)) for name in now.column_names
    )


def _scores_of(table: Dataset) -> list[str]:
    return [name for name in table.column_names if not is_selection_column(name)]


def _is_equal(one: np.ndarray, other: np.ndarray) -> bool:
    if one.dtype.kind == "f":
        # Another machine gives other last digits; rows that could not be read have no score.
        return np.allclose(one, other, rtol=0, atol=_LAST_DIGITS, equal_nan=True)
    return np.array_equal(one, other)
