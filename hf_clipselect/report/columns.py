"""Columns of the scores table as numpy arrays."""

import numpy as np
import pyarrow as pa
from datasets import Dataset


def read_column(scores: Dataset, name: str) -> np.ndarray:
    """Read one column; what is missing becomes NaN, -1 or False.

    Args:
        scores (`Dataset`): The scores table of N rows.
        name (`str`): Column of floats, integers (class labels too) or booleans.

    Returns:
        `np.ndarray` of shape `(N,)`: Floats as float64; -1 stands for a missing integer, False for a missing boolean.
    """
    column = scores.select_columns([name]).with_format("arrow")[:][name]
    if pa.types.is_floating(column.type):
        return column.to_numpy().astype(np.float64)
    # Filled before the conversion: numpy would turn integers with nulls into floats, booleans into objects.
    return column.fill_null(False if pa.types.is_boolean(column.type) else -1).to_numpy()
