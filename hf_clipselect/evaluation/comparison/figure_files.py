"""Tables of figures as bytes of a file, and back."""

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq


def lines_of_csv(path: Path) -> list[dict[str, Any]]:
    """Lines of a CSV file that [`csv_of`] made.

    Args:
        path (`Path`): The file.

    Returns:
        `list[dict]`: Column -> value; NaN and empty texts are what they were.
    """
    # By default the reader takes the NaN of a figure that does not exist for a missing value.
    return pc.read_csv(path, convert_options=pc.ConvertOptions(null_values=[])).to_pylist()


def csv_of(table: pa.Table) -> bytes:
    """A table as the content of a CSV file."""
    sink = pa.BufferOutputStream()
    pc.write_csv(table, sink, pc.WriteOptions(quoting_style="needed"))
    return sink.getvalue().to_pybytes()


def parquet_of(table: pa.Table) -> bytes:
    """A table as the content of a Parquet file."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    return sink.getvalue().to_pybytes()
