"""The most likely wrong labels of a selection, and rows in words: the given label beside what is proposed instead."""

import re
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from datasets import Dataset

from ...data.decisions import is_right
from ...errors import InputError
from ...runtime.terminal import UNPRINTABLE
from ..noise_summary import has_noise_model
from ..scores_table import column_values


# source_index of rows -> their captions
Captions = Callable[[np.ndarray], Sequence[str]]
# What a spreadsheet takes for a formula, also behind blanks and invisible signs, and in full width.
_FORMULA = re.compile(rf"[\t\r\n]|(?:\s|[\u200b-\u200d\u2060]|{UNPRINTABLE.pattern})*[=+\-@\uff1d\uff0b\uff0d\uff20]")


def pick_suspects(scores: Dataset, *, num: int | None = None, label: str | None = None) -> np.ndarray:
    """The rows of the scores table whose label is most likely wrong, most likely first.

    With the columns of a noise model these are the rows for which another class is more probable than the given one,
    highest `label_error_probability` first; else those for which another class or caption fits better, lowest margin
    first. Rows whose label a person took for right, or that a person dropped, are none of them. Gives at most `num`
    row numbers, int64; ties break by row number, and rows without scores are left out. With a label, of rows of this
    class, or cluster, alone; raises `InputError` if there is none.
    """
    if has_noise_model(scores):
        clean = column_values(scores, "clean_label")
        chosen = (clean >= 0) & (clean != column_values(scores, "label"))
        order = -column_values(scores, "label_error_probability")
    else:
        order = column_values(scores, "margin")
        chosen = ~column_values(scores, "label_agrees") & np.isfinite(order)
    if "decision" in scores.column_names:
        decision = column_values(scores, "decision")
        chosen &= ~(is_right(decision) | (decision == "drop"))
    if label is not None:
        names = scores.features["label"].names
        if label not in names:
            raise InputError(
                f"There is no class {label!r}; the classes are {', '.join(map(repr, names[:20]))}"
                f"{f' and {len(names) - 20} more' if len(names) > 20 else ''}."
            )
        chosen &= column_values(scores, "label") == names.index(label)
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(order[rows], kind="stable")][:num]


def suspects_table(scores: Dataset, rows: np.ndarray, captions: Captions | None = None) -> pa.Table:
    """What is known about some rows of the scores table, in their order, for other programs and for people:
    source_index (int64), label and proposed_label (string), where there is a noise model label_error_probability
    (float32), sas and margin (float32), and for each subset selected_<ratio> (bool).
    """
    kept = [name for name in scores.column_names if name.startswith("selected_")]
    numbers = ("label_error_probability", "sas", "margin") if has_noise_model(scores) else ("sas", "margin")
    columns = {name: column_values(scores, name)[rows] for name in ("source_index", *numbers, *kept)}
    label, proposed = (pa.array(texts, pa.string()) for texts in proposals(scores, rows, captions))
    index = columns.pop("source_index")
    return pa.table({"source_index": index, "label": label, "proposed_label": proposed, **columns})


def for_spreadsheets(table: pa.Table) -> pa.Table:
    """The table for a CSV file: an apostrophe stands before texts that a spreadsheet would run as formulas."""
    for index, column in enumerate(table.columns):
        if pa.types.is_string(column.type):
            texts = [f"'{text}" if text is not None and _FORMULA.match(text) else text for text in column.to_pylist()]
            table = table.set_column(index, table.field(index), pa.array(texts, pa.string()))
    return table


def captions_of(dataset: Dataset, column: str, source_index: np.ndarray | None = None) -> Captions:
    """A look-up of captions in the dataset that was selected from, or in the rows of it that were considered.

    `source_index` is that of the rows of `dataset`, rising; by default their row numbers.
    """
    texts = dataset.with_format(None).select_columns([column])

    def look_up(wanted: np.ndarray) -> list[str]:
        return texts[wanted if source_index is None else np.searchsorted(source_index, wanted)][column]

    return look_up


def proposals(scores: Dataset, rows: np.ndarray, captions: Captions | None = None) -> tuple[list[str], list[str]]:
    """What readable rows are labelled, and what they look like: the most probable class by the noise model, or where
    there is none what CLIP predicts, as [`row_texts`] gives it.
    """
    if not has_noise_model(scores):
        return row_texts(scores, rows, captions)
    return _class_names(scores, rows, "clean_label")


def verdict(probability: float, looks_like: str) -> str:
    """What the noise model says of a suspect row: "0.97 wrong, looks like nine"."""
    return f"{probability:.2f} wrong, looks like {looks_like}"


def row_texts(scores: Dataset, rows: np.ndarray, captions: Captions | None = None) -> tuple[list[str], list[str]]:
    """What readable rows are labelled, and what CLIP predicts: names of classes or clusters, or captions.

    Without a look-up from [`captions_of`], rows with captions are called by their clusters.
    """
    if captions is not None and "better_caption" in scores.column_names:
        own, better = (column_values(scores, name)[rows] for name in ("source_index", "better_caption"))
        return list(captions(own)), list(captions(np.where(better < 0, own, better)))
    return _class_names(scores, rows, "predicted_label")


def _class_names(scores: Dataset, rows: np.ndarray, proposed: str) -> tuple[list[str], list[str]]:
    names = scores.features["label"].names  # a copy, which takes long where there are many
    given, other = ([names[number] for number in column_values(scores, name)[rows]] for name in ("label", proposed))
    return given, other
