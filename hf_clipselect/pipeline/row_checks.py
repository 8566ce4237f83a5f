"""The end of the first stage: rows that copy a reference, and damaged images, are told, or left out of every subset.

Legend: N rows considered.
"""

import logging
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..data.reference import reference_words
from ..data.row_facts import RowFacts
from ..errors import InputError
from ..runtime.hub_ids import hide_paths
from ..runtime.words import counted
from .encode import EncodedRows
from .image_checks import find_quality_issues
from .prepared import AnyPrepared, ImageInputs, check_row_demands
from .reference_copies import find_leaks


logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class RowChecks:
    """What a report says of the checks, as plain JSON types; `None` for one that was not asked for."""

    leaks: dict[str, Any] | None = None
    quality: dict[str, Any] | None = None


def check_rows(prepared: AnyPrepared, rows: EncodedRows) -> tuple[AnyPrepared, RowChecks]:
    """Look for rows that copy the reference, and for damaged images, where that is asked for.

    What is found is put into the facts of the rows; rows that are to be left out for it are among those of
    `must_drop`. Raises `InputError` where such a row is one of `--must_keep`, too few rows are left, or an image of
    the reference can't be read and `--on_bad_image` is error.
    """
    inputs, chosen, facts = prepared.inputs, prepared.arguments.selection, prepared.rows.facts
    leaks = quality = None
    if not isinstance(inputs, ImageInputs):
        return prepared, RowChecks()
    if inputs.reference is not None:
        leak_of = find_leaks(prepared, inputs, rows)
        facts, copied = replace(facts, leak_of=leak_of), leak_of >= 0
        leaks = {
            "reference": reference_words(inputs.reference.source),
            "rows": int(copied.sum()),
            "dropped": chosen.drop_leaks,
        }
        _tell(_leaked_rows(leaks), leaks, "--drop_leaks true")
        if chosen.drop_leaks:
            _check_not_kept(prepared, facts, copied, "--drop_leaks", "is a copy of row {} of the reference", leak_of)
            facts = _without(facts, copied)
    if chosen.quality_checks != "off":
        texts, counts = find_quality_issues(prepared, inputs, rows)
        issues = np.full(len(prepared.rows.labels), "", dtype=object)
        issues[rows.numbers] = texts
        facts, damaged = replace(facts, quality_issues=issues), issues != ""
        quality = {"rows": int(damaged.sum()), "dropped": chosen.quality_checks == "drop", "issues": counts}
        _tell(_damaged_rows(quality), quality, "--quality_checks drop")
        if quality["dropped"]:
            _check_not_kept(prepared, facts, damaged, "--quality_checks drop", "has a damaged image ({})", issues)
            facts = _without(facts, damaged)
    if facts.must_drop is not prepared.rows.facts.must_drop:
        _check_enough_left(prepared, rows, facts)
    return replace(prepared, rows=replace(prepared.rows, facts=facts)), RowChecks(leaks, quality)


def _leaked_rows(leaks: dict[str, Any]) -> str:
    """How many rows copy the reference: "12 rows copy images of me/digits (split test), by their embeddings"."""
    rows = leaks["rows"]
    told = f"{counted(rows, 'row') if rows else 'no row'} {'copies' if rows < 2 else 'copy'} images of"
    return f"{told} {hide_paths(leaks['reference'])}, by their embeddings"  # the sentence is published as a warning


def _damaged_rows(quality: dict[str, Any]) -> str:
    """How many images look damaged, and how: "12 images look damaged (9 blurry, 5 dark)"."""
    rows = quality["rows"]
    named = ", ".join(f"{count} {issue}" for issue, count in quality["issues"].items() if count)
    told = f"{counted(rows, 'image') if rows else 'no image'} {'looks' if rows < 2 else 'look'} damaged"
    return told + (f" ({named})" if named else "")


def _tell(clause: str, found: dict[str, Any], flag: str) -> None:
    """Of rows that were found a warning, with what became of them; of none a line of the log."""
    fate = "" if not found["rows"] else f"; they may be in the subsets, and {flag} leaves them out"
    if found["rows"] and found["dropped"]:
        fate = "; no subset holds them"
    sentence = f"{clause[0].upper()}{clause[1:]}{fate}."
    logger.log(logging.WARNING if found["rows"] else logging.INFO, "%s", sentence)


def _without(facts: RowFacts, out: np.ndarray) -> RowFacts:
    """Facts by which these rows, bool `(N,)`, are left out too."""
    if not out.any():
        return facts
    return replace(facts, must_drop=out if facts.must_drop is None else facts.must_drop | out)


def _check_not_kept(
    prepared: AnyPrepared, facts: RowFacts, out: np.ndarray, flag: str, why: str, values: np.ndarray
) -> None:
    if facts.must_keep is None or not (both := np.flatnonzero(facts.must_keep & out)).size:
        return
    first = both[0]
    others = f", and so are {counted(len(both) - 1, 'other')}" if len(both) > 1 else ""
    raise InputError(
        f"--must_keep lists row {prepared.rows.source_index[first]}, which {flag} leaves out, since it "
        f"{why.format(values[first])}{others}. Take such rows off the list, or leave {flag} out."
    )


def _check_enough_left(prepared: AnyPrepared, rows: EncodedRows, facts: RowFacts) -> None:
    """Raise `InputError` where the rows that are left don't suffice for the sizes and quotas."""
    readable = replace(
        prepared.rows,
        labels=prepared.rows.labels[rows.numbers],
        facts=RowFacts(**{name: values[rows.numbers] for name, values in facts.columns().items()}),
    )
    try:
        check_row_demands(readable, prepared.objective, prepared.sizes, num_folds=0)
    except InputError as error:
        raise InputError(
            f"{error} Rows that --drop_leaks and --quality_checks drop leave out count as --must_drop."
        ) from None
