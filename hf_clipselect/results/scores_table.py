"""The scores table: one row per source row considered, as a `datasets.Dataset`.

Columns: source_index (int64), label, predicted_label (ClassLabel), label_agrees (bool), sas, margin, sds (float32),
sas_quantile, sds_quantile (float32, within the class), duplicate_group (int64: the lowest source_index of the row's
near-duplicates; none for a row without, and where they were not looked for), then for each size
selection_score_<percent> (float32) and selected_<percent> (bool), or with count_<n> in place of the percentage, and
reason (string: why the first size keeps the row or not). Where a run needs them there are row_id (string: what names
the row in the source, in any order), group (string), ensemble (float32), leak_of (int64: the row of the reference that
the row is a copy of, -1 for none), quality_issues (string: what is wrong with the image, such as "blurry, dark", or
""), must_keep and must_drop (bool); where a person decided about rows given_label (ClassLabel: the label in the
source, while label is the one after the decisions) and decision (string: keep, relabel, drop, unsure, or empty); with
a noise model clean_label (ClassLabel: the class that is most probably the true one) and label_error_probability
(float32, in [0, 1]); and with herding class_rank (int64: the row's place in the order of its class, from 0). A row
whose image could not be read has NaN scores, no prediction and no rank, and is never selected.

A row with a caption has the cluster of its image as label, and as predicted_label the cluster of the caption that fits
best: another one's, where better_caption (int64) names the first row that has it, or its own, where that is none and
label_agrees is true.
"""

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features, Value, concatenate_datasets

from ..data.row_facts import RowFacts
from ..scores.sample_scores import ROW_NUMBERS, SampleScores
from ..selection import Size, column_suffix, quantiles_within


SCORE_COLUMNS = ("sas", "margin", "sds")
# What another size can be selected from.
NEEDED_COLUMNS = ("source_index", "label", "label_agrees", *SCORE_COLUMNS, "duplicate_group")
# Columns of the noise model, and of the order that herding makes with it.
NOISE_COLUMNS = frozenset({"clean_label", "label_error_probability", "class_rank"})
# Columns that a table has only where a run needs them.
_OPTIONAL = {
    "row_id",
    "group",
    "ensemble",
    "leak_of",
    "quality_issues",
    "must_keep",
    "must_drop",
    "given_label",
    "decision",
    "better_caption",
    *NOISE_COLUMNS,
}
# Whole numbers that a row without scores does not have.
_OF_READABLE = ("predicted_label", "clean_label", "class_rank")


def score_table(
    labels: np.ndarray,
    class_names: Sequence[str],
    source_index: np.ndarray,
    scores: SampleScores,
    facts: RowFacts | None = None,
) -> Dataset:
    """The scores table of N rows, without any selection yet: scores beside the labels, written through `map`.

    Takes labels and row numbers in the source split, both `(N,)`, int64.
    """
    columns = {"duplicate_group": np.full(len(labels), -1)} | scores.columns() | (facts or RowFacts()).columns()
    for name in ROW_NUMBERS & columns.keys():
        columns[name] = np.where(columns[name] < 0, -1, source_index[columns[name]])
    readable = ~np.isnan(scores.sas)
    for name in ("sas", "sds"):
        columns[f"{name}_quantile"] = np.full(len(labels), np.nan, dtype=np.float32)
        columns[f"{name}_quantile"][readable] = quantiles_within(labels[readable], columns[name][readable])
    content = hashlib.sha256(json.dumps(list(class_names)).encode() + labels.tobytes() + source_index.tobytes())
    for name, values in sorted(columns.items()):
        as_bytes = json.dumps(values.tolist()).encode() if values.dtype.kind in "OU" else values.tobytes()
        content.update(name.encode() + as_bytes)
    features = _features(class_names, columns)
    given = Features({name: features[name] for name in ("source_index", "label")})
    table = pa.table({"source_index": source_index, "label": labels}).cast(given.arrow_schema)
    arrays = {"labels": labels, "columns": columns, "order": [name for name in features if name not in given]}
    scored = (
        Dataset(table)
        .with_format("arrow")
        .map(
            _score_columns,
            with_indices=True,
            batched=True,
            batch_size=10_000,
            fn_kwargs=arrays,
            features=features,
            keep_in_memory=True,
            # Hashing the arrays' pickles takes longer than writing them.
            new_fingerprint=content.hexdigest()[:32],
            desc="Scoring",
        )
    )
    return scored.with_format(None)


def is_selection_column(name: str) -> bool:
    return name.startswith(("selection_score_", "selected_")) or name == "reason"


def join_columns(dataset: Dataset, columns: Mapping[str, np.ndarray] | pa.Table) -> Dataset:
    """Put new columns beside a dataset without rewriting what it has; the result has no format."""
    # Where rows were picked out, `datasets` copies them, and with a format it copies what that makes of them.
    plain = dataset.with_format(None)
    table = columns if isinstance(columns, pa.Table) else pa.table(dict(columns))
    return concatenate_datasets([plain, Dataset(table)], axis=1, split=dataset.split)


def column_values(table: Dataset, name: str) -> np.ndarray:
    """One column as an array of its own type; a missing label or group is -1, a missing agreement False."""
    # A format, or other columns, would take copies of the names of all classes.
    rows = table.data if table._indices is None else table.with_format("arrow").select_columns([name])[:]
    column = rows.column(name).combine_chunks()
    if column.null_count:
        column = column.fill_null(False if pa.types.is_boolean(column.type) else -1)
    return column.to_numpy(zero_copy_only=False)


def _score_columns(
    batch: pa.Table, indices: list[int], *, labels: np.ndarray, columns: Mapping[str, np.ndarray], order: Sequence[str]
) -> pa.Table:
    rows = slice(indices[0], indices[-1] + 1)  # batches of map are runs of rows
    unreadable = np.isnan(columns["sas"][rows])
    predicted = columns["predicted_label"][rows]
    # A caption that fits better may belong to the same cluster.
    agrees = columns["better_caption"][rows] < 0 if "better_caption" in columns else predicted == labels[rows]
    masked = {
        "label_agrees": pa.array(agrees, mask=unreadable),
        **{name: pa.array(columns[name][rows], mask=unreadable) for name in _OF_READABLE if name in columns},
        **{name: pa.array(columns[name][rows], mask=columns[name][rows] < 0) for name in ROW_NUMBERS & columns.keys()},
    }
    for name in order:
        batch = batch.append_column(name, masked[name] if name in masked else pa.array(columns[name][rows]))
    return batch


def expected_features(class_names: Sequence[str], column_names: Sequence[str], sizes: Sequence[Size]) -> Features:
    """The columns that a table with these sizes must have; of the optional ones those that it has."""
    features = _features(class_names, column_names)
    for suffix in map(column_suffix, sizes):
        features |= {f"selection_score_{suffix}": Value("float32"), f"selected_{suffix}": Value("bool")}
    return Features({**features, "reason": Value("string")})


def _features(class_names: Sequence[str], optional: Collection[str]) -> Features:
    """The columns in their order, without those of a selection; of the optional ones these."""
    classes = ClassLabel(names=list(class_names))
    features = {
        "source_index": Value("int64"),
        "row_id": Value("string"),
        "label": classes,
        "given_label": classes,
        "group": Value("string"),
        "predicted_label": classes,
        "label_agrees": Value("bool"),
        "better_caption": Value("int64"),
        "clean_label": classes,
        "label_error_probability": Value("float32"),
        "sas": Value("float32"),
        "margin": Value("float32"),
        "ensemble": Value("float32"),
        "sds": Value("float32"),
        "sas_quantile": Value("float32"),
        "sds_quantile": Value("float32"),
        "class_rank": Value("int64"),
        "duplicate_group": Value("int64"),
        "leak_of": Value("int64"),
        "quality_issues": Value("string"),
        "must_keep": Value("bool"),
        "must_drop": Value("bool"),
        "decision": Value("string"),
    }
    return Features({name: kind for name, kind in features.items() if name not in _OPTIONAL or name in optional})
