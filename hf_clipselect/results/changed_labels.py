"""Labels that a person changed, in the rows of a subset: the label column after that, and the given one beside it."""

import numpy as np
import pyarrow as pa
from datasets import ClassLabel, Dataset, Features

from ..data import GIVEN_LABEL
from ..data.columns import column_array
from ..errors import InputError
from .scores_table import column_values


def label_columns(dataset: Dataset, column: str, scores: Dataset) -> pa.Table:
    """The label column of the rows considered as the decisions left it, and `given_label`, both of the source's type.

    Takes the source, or these N rows of it, with their given labels, and the scores table of the N rows, which has the
    column `given_label`. The new label of a row is the value by which other rows of its class are labelled.

    Raises `InputError` where the given labels are others than the scores tell, or a row has a new label of which no
    row shows how the source writes it.
    """
    feature, values = dataset.features[column], column_array(dataset, column)
    if len(values) != len(scores):
        values = values.take(pa.array(column_values(scores, "source_index")))
    names = scores.features["label"].names
    given, labels = column_values(scores, GIVEN_LABEL), column_values(scores, "label")
    by_class = _values_of_classes(values, given, names, is_class_label=isinstance(feature, ClassLabel))
    if not by_class.take(pa.array(given)).equals(values):
        raise InputError(
            f"The labels in column {column!r} are others than the given labels of the scores; pass the dataset that "
            "the selection was made from."
        )
    changed = by_class.take(pa.array(labels))
    if changed.null_count:
        row = int(np.flatnonzero(changed.is_null())[0])
        raise InputError(
            f"Row {column_values(scores, 'source_index')[row]} has the new label {names[labels[row]]!r}, and no row "
            f"considered has this label, which would tell how column {column!r} writes it; change the label of such "
            "a row in the dataset itself."
        )
    schema = Features({column: feature, GIVEN_LABEL: feature}).arrow_schema
    return pa.table({column: changed, GIVEN_LABEL: values}).cast(schema)


def _values_of_classes(
    values: pa.Array, labels: np.ndarray, class_names: list[str], *, is_class_label: bool
) -> pa.Array:
    """What the source writes for each of C classes, `(C,)`; null where no row shows it.

    Class labels are the numbers of the classes. Of others the values are the names, or, where a user gave names to
    numbers, these numbers; where a user gave other names to texts, only rows tell.
    """
    candidates = [pa.array(range(len(class_names)))]
    if not is_class_label:
        candidates.insert(0, pa.array(class_names, pa.string()))
    for candidate in candidates:
        try:
            candidate = candidate.cast(values.type)
        except pa.ArrowInvalid:  # names that are no numbers
            continue
        if is_class_label or candidate.take(pa.array(labels)).equals(values):
            return candidate
    classes, first_rows = np.unique(labels, return_index=True)
    places = np.full(len(class_names), -1)
    places[classes] = first_rows
    return values.take(pa.array(places, mask=places < 0))
