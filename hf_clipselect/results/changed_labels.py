"""Labels that a person changed, in the rows of a subset: the label column after that, and the given one beside it."""

import pyarrow as pa
from datasets import Dataset, Features

from ..data import GIVEN_LABEL
from ..data.columns import column_array
from ..data.labels import written_labels
from .scores_table import column_values


def label_columns(dataset: Dataset, column: str, scores: Dataset) -> pa.Table:
    """The label column of the rows considered as the decisions left it, and `given_label`, both of the source's type.

    Takes the source, or these N rows of it, with their given labels, and the scores table of the N rows, which has the
    column `given_label`. Raises `InputError` as [`written_labels`].
    """
    feature, values = dataset.features[column], column_array(dataset, column)
    if len(values) != len(scores):
        values = values.take(pa.array(column_values(scores, "source_index")))
    given, labels = column_values(scores, GIVEN_LABEL), column_values(scores, "label")
    changed = written_labels(values, feature, given, labels, scores.features["label"].names)
    schema = Features({column: feature, GIVEN_LABEL: feature}).arrow_schema
    return pa.table({column: changed, GIVEN_LABEL: values}).cast(schema)
