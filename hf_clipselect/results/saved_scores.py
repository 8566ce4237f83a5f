"""Reading the scores table of a saved selection, which anybody may have written: it is measured before memory is taken
for it.
"""

from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..runtime.parquet import SHARDS


# What a run writes takes at least 5 bytes a row on disk, where all scores are the same, and some 100 in memory.
_BYTES_OF_A_ROW = 1
_GROWTH, _ALWAYS = 200, 2**24


def read_scores(folder: Path, *, num_rows: int) -> pa.Table:
    """Read the Parquet files of a folder as one table of numbers and short texts.

    Args:
        folder (`Path`): Holds the shards that `write_parquet` writes.
        num_rows (`int`): Rows of the source: there can't be more scores.

    Returns:
        `pa.Table`: Texts as `string`; which columns there are is not checked.

    Raises:
        OSError, pa.ArrowException: A file can't be read.
        ValueError: There is none; they hold more rows than there can be, other values than numbers and texts, or so
        many of them in
            so few bytes that they were made to fill the memory.
    """
    paths = sorted(folder.absolute().glob(SHARDS))  # pyarrow reads `run:1/...` as a URL
    if not paths:
        raise ValueError("there is no scores/train-00000-of-00001.parquet")
    size = sum(path.stat().st_size for path in paths)
    found = 0
    for path in paths:
        with pq.ParquetFile(path) as file:
            found += file.metadata.num_rows
            _check_schema(file.schema_arrow)
            groups = [file.metadata.row_group(index) for index in range(file.metadata.num_row_groups)]
        _check_growth(sum(group.total_byte_size for group in groups), size)
    if found > num_rows or found * _BYTES_OF_A_ROW > size:
        raise ValueError(f"the scores claim {found} rows in {size} bytes, for a source of {num_rows} rows")
    tables = [_read(path, size) for path in paths]
    return pa.concat_tables(tables)


def _check_schema(schema: pa.Schema) -> None:
    for field in schema:
        kind = field.type
        if not (
            pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind) or _is_text(kind)
        ):
            raise ValueError(f"the column {field.name[:100]!r} of the scores holds {str(kind)[:100]}")


def _read(path: Path, size: int) -> pa.Table:
    """One file; texts that stand there once for many rows are measured before they are repeated."""
    schema = pq.read_schema(path)
    texts = [field.name for field in schema if _is_text(field.type)]
    table = pq.read_table(path, partitioning=None, read_dictionary=texts)
    for name in texts:
        place = table.schema.get_field_index(name)
        column = table.column(place)
        for chunk in column.chunks if pa.types.is_dictionary(column.type) else []:
            lengths = pc.take(pc.binary_length(chunk.dictionary), chunk.indices)
            _check_growth(pc.sum(lengths.cast(pa.int64())).as_py() or 0, size)
        table = table.set_column(place, schema.field(place), column.cast(schema.field(place).type))
    return table.replace_schema_metadata(schema.metadata)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind)


def _check_growth(num_bytes: int, size: int) -> None:
    if num_bytes > _GROWTH * size + _ALWAYS:
        raise ValueError(f"the scores would take {num_bytes} bytes of memory, from {size} on disk")
