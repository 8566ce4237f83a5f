"""What a person decided about single rows after looking at them: `decisions.parquet`, one line for each row."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError
from ..runtime.files import read_plain_file, write_atomically
from ..runtime.words import counted, cut, listed


Choice = Literal["keep", "relabel", "drop", "unsure"]
CHOICES: tuple[str, ...] = get_args(Choice)
SCHEMA = pa.schema(
    {
        "source_index": pa.int64(),
        "decision": pa.string(),
        "new_label": pa.string(),
        "when": pa.timestamp("us", tz="UTC"),
        "given_label": pa.string(),
        "reviewer": pa.string(),
    }
)
_NEEDED = ("source_index", "decision", "new_label")
# In the column of a scores table, beside the choices: of a row that nobody decided about.
UNDECIDED = ""
_SHOWN = 40


@dataclass(frozen=True)
class Decision:
    """What was decided about one row.

    `keep` says that its label is right, `relabel` that `new_label`, the name of a class, is; `drop` leaves the row out
    of every subset, and `unsure` changes nothing. `given_label` is the name of the label that the reviewer saw,
    or the caption, by which a decision about another dataset is found out. `reviewer` stays on this machine.
    """

    source_index: int
    decision: Choice
    new_label: str | None = None
    when: datetime | None = None
    given_label: str | None = None
    reviewer: str | None = None


def write_decisions(path: Path, decisions: dict[int, Decision]) -> None:
    """Write all decisions, by source_index; a killed process leaves the file of before, or this one."""
    rows = [asdict(decisions[number]) for number in sorted(decisions)]
    buffer = BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), buffer)
    write_atomically(path, buffer.getvalue())


def read_decisions(path: str | Path) -> dict[int, Decision]:
    """Read `decisions.parquet`: source_index (int64) -> what was decided.

    Of the columns `source_index`, `decision` and `new_label` are needed. Raises `InputError` where the file can't be
    read, a column is missing, a decision is none of the four, a row stands there twice, or `relabel` names no class.
    """
    try:
        table = pq.read_table(BytesIO(read_plain_file(path)))
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        if isinstance(error, pa.ArrowException):
            reason = "it is no whole Parquet file"
        raise InputError(
            f"--decisions {path} can't be read ({reason}); give the decisions.parquet that hf-clipselect explore "
            "wrote."
        ) from None
    if missing := [name for name in _NEEDED if name not in table.column_names]:
        raise InputError(
            f"--decisions {path} lacks the column {', '.join(missing)}; it needs {', '.join(_NEEDED)}, and has "
            f"{', '.join(table.column_names)}."
        )
    known = [name for name in SCHEMA.names if name in table.column_names]
    try:
        table = table.select(known).cast(pa.schema([SCHEMA.field(name) for name in known]))
    except (pa.ArrowException, ValueError) as error:
        raise InputError(f"--decisions {path} has a column of another type: {str(error).splitlines()[0]}.") from None
    decisions: dict[int, Decision] = {}
    for row in table.to_pylist():
        decision = Decision(**row)
        _check(decision, f"--decisions {path}")
        if decision.source_index in decisions:
            raise InputError(
                f"--decisions {path} decides about row {decision.source_index} twice; leave one line for each row."
            )
        decisions[decision.source_index] = decision
    return decisions


def checked_decisions(decisions: Mapping[int, Decision] | str | Path | None) -> dict[int, Decision] | None:
    """Row -> what was decided about it, read from the file if `decisions` is a path.

    Raises `InputError` as [`read_decisions`], or where a decision stands at the number of another row.
    """
    if isinstance(decisions, (str, Path)):
        return read_decisions(decisions)
    if decisions is None:
        return None
    for number, decision in decisions.items():
        _check(decision, "--decisions")
        if number != decision.source_index:
            raise InputError(f"--decisions has the decision about row {decision.source_index} at row {number}.")
    return dict(decisions)


@dataclass(frozen=True)
class DecidedRows:
    """The decisions about the N rows considered, each an array of shape `(N,)`.

    `digest` is a hash of all decisions, also of those about rows that are not considered.
    """

    decision: np.ndarray  # object of `str`: one of CHOICES, or UNDECIDED
    given_labels: np.ndarray  # int64: class of each row in the source
    labels: np.ndarray  # int64: class of each row after the decisions
    digest: str

    @property
    def is_dropped(self) -> np.ndarray:
        """Which rows no subset may hold, `(N,)`, bool."""
        return self.decision == "drop"

    def of_rows(self, rows: np.ndarray) -> "DecidedRows":
        """The same of some rows."""
        return replace(
            self, decision=self.decision[rows], given_labels=self.given_labels[rows], labels=self.labels[rows]
        )

    def to_dict(self) -> dict[str, Any]:
        """What config.yaml tells of the decisions: how many of each, and the hash; not who made them."""
        return {**count_decisions(self.decision), "digest": self.digest}


def apply_decisions(
    decisions: Mapping[int, Decision], labels: np.ndarray, class_names: Sequence[str], *, has_captions: bool = False
) -> DecidedRows:
    """The decisions about the rows of a split, whose given labels `(N,)`, int64, are numbers of these names.

    A new label that is the given one counts as `keep`. Captions, which count as labels, can't be changed.

    Raises `InputError` where a row is none of the split, a class does not exist, the reviewer saw another label than
    the given one, or another caption, or a caption is to be changed.
    """
    _check_rows(decisions, labels, class_names, has_captions=has_captions)
    numbers = {name: number for number, name in enumerate(class_names)}
    decision_of, changed = np.full(len(labels), UNDECIDED, dtype=object), labels.copy()
    for row, decision in decisions.items():
        decision_of[row] = decision.decision
        if decision.new_label is None:
            continue
        if has_captions:
            raise InputError(
                f"--decisions gives row {row} another label, and the rows have captions, which it can't change; "
                "decide keep, drop or unsure about them, or correct the captions in the dataset."
            )
        if decision.new_label not in numbers:
            raise InputError(
                f"--decisions gives row {row} the label {decision.new_label!r}, and there is no such class; the "
                f"classes are {listed(class_names)}."
            )
        changed[row] = numbers[decision.new_label]
        if changed[row] == labels[row]:
            decision_of[row] = "keep"
    content = [[row, decisions[row].decision, decisions[row].new_label] for row in sorted(decisions)]
    digest = hashlib.sha256(json.dumps(content).encode()).hexdigest()[:16]
    return DecidedRows(decision_of, labels, changed, digest)


def is_right(decision: np.ndarray) -> np.ndarray:
    """Which rows have a label that a person took for right, `(N,)`, bool: the given one, or a new one."""
    return (decision == "keep") | (decision == "relabel")


def count_decisions(decision: np.ndarray) -> dict[str, int]:
    """How many rows of a column of decisions `(N,)` were decided in each way."""
    return {choice: int(np.count_nonzero(decision == choice)) for choice in CHOICES}


def decisions_in_words(counts: Mapping[str, int]) -> str:
    """Such counts as a line: "12 labels changed, 5 kept, 3 rows dropped, 1 unsure"."""
    changed, dropped = counted(counts["relabel"], "label"), counted(counts["drop"], "row")
    return f"{changed} changed, {counts['keep']} kept, {dropped} dropped, {counts['unsure']} unsure"


def _check(decision: Decision, told: str) -> None:
    number, choice, new = decision.source_index, decision.decision, decision.new_label
    if number is None or choice not in CHOICES:
        raise InputError(f"{told} decides {choice!r} about row {number}; a decision is one of {', '.join(CHOICES)}.")
    if (choice == "relabel") != (new is not None):
        needs = "names no new label" if new is None else f"has the new label {new!r}"
        raise InputError(
            f"{told}: row {number} {needs}, decided as {choice!r}; new_label is the name of a class for relabel, and "
            "empty for every other decision."
        )


def _check_rows(
    decisions: Mapping[int, Decision], labels: np.ndarray, class_names: Sequence[str], *, has_captions: bool
) -> None:
    """Refuse decisions about another dataset, which is known by its labels or captions too."""
    if unknown := sorted(row for row in decisions if not 0 <= row < len(labels)):
        raise InputError(
            f"--decisions decides about {counted(len(unknown), 'row')} that the dataset does not have, first row "
            f"{unknown[0]}; its {counted(len(labels), 'row')} go from 0 to {len(labels) - 1}. Give the decisions that "
            "were made about this dataset."
        )
    seen = {row: decision.given_label for row, decision in decisions.items() if decision.given_label is not None}
    if other := [row for row in sorted(seen) if seen[row] != class_names[labels[row]]]:
        row = other[0]
        what, found = ("caption", "captioned") if has_captions else ("label", "labelled")
        raise InputError(
            f"--decisions was made about other {what}s: of {counted(len(other), 'row')} the {what} that the reviewer "
            f"saw is not the one in the dataset, first row {row}, seen as {cut(repr(seen[row]), _SHOWN)} and {found} "
            f"{cut(repr(class_names[labels[row]]), _SHOWN)}. Give the decisions that were made about this dataset."
        )
