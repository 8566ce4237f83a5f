"""Datasets as Parquet shards, the way `Dataset.push_to_hub` writes them: image bytes as they are in the source."""

import hashlib
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datasets import Dataset
from datasets.features.features import require_storage_embed
from datasets.table import embed_array_storage

from ..errors import InputError
from .files import read_plain_file, unused_name
from .progress import Progress


logger = logging.getLogger(__name__)

# The shards of the split `train` that [`write_parquet`] writes, as a pattern; other files may lie there too.
SHARDS = f"train-{'[0-9]' * 5}-of-{'[0-9]' * 5}.parquet"
# Rows are read, and written as a row group, in about this many bytes: little memory, and few groups of small rows.
_GROUP_BYTES = 4_000_000
_SHARD_BYTES = 500_000_000
_BUFFER_BYTES = 1 << 20
_FEWEST_ROWS, _MOST_ROWS = 16, 100_000


def write_parquet(dataset: Dataset, folder: Path) -> list[Path]:
    """Write `train-00000-of-00001.parquet`, or more shards of about 500 MB, into a folder, which is created if
    missing; other shards in it are removed. Gives the shards in order.

    Images are neither decoded nor re-encoded. Of those that are files, the shards hold the bytes, and so stand alone.
    """
    dataset = without_hollow_columns(dataset)
    folder.mkdir(parents=True, exist_ok=True)
    unnamed: list[Path] = []
    try:
        with Progress() as progress:
            for path in _write_shards(dataset, folder, lambda part: progress(f"Writing {folder.name}", part)):
                unnamed.append(path)
        for stale in folder.glob(SHARDS):
            stale.unlink()  # another number of shards would leave rows of an earlier dataset beside the new ones
        return [
            path.rename(folder / f"train-{index:05d}-of-{len(unnamed):05d}.parquet")
            for index, path in enumerate(unnamed)
        ]
    finally:
        for path in unnamed:
            path.unlink(missing_ok=True)


def without_hollow_columns(dataset: Dataset) -> Dataset:
    """Leave out columns of structures without a field, as `{}` in JSON makes them: Parquet can't hold these.

    Raises `InputError` where such a structure lies inside of one that holds more.
    """
    hollow = {name: _has_leaf(feature) for name, feature in dataset.features.items() if _is_hollow(feature)}
    if mixed := [name for name, has_more in hollow.items() if has_more]:
        raise InputError(
            f"Column {mixed[0]!r} has an empty structure ({{}}) inside of another one, which Parquet can't hold; "
            f"leave the column out with dataset.remove_columns({mixed[0]!r}), or mend the files."
        )
    if not hollow:
        return dataset
    logger.warning("Columns that hold empty structures ({}) alone are left out of the subset: %s.", ", ".join(hollow))
    return dataset.remove_columns(list(hollow))


def _is_hollow(feature: Any) -> bool:
    return feature == {} or any(_is_hollow(inner) for inner in _inside(feature))


def _has_leaf(feature: Any) -> bool:
    inner = _inside(feature)
    return any(map(_has_leaf, inner)) if inner or feature == {} else True


def _inside(feature: Any) -> list[Any]:
    if isinstance(feature, dict):
        return list(feature.values())
    if isinstance(feature, (list, tuple)):
        return list(feature)
    return [feature.feature] if hasattr(feature, "feature") else []


def _write_shards(dataset: Dataset, folder: Path, told: Callable[[float], None]) -> Iterator[Path]:
    """The names of the shards, each before it is written; the part of the rows that is done is told."""
    groups, done = _groups(dataset), 0
    group, index = next(groups, None), 0
    while group is not None or index == 0:  # a dataset without rows still has columns
        path = unused_name(folder / f"train-{index:05d}.parquet")
        yield path
        with (
            _PatientFile(path) as file,
            pq.ParquetWriter(
                file, dataset.features.arrow_schema, use_content_defined_chunking=True, write_page_index=True
            ) as writer,
        ):
            written = 0
            while group is not None and written < _SHARD_BYTES:
                writer.write_table(group, row_group_size=len(group))
                file.check()
                written += group.nbytes
                done += len(group)
                told(done / len(dataset))
                group = next(groups, None)
        index += 1


def _groups(dataset: Dataset) -> Iterator[pa.Table]:
    """The rows with their images' bytes, as tables that each become a row group."""
    arrow = dataset.with_format("arrow")
    embedded = {name: feature for name, feature in dataset.features.items() if require_storage_embed(feature)}
    parts, held, start, count = [], 0, 0, _FEWEST_ROWS
    while start < len(dataset):
        # Rows that were picked out come as one chunk each, and what follows takes its time for every chunk.
        table = arrow[start : start + count].combine_chunks()
        for name, feature in embedded.items():
            column = [embed_array_storage(_with_bytes(chunk, feature), feature) for chunk in table.column(name).chunks]
            table = table.set_column(table.column_names.index(name), name, column)
        parts.append(table)
        held += table.nbytes
        start += len(table)
        if held >= _GROUP_BYTES or start >= len(dataset):
            yield pa.concat_tables(parts).combine_chunks()
            parts, held = [], 0
        # As many rows next as fill the rest of the group, going by the last ones.
        fitting = (_GROUP_BYTES - held) * len(table) // max(table.nbytes, 1)
        count = min(max(_FEWEST_ROWS, fitting), 4 * count, _MOST_ROWS)


def _with_bytes(values: pa.Array, feature: Any) -> pa.Array:
    """With the bytes of files whose paths hold `::`, behind which `datasets` would look for another path."""
    if not hasattr(feature, "embed_storage"):
        return values
    data, paths = pc.struct_field(values, "bytes"), pc.struct_field(values, "path")
    wanted = pc.and_(pc.is_null(data), pc.match_substring_regex(paths, "(?s)^/.*::"))
    if not pc.any(wanted).as_py():
        return values
    filled = data.to_pylist()
    for row in pc.indices_nonzero(pc.fill_null(wanted, False)).to_pylist():
        filled[row] = read_plain_file(paths[row].as_py())
    fields = [pa.array(filled, data.type), paths]
    return pa.StructArray.from_arrays(fields, ["bytes", "path"], mask=values.is_null())


class _PatientFile:
    """A file that takes every write, and raises the error of one that failed when it is asked, or closed.

    Where a write fails while content is cut into chunks, pyarrow 26 ends the whole process instead of raising.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb", buffering=_BUFFER_BYTES)
        self._error: OSError | None = None

    @property
    def closed(self) -> bool:
        return self._file.closed

    def write(self, data: bytes) -> int:
        self._attempt(partial(self._file.write, data))
        return len(data)

    def flush(self) -> None:
        self._attempt(self._file.flush)

    def _attempt(self, action: Callable[[], object]) -> None:
        if self._error is None:
            try:
                action()
            except OSError as error:
                self._error = error

    def check(self) -> None:
        if self._error is not None:
            raise self._error

    def __enter__(self) -> "_PatientFile":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._file.close()
        except OSError:  # of what a failed write left in the buffer
            if self._error is None and error is None:
                raise
        if error is None:
            self.check()


def shards_id(folder: Path) -> int:
    """A whole number below 2^48 that changes with the content of the Parquet shards in a folder."""
    shards = hashlib.sha256()
    for path in sorted(folder.glob("*.parquet")):
        with path.open("rb") as file:
            shards.update(hashlib.file_digest(file, "sha256").digest())
    return int(shards.hexdigest()[:12], 16)
