"""The scores table: one row per source row considered, as a `datasets.Dataset`.

Columns: source_index (int64), label, predicted_label (ClassLabel), label_agrees (bool), sas, margin, sds (float32), then for
each ratio selection_score_<percent> (float32) and selected_<percent> (bool). A row whose image could not be read has NaN
scores, no prediction, and is never selected.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets

from .errors import InputError
from .processes import Processes
from .selection import Objective, column_suffix, select_subsets, selection_scores


_SCORES = ("sas", "margin", "sds")


@dataclass(frozen=True)
class SampleScores:
    """Scores of all rows, in row order, each array of shape `(num_rows,)`.

    Args:
        predicted_label (int64): Class with the highest cosine; -1 for an unreadable row.
        sas (float32): Cosine with the own class, in [-1, 1], higher is better aligned (eq. 1).
        margin (float32): Cosine with the own class minus the best other one, in [-2, 2]; below 0 another class fits better.
        sds (float32): Mean distance to the nearest rows of the own class, in [0, 2], higher is more diverse (eq. 2).
    """

    predicted_label: np.ndarray
    sas: np.ndarray
    margin: np.ndarray
    sds: np.ndarray

    def scattered(self, rows: np.ndarray, num_rows: int) -> "SampleScores":
        """The same scores at their places among all rows, NaN and -1 elsewhere."""
        spread = {}
        for column in fields(self):
            values = getattr(self, column.name)
            spread[column.name] = np.full(num_rows, -1 if values.dtype.kind == "i" else np.nan, dtype=values.dtype)
            spread[column.name][rows] = values
        return SampleScores(**spread)


def present_classes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes that have images, and the labels renumbered among them.

    Args:
        labels (`np.ndarray` of shape `(num_rows,)`, int64): Labels of the readable rows.

    Returns:
        `tuple[np.ndarray, np.ndarray]`: Classes `(num_present,)` rising, and labels `(num_rows,)` in `[0, num_present)`.

    Raises:
        InputError: Fewer than two classes have images.
    """
    classes, compact = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"Selection needs readable images of at least two classes, found {len(classes)}. Check the label column, and "
            "the images that could not be read."
        )
    return classes, compact.astype(np.int64)


def score_table(
    labels: np.ndarray, class_names: Sequence[str], source_index: np.ndarray, scores: SampleScores
) -> Dataset:
    """Write scores as columns through `map`, beside the labels, without touching an image.

    Args:
        labels (`np.ndarray` of shape `(num_rows,)`, int64): Given labels.
        class_names (`Sequence[str]`): One name per class.
        source_index (`np.ndarray` of shape `(num_rows,)`, int64): Row numbers in the source split.
        scores (`SampleScores`): Scores of these rows.

    Returns:
        `Dataset`: The scores table, without any selection yet.
    """
    features = _features(list(class_names))
    given = Features({name: features[name] for name in ("source_index", "label")})
    table = pa.table({"source_index": source_index, "label": labels}).cast(given.arrow_schema)
    parts = (labels, source_index, *(getattr(scores, column.name) for column in fields(scores)))
    content = hashlib.sha256(json.dumps(list(class_names)).encode() + b"".join(part.tobytes() for part in parts))
    scored = (
        Dataset(table)
        .with_format("arrow")
        .map(
            _score_columns,
            with_indices=True,
            batched=True,
            batch_size=10_000,
            fn_kwargs={"labels": labels, "scores": scores},
            features=features,
            keep_in_memory=True,
            # Hashing the arrays' pickles takes longer than writing them.
            new_fingerprint=content.hexdigest()[:32],
            desc="Scoring",
        )
    )
    return scored.with_format(None)


def select_from_table(
    table: Dataset, objective: Objective, ratios: tuple[float, ...], *, processes: Processes | None = None
) -> Dataset:
    """Add selection_score_<percent> and selected_<percent> for every ratio, from the score columns alone.

    Args:
        table (`Dataset`): A scores table; columns of earlier selections are replaced.
        objective (`Objective`): What to maximise.
        ratios (`tuple[float, ...]`): Fractions of the readable rows to keep.
        processes ([`Processes`], *optional*): Those that hold the same table and share the work.

    Returns:
        `Dataset`: The table with two columns more for each ratio.

    Raises:
        InputError: A ratio keeps no row, or solver "sgd" can't converge.
    """
    base = table.select_columns([name for name in table.column_names if not is_selection_column(name)])
    columns = {name: column_values(table, name) for name in ("label", "sas", "margin", "sds")}
    readable = np.flatnonzero(~np.isnan(columns["sas"]))
    columns = {name: values[readable] for name, values in columns.items()}
    by_ratio = {
        ratio: selection_scores(objective, columns["sas"], columns["margin"], columns["sds"], ratio)
        for ratio in ratios
    }
    subsets = select_subsets(by_ratio, columns["label"], ratios, objective, processes=processes)
    added: dict[str, np.ndarray] = {}
    for ratio in ratios:
        score = np.full(len(table), np.nan, dtype=np.float32)
        score[readable] = by_ratio[ratio]
        selected = np.zeros(len(table), dtype=bool)
        selected[readable[subsets[ratio]]] = True
        added[f"selection_score_{column_suffix(ratio)}"] = score
        added[f"selected_{column_suffix(ratio)}"] = selected
    return join_columns(base, added)


def check_score_table(table: Dataset, ratios: Sequence[float], *, num_rows: int) -> None:
    """Check a scores table that was read from a file, which anybody may have written.

    Args:
        table (`Dataset`): One row per source row considered.
        ratios (`Sequence[float]`): The ratios whose two columns it must have.
        num_rows (`int`): Rows of the source.

    Raises:
        ValueError: A column is missing or of another type, or holds what no run writes.
    """
    names = table.features["label"].names if isinstance(table.features.get("label"), ClassLabel) else []
    expected = dict(_features(names))
    for ratio in ratios:
        expected |= {f"selection_score_{column_suffix(ratio)}": Value("float32")}
        expected |= {f"selected_{column_suffix(ratio)}": Value("bool")}
    if wrong := [name for name, feature in expected.items() if table.features.get(name) != feature]:
        raise ValueError(f"no column {', '.join(wrong)} of the expected type in the scores")
    rows, labels = column_values(table, "source_index"), column_values(table, "label")
    if len(rows) == 0 or rows[0] < 0 or rows[-1] >= num_rows or (np.diff(rows) <= 0).any():
        raise ValueError(f"source_index does not rise within the {num_rows} rows of the source")
    if not 0 <= labels.min() <= labels.max() < len(names):
        raise ValueError(f"labels lie outside the {len(names)} classes")
    predicted, scores = column_values(table, "predicted_label"), [column_values(table, name) for name in _SCORES]
    readable = predicted >= 0
    if predicted.max() >= len(names) or any((np.isfinite(s) != readable).any() for s in scores):
        raise ValueError("scores are missing or infinite, or predictions lie outside the classes")
    for ratio in ratios:
        selected = column_values(table, f"selected_{column_suffix(ratio)}")
        score = column_values(table, f"selection_score_{column_suffix(ratio)}")
        if not selected.any() or not np.isfinite(score[selected]).all() or not readable[selected].all():
            raise ValueError(f"the selection at {ratio} is empty or holds rows without scores")


def is_selection_column(name: str) -> bool:
    return name.startswith(("selection_score_", "selected_"))


def join_columns(dataset: Dataset, columns: Mapping[str, np.ndarray]) -> Dataset:
    """Put new columns beside a dataset without rewriting what it has."""
    return concatenate_datasets([dataset, Dataset(pa.table(dict(columns)))], axis=1, split=dataset.split)


def column_values(table: Dataset, name: str) -> np.ndarray:
    """One column as an array of its own type; a missing label is -1, a missing agreement False."""
    column = table.with_format("arrow").select_columns([name])[:].column(name).combine_chunks()
    if column.null_count:
        column = column.fill_null(False if pa.types.is_boolean(column.type) else -1)
    return column.to_numpy(zero_copy_only=False)


def _score_columns(batch: pa.Table, indices: list[int], *, labels: np.ndarray, scores: SampleScores) -> pa.Table:
    rows = slice(indices[0], indices[-1] + 1)  # batches of map are runs of rows
    unreadable = np.isnan(scores.sas[rows])
    predicted = scores.predicted_label[rows]
    columns = {
        "predicted_label": pa.array(predicted, mask=unreadable),
        "label_agrees": pa.array(predicted == labels[rows], mask=unreadable),
        "sas": pa.array(scores.sas[rows]),
        "margin": pa.array(scores.margin[rows]),
        "sds": pa.array(scores.sds[rows]),
    }
    for name, column in columns.items():
        batch = batch.append_column(name, column)
    return batch


def _features(class_names: list[str]) -> Features:
    return Features(
        {
            "source_index": Value("int64"),
            "label": ClassLabel(names=class_names),
            "predicted_label": ClassLabel(names=class_names),
            "label_agrees": Value("bool"),
            "sas": Value("float32"),
            "margin": Value("float32"),
            "sds": Value("float32"),
        }
    )
