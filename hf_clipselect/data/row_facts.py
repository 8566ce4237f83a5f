"""What users say of rows and classes, in files and in columns of the dataset."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import yaml
from datasets import ClassLabel, Dataset, Features, Value

from ..config.yaml_file import read_lines
from ..errors import InputError
from ..runtime.words import are, counted, cut, there_are
from ..scores.arrays import as_numpy, on_its_device
from ..scores.sample_scores import ArrayColumns
from .columns import column_array
from .decisions import DecidedRows


# A group for every row would say nothing and fill the report.
_MOST_GROUPS = 1000

Listing = str | Path | Sequence[int] | np.ndarray


@dataclass(frozen=True)
class RowFacts(ArrayColumns):
    """What is said of the rows, by a user and by checks of the images: arrays of shape `(num_rows,)` or `None`."""

    group: np.ndarray | None = None  # object of `str`: category of each row, such as its source or camera
    must_keep: np.ndarray | None = None  # bool: rows that every subset holds
    must_drop: np.ndarray | None = None  # bool: rows that none holds
    given_label: np.ndarray | None = None  # int64: class in the source, where a person decided about labels
    decision: np.ndarray | None = None  # object of `str`: what a person decided, as in [`DecidedRows`]
    leak_of: np.ndarray | None = None  # int64: row of the reference that a row is a copy of, -1 where of none
    row_id: np.ndarray | None = None  # object of `str`: what a column says that is another for each row
    quality_issues: np.ndarray | None = None  # object of `str`: what is wrong with an image, "blurry, dark", or ""


def read_facts(
    dataset: Dataset,
    source_index: np.ndarray,
    *,
    group_column: str | None = None,
    id_column: str | None = None,
    must_keep: Listing | None = None,
    must_drop: Listing | None = None,
    decided: DecidedRows | None = None,
    has_captions: bool = False,
) -> RowFacts:
    """Read what a user says of the N rows of a dataset, whose numbers in the source are `source_index` `(N,)`, rising.

    `group_column` holds strings, integers, booleans or class labels, and `id_column` is as [`read_ids`] takes it;
    `must_keep` and `must_drop` are as in [`listed_rows`]; what a person decided to drop counts as dropped too, and of
    captions there are no given labels. Raises `InputError` where a column or file is missing or holds something else,
    or a row is to be kept and dropped.
    """
    kept, dropped = (
        None if listing is None else listed_rows(listing, flag, dataset=dataset, source_index=source_index)
        for listing, flag in ((must_keep, "must_keep"), (must_drop, "must_drop"))
    )
    _check_apart(kept, dropped, source_index)
    groups = None if group_column is None else read_groups(dataset, group_column)
    ids = None if id_column is None else read_ids(dataset, id_column, source_index)
    if decided is None:
        return RowFacts(groups, kept, dropped, row_id=ids)
    if decided.is_dropped.any():
        _check_apart(kept, decided.is_dropped, source_index, "dropped by --decisions")
        dropped = decided.is_dropped if dropped is None else dropped | decided.is_dropped
    given_labels = None if has_captions else decided.given_labels
    return RowFacts(groups, kept, dropped, given_labels, decided.decision, row_id=ids)


def facts_of(
    num_rows: int,
    *,
    groups: Sequence[str] | np.ndarray | None = None,
    must_keep: Sequence[int] | np.ndarray | None = None,
    must_drop: Sequence[int] | np.ndarray | None = None,
) -> RowFacts:
    """What a caller says of rows that are no dataset: a group for each, and the numbers of those to keep and to drop.

    Raises `InputError` where there is not one group for each row, a number is none of a row, or a row is to be kept
    and dropped.
    """
    if groups is not None:
        groups = as_numpy(on_its_device(groups, "groups"))
        if groups.shape != (num_rows,):
            raise InputError(f"Expected {num_rows} groups, one per row, got an array of shape {groups.shape}.")
        groups = np.array(list(map(str, groups.tolist())), dtype=object)
    rows = np.arange(num_rows)
    kept = None if must_keep is None else _at_rows(must_keep, rows, "must_keep")
    dropped = None if must_drop is None else _at_rows(must_drop, rows, "must_drop")
    _check_apart(kept, dropped, rows)
    return RowFacts(groups, kept, dropped)


def read_groups(dataset: Dataset, column: str) -> np.ndarray:
    """The category of every row, as text: an object array of shape `(N,)`, "none" where the column holds nothing.

    Raises `InputError` for a column that is missing, is not of strings, integers, booleans or class labels, or holds
    more than 1,000 categories.
    """
    feature = dataset.features.get(column)
    candidates = sorted(name for name, kind in dataset.features.items() if _is_categorical(kind))
    if column not in candidates:
        problem = "is no column of the dataset" if feature is None else f"is a column of {feature}"
        raise InputError(
            f"--group_column {column} {problem}; name a column of strings, integers, booleans or class labels; "
            f"{there_are(candidates)}."
        )
    values = column_array(dataset, column).to_pylist()
    if isinstance(feature, ClassLabel):
        values = [feature.names[value] if value is not None and value >= 0 else None for value in values]
    groups = np.array(["none" if value is None else str(value) for value in values], dtype=object)
    if (count := len(set(groups))) > _MOST_GROUPS:
        raise InputError(
            f"--group_column {column} holds {count} different values; name a column of at most {_MOST_GROUPS} "
            "categories."
        )
    return groups


def check_id_column(column: str, features: Features) -> None:
    """Raise `InputError` for a column of ids that is missing, or is neither of strings nor of whole numbers."""
    candidates = sorted(name for name, feature in features.items() if _can_be_ids(feature))
    if column not in candidates:
        problem = f"is a column of {features[column]}" if column in features else "is no column of the dataset"
        raise InputError(
            f"--id_column {column} {problem}; name a column of strings or whole numbers; {there_are(candidates)}."
        )


def read_ids(dataset: Dataset, column: str, source_index: np.ndarray) -> np.ndarray:
    """What names each row, as text: an object array of shape `(N,)`, of strings that differ.

    Raises `InputError` for a column that is missing or is neither of strings nor of whole numbers, a row that has
    none, and two rows that have the same one.
    """
    check_id_column(column, dataset.features)
    values = column_array(dataset, column)
    if values.null_count:
        first = source_index[values.is_null().to_numpy(zero_copy_only=False)][0]
        raise InputError(
            f"--id_column {column} is empty in {counted(values.null_count, 'row')}, first source_index {first}; give "
            "each row an id, or leave the flag out."
        )
    ids = values.cast(pa.large_string()).to_numpy(zero_copy_only=False)
    rows = pd.Series(ids)
    if (again := rows.duplicated().to_numpy()).any():
        row = int(np.flatnonzero(again)[0])
        earlier = source_index[int((rows == ids[row]).to_numpy().argmax())]
        raise InputError(
            f"--id_column {column} has {cut(repr(ids[row]), 80)} in row {earlier} and again in row "
            f"{source_index[row]}, and {counted(int(again.sum()), 'row')} in all that have the id of another one; "
            "name a column whose values all differ."
        )
    return ids


def listed_rows(listing: Listing, flag: str, *, dataset: Dataset, source_index: np.ndarray) -> np.ndarray:
    """The rows that a user lists, a bool array `(N,)`: by the name of a boolean column of the dataset, by a text file
    with one source_index per line, or by the numbers themselves.

    Raises `InputError` where there is no such column or file, or it lists what is no row of the dataset.
    """
    if (numbers := _listed_numbers(listing, flag, dataset.features)) is not None:
        return _at_rows(numbers, source_index, flag)
    return column_array(dataset, str(listing)).fill_null(False).to_numpy(zero_copy_only=False)


def check_listings(must_keep: Listing | None, must_drop: Listing | None, features: Features) -> None:
    """Raise `InputError` for lists of rows that are wrong whatever rows there are; `features` are those of columns.

    So is a file that can't be read, a column that is not boolean, a number below 0, or one that is in both lists.
    """
    kept, dropped = (
        None if listing is None else _listed_numbers(listing, flag, features)
        for listing, flag in ((must_keep, "must_keep"), (must_drop, "must_drop"))
    )
    for numbers, flag in ((kept, "must_keep"), (dropped, "must_drop")):
        if numbers is not None and numbers.size and numbers.min() < 0:
            raise InputError(f"--{flag} lists {numbers.min()}; the rows of a source have numbers from 0 on.")
    if kept is not None and dropped is not None:
        rows = np.union1d(kept, dropped)
        _check_apart(np.isin(rows, kept), np.isin(rows, dropped), rows)


def read_class_quotas(path: str | Path) -> dict[str, int]:
    """Rows to keep, 0 or more, from YAML lines `class name: rows`; raises `InputError` for other lines or no file."""
    quotas: dict[str, int] = {}
    for name, node in read_lines(path, "class_quotas_file"):
        count = node.value if isinstance(node, yaml.ScalarNode) else ""
        if not count.isdecimal() or len(count) > 18:  # what int64 holds
            raise InputError(
                f"--class_quotas_file {path}, line {node.start_mark.line + 1} is not a class and its rows; write one "
                "line `class name: rows` per class, such as `cat: 20`."
            )
        quotas[name] = int(count)
    return quotas


def checked_class_quotas(class_quotas: Mapping[str, int] | str | Path | None) -> dict[str, int] | None:
    """Class -> rows to keep of it, read from the file if `class_quotas` is a path."""
    if isinstance(class_quotas, (str, Path)):
        return read_class_quotas(class_quotas)
    return None if class_quotas is None else dict(class_quotas)


def _at_rows(listing: Sequence[int] | np.ndarray, source_index: np.ndarray, flag: str) -> np.ndarray:
    """A mask of the rows with these numbers."""
    numbers = _row_numbers(listing, flag)
    unknown = np.setdiff1d(numbers, source_index)
    if len(unknown):
        rows = f", from {source_index[0]} to {source_index[-1]}" if len(source_index) else ""
        raise InputError(
            f"--{flag} lists {counted(len(unknown), 'number')} that {are(len(unknown))} no source_index of the rows "
            f"considered, the lowest {unknown[0]}; there {are(len(source_index))} "
            f"{counted(len(source_index), 'row')}{rows}."
        )
    return np.isin(source_index, numbers)


def _row_numbers(listing: Sequence[int] | np.ndarray, flag: str) -> np.ndarray:
    numbers = as_numpy(on_its_device(listing, f"--{flag}"))
    if numbers.size and (numbers.ndim != 1 or numbers.dtype.kind not in "iu"):
        mask = "; of a mask give np.flatnonzero(mask)" if numbers.dtype == bool else ""
        raise InputError(
            f"--{flag} must be row numbers of the source, got {numbers.dtype} of shape {numbers.shape}{mask}."
        )
    return numbers


def _listed_numbers(listing: Listing, flag: str, features: Features) -> np.ndarray | None:
    """The row numbers of a list or a file; None where the listing is the name of a boolean column."""
    if not isinstance(listing, (str, Path)):
        return _row_numbers(listing, flag)
    if (column := str(listing)) not in features:
        return _read_numbers(Path(listing), flag, features)
    if features[column] != Value("bool"):
        raise InputError(f"--{flag} {column} is a column of {features[column]}; name a boolean column, or a file.")
    return None


def _check_apart(
    must_keep: np.ndarray | None, must_drop: np.ndarray | None, source_index: np.ndarray, by: str = "--must_drop"
) -> None:
    if must_keep is not None and must_drop is not None and (both := np.flatnonzero(must_keep & must_drop)).size:
        raise InputError(
            f"{counted(len(both), 'row')} {are(len(both))} in --must_keep and {by}, first "
            f"{source_index[both[0]]}; leave each in one."
        )


def _is_categorical(feature: object) -> bool:
    is_plain = isinstance(feature, Value) and (
        feature.dtype in ("string", "large_string", "bool") or "int" in feature.dtype
    )
    return is_plain or isinstance(feature, ClassLabel)


def _can_be_ids(feature: object) -> bool:
    return _is_categorical(feature) and not isinstance(feature, ClassLabel) and feature != Value("bool")


def _read_numbers(path: Path, flag: str, features: Features) -> np.ndarray:
    columns = [name for name, feature in features.items() if feature == Value("bool")]
    try:
        lines = path.read_text(encoding="utf-8-sig").split()  # without the byte order mark that some editors write
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise InputError(
            f"--{flag} {path} can't be read as a file ({reason}) and is no column of the dataset. Give a text file "
            f"with one source_index per line, or a boolean column; {there_are(columns)}."
        ) from None
    wrong = [line for line in lines if not line.isdecimal() or len(line) > 18]  # what int64 holds
    if wrong:
        raise InputError(
            f"--{flag} {path} holds {wrong[0]!r}, which is no row number; write one source_index per line."
        )
    return np.array(lines, dtype=np.int64)
