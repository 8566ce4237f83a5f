"""What a person decided about single rows after looking at them: `decisions.parquet`, one line for each row."""

from dataclasses import asdict, dataclass
from datetime import datetime
from io import BytesIO
from pathlib import Path
from typing import Literal, get_args

import pyarrow as pa
import pyarrow.parquet as pq

from ..errors import InputError
from ..runtime.files import read_plain_file, write_atomically


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


@dataclass(frozen=True)
class Decision:
    """What was decided about one row.

    `keep` says that its label is right, `relabel` that `new_label`, the name of a class, is; `drop` leaves the row out
    of every subset, and `unsure` changes nothing. `given_label` is the name of the label that the reviewer saw, by
    which a decision about another dataset is found out. `reviewer` stays on this machine.
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
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error).splitlines()[0]
        raise InputError(
            f"--decisions {path} can't be read ({reason}); give the decisions.parquet that "
            "hf-clipselect explore wrote."
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
        number = row["source_index"]
        _check(row, path)
        if number in decisions:
            raise InputError(f"--decisions {path} decides about row {number} twice; leave one line for each row.")
        decisions[number] = Decision(**row)
    return decisions


def _check(row: dict[str, object], path: str | Path) -> None:
    number, decision, new = row["source_index"], row["decision"], row["new_label"]
    if number is None or decision not in CHOICES:
        raise InputError(
            f"--decisions {path} decides {decision!r} about row {number}; a decision is one of {', '.join(CHOICES)}."
        )
    if (decision == "relabel") != (new is not None):
        needs = "names no new label" if new is None else f"has the new label {new!r}"
        raise InputError(
            f"--decisions {path}: row {number} {needs}, decided as {decision!r}; new_label is the name of a class for "
            "relabel, and empty for every other decision."
        )
