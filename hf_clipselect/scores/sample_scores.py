"""Scores of rows as arrays: what scoring gives and the scores table holds."""

from dataclasses import dataclass, fields

import numpy as np

from ..errors import InputError


# Columns that name another row, or none.
ROW_NUMBERS = {"duplicate_group", "better_caption"}


@dataclass(frozen=True)
class ArrayColumns:
    """A dataclass of arrays, some of which may be missing."""

    def columns(self) -> dict[str, np.ndarray]:
        """The arrays by name, without those that there are none of."""
        values = {column.name: getattr(self, column.name) for column in fields(self)}
        return {name: array for name, array in values.items() if array is not None}


@dataclass(frozen=True)
class SampleScores(ArrayColumns):
    """Scores of all rows, in row order, each array of shape `(num_rows,)`."""

    predicted_label: np.ndarray  # int64: class with the highest cosine; -1 for an unreadable row
    sas: np.ndarray  # float32: cosine with the own class, in [-1, 1], higher is better aligned (eq. 1)
    # float32: cosine with the own class minus the best other one, in [-2, 2]; below 0 another class fits better.
    margin: np.ndarray
    # float32: mean distance to the nearest rows of the own class, in [0, 2], higher is more diverse (eq. 2).
    sds: np.ndarray
    # int64: number of the lowest row among the near-duplicates of a row; -1 for a row without.
    duplicate_group: np.ndarray | None = None
    # float32: sum of two log probabilities of the given label, at most 0, higher is better aligned.
    ensemble: np.ndarray | None = None
    # int64, where rows have captions: the first row whose caption fits better than the own one; -1 where none does.
    better_caption: np.ndarray | None = None
    # float32: probability that the given label is wrong, in [0, 1], lower is better; where there is a noise model.
    label_error_probability: np.ndarray | None = None
    # int64: the class that is most probably the true one, maybe the given one; -1 for an unreadable row.
    clean_label: np.ndarray | None = None
    # int64, where rows are herded: place in the order of its class, 0 is picked first; -1 for an unreadable row.
    class_rank: np.ndarray | None = None

    def scattered(self, rows: np.ndarray, num_rows: int) -> "SampleScores":
        """The same scores at their places among all rows, NaN and -1 elsewhere."""
        spread = {}
        for name, values in self.columns().items():
            if name in ROW_NUMBERS:
                values = np.where(values < 0, -1, rows[values])
            spread[name] = np.full(num_rows, -1 if values.dtype.kind == "i" else np.nan, dtype=values.dtype)
            spread[name][rows] = values
        return SampleScores(**spread)


def present_classes(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The classes, or captions, that have images, `(C,)`, rising, and the labels `(num_rows,)` numbered among them.

    Raises `InputError` where fewer than two have images.
    """
    classes, compact = np.unique(labels, return_inverse=True)
    if len(classes) < 2:
        raise InputError(
            f"Selection needs readable images of at least two classes, found {len(classes)}. Check the label column, "
            "and the images that could not be read."
        )
    return classes, compact.astype(np.int64)
