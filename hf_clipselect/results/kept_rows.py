"""The rows of a subset: the source's own columns, with the labels that a person changed, and ours behind them."""

import logging

import numpy as np
import pyarrow as pa
from datasets import Dataset, Features

from ..data import GIVEN_LABEL, SUBSET_COLUMNS
from ..data.columns import column_array
from ..data.labels import written_labels
from ..data.outside_files import with_own_images
from ..data.source import DatasetSource, has_content_of
from ..errors import InputError
from .scores_table import column_values, join_columns


logger = logging.getLogger(__name__)


def kept_rows(dataset: Dataset, scores: Dataset, suffix: str, *, label_column: str) -> Dataset:
    """The kept rows of one size, with source_index, sas, sds, selection_score and, after decisions, given_label.

    Takes the source, or the N rows of it that were considered, with their given labels; the scores table of the N
    rows; the suffix of the size's columns; and the source's label column. Raises `InputError` as [`written_labels`].
    """
    names = {
        "source_index": "source_index",
        "sas": "sas",
        "sds": "sds",
        "selection_score": f"selection_score_{suffix}",
    }
    columns = {column: column_values(scores, name) for column, name in names.items()}
    dataset = dataset.with_format(None)
    is_reviewed = GIVEN_LABEL in scores.column_names
    ours = [*SUBSET_COLUMNS, GIVEN_LABEL] if is_reviewed else [*SUBSET_COLUMNS]
    if taken := [column for column in ours if column in dataset.column_names]:
        logger.warning(
            "The dataset's columns %s are replaced in the subset by those of this selection.", ", ".join(taken)
        )
        dataset = dataset.remove_columns(taken)
    order, tables = [*dataset.column_names, *ours], [pa.table(columns)]
    if is_reviewed:
        tables.append(_label_columns(dataset, label_column, scores))
        dataset = dataset.remove_columns(label_column)
    kept, has_all = np.flatnonzero(column_values(scores, f"selected_{suffix}")), len(dataset) == len(scores)
    is_plain = has_all and dataset._indices is None
    if not is_plain:
        # Columns beside rows that were picked out of a dataset make `datasets` copy the rows: those kept suffice.
        dataset = dataset.select(kept if has_all else columns["source_index"][kept])
        tables = [table.take(kept) for table in tables]
    for table in tables:
        dataset = join_columns(dataset, table)
    if is_plain:
        dataset = dataset.select(kept)
    return dataset.select_columns(order) if is_reviewed else dataset


def check_is_source(dataset: Dataset, source: DatasetSource) -> None:
    """Raise `InputError` unless a dataset is the one that a selection was made from."""
    if len(dataset) != source.num_rows:
        raise InputError(
            f"The selection was made from {source.num_rows} rows, the dataset has {len(dataset)}; pass "
            f"{source.describe()}."
        )
    if not source.content_id or dataset._fingerprint == source.fingerprint:
        return
    missing = {source.image_column, source.label_column} - set(dataset.column_names)
    if missing or not has_content_of(with_images_of(dataset, source), source):
        raise InputError(
            f"This is not the dataset that the selection was made from: "
            f"{'it has no column ' + ', '.join(sorted(missing)) if missing else 'labels or images differ'}. Pass "
            f"{source.describe()}, with its rows in their order."
        )


def with_images_of(dataset: Dataset, source: DatasetSource) -> Dataset:
    """As the run took the dataset, whose image column may hold paths."""
    return with_own_images(dataset, source.image_column, source, allow_outside_files=True)


def _label_columns(dataset: Dataset, column: str, scores: Dataset) -> pa.Table:
    """The label column of these rows as the decisions left it, and `given_label`, both of the source's type."""
    feature, values = dataset.features[column], column_array(dataset, column)
    if len(values) != len(scores):
        values = values.take(pa.array(column_values(scores, "source_index")))
    given, labels = column_values(scores, GIVEN_LABEL), column_values(scores, "label")
    changed = written_labels(values, feature, given, labels, scores.features["label"].names)
    schema = Features({column: feature, GIVEN_LABEL: feature}).arrow_schema
    return pa.table({column: changed, GIVEN_LABEL: values}).cast(schema)
