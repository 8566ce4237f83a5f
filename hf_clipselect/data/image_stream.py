"""A stream: rows with images that come one after another, as often as they are asked for, and are never all in memory.

A row is known by its position, which is its `source_index`.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from datasets import (
    Dataset,
    Features,
    Image,
    IterableDataset,
    are_progress_bars_disabled,
    disable_progress_bars,
    enable_progress_bars,
)
from datasets.table import InMemoryTable, embed_array_storage

from ..errors import InputError
from ..runtime.parquet import without_hollow_columns
from .columns import find_caption_column, find_image_column, find_label_column
from .labelled_images import check_column_names
from .loading_errors import explained
from .outside_files import caches_of_hub_data, with_own_images
from .source import DatasetSource, bytes_there, sampled_images
from .stream_rows import check_in_order, datasets_of_stream, typed_tables, with_features


@dataclass(frozen=True)
class StreamShard:
    """Some rows that follow each other, the first of which has the number `start`.

    `images` is the image column alone, undecoded, mapped from a file that is there until the next shard is asked for;
    `held` are the columns that are held of all rows, `content` is the hash of the images' files, and `sampled` those
    of the few by which the stream is known again.
    """

    start: int
    images: Dataset
    held: pa.Table
    content: str
    sampled: list[str]


@dataclass(frozen=True)
class ImageStream:
    """A stream whose columns have been found. Its rows have `features`, and come undecoded.

    `held` names the columns that are kept in memory for all rows, the label or caption column first. The number of
    rows and the fingerprint of `source` are not known before the rows have been read.
    """

    rows: IterableDataset
    features: Features
    image_column: str
    held: tuple[str, ...]
    has_captions: bool
    source: DatasetSource
    allow_outside_files: bool
    hub_caches: tuple[str, ...]  # where rows lie that were taken from the Hub before they were made a stream
    beginning: str  # hash of the first rows, by which the columns were found

    @property
    def label_column(self) -> str:
        """The column of the labels, or of the captions."""
        return self.held[0]

    def batches(self) -> Iterator[pa.Table]:
        """The rows from the first one on, at most 64 at once; images have bytes, or the path of a file here.

        Raises `InputError` where a row names a file that is not the stream's own, or an image of the web; and where
        the first rows are not those by which the columns were found. So is what goes wrong in the reading of files.
        """
        start, tables = 0, typed_tables(self.rows)
        while True:
            with _reading(self.source, start):
                table = next(tables, None)
            if table is None:
                break
            if start == 0 and _beginning(table, self.image_column, self.held) != self.beginning:
                raise _other_rows(0)
            yield self._as_own(table, start)
            start += len(table)
        if start == 0:
            raise _other_rows(0)

    def shards(self, shard_rows: int, folder: Path) -> Iterator[StreamShard]:
        """The rows, so many in each shard, and fewer in the last; the images of one at a time are in `folder`."""
        start = 0
        path = folder / ".images-of-a-shard.tmp"  # as a killed run's temporary file it is removed by the next one
        schema = Features({self.image_column: self.features[self.image_column]}).arrow_schema
        try:
            for _, tables in _parts(self.batches(), shard_rows):
                content, held = hashlib.sha256(), []
                with path.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
                    for table in tables:
                        _add_images(content, table.column(self.image_column))
                        writer.write_table(table.select([self.image_column]).cast(schema))
                        held.append(table.select(list(self.held)))
                images = Dataset.from_file(str(path)).cast_column(self.image_column, Image(decode=False))
                # In one piece: a table of a few rows takes more for itself than its rows do.
                sampled = sampled_images(images, self.image_column, start)
                yield StreamShard(start, images, pa.concat_tables(held).combine_chunks(), content.hexdigest(), sampled)
                start += len(images)
        finally:
            path.unlink(missing_ok=True)

    def again(
        self, held: Dataset, needed: np.ndarray, contents: Sequence[str], shard_rows: int, path: Path
    ) -> Dataset:
        """Read the rows once more, `(N,)` of them: a dataset with all columns, mapped from a file at `path`.

        Of the rows that are not needed, bool `(N,)`, the file holds nothing but the columns that were held before;
        their other columns are null. Raises `InputError` where the stream gives other rows than before, by what was
        `held` of them and by the `contents` of its shards.
        """
        schema, start = self.features.arrow_schema, 0
        before = held.with_format("arrow").select_columns(list(self.held))
        with path.open("wb") as file, pa.ipc.new_stream(file, schema) as writer:
            for number, tables in _parts(self.batches(), shard_rows):
                content = hashlib.sha256()
                for table in tables:
                    stop = start + len(table)
                    if stop > len(held) or not _same_values(before[start:stop], table.select(list(self.held))):
                        raise _other_rows(start)
                    _add_images(content, table.column(self.image_column))
                    writer.write_table(_emptied(table, needed[start:stop], self.held).cast(schema))
                    start = stop
                if content.hexdigest() != contents[number]:
                    raise _other_rows(number * shard_rows)
        if start != len(held):
            raise _other_rows(start)
        return Dataset.from_file(str(path))

    @property
    def _origin(self) -> DatasetSource:
        """The source; of a stream that a caller opened from the Hub, whose rows others wrote, by its repositories."""
        repositories = ", ".join(f"hf://datasets/{name}" for name in self.rows._token_per_repo_id)
        return self.source if self.source.name else replace(self.source, name=repositories)

    def _as_own(self, table: pa.Table, start: int) -> pa.Table:
        # Rows that are made one by one come as a chunk each, and what follows takes its time for every chunk.
        table = _with_own_urls(table.select(list(self.features)).combine_chunks(), self.features, self.rows)
        dataset = Dataset(InMemoryTable(table), fingerprint=f"rows-from-{start}")  # `datasets` would hash the images
        try:
            with _without_bars():
                dataset = with_own_images(
                    dataset,
                    self.image_column,
                    self._origin,
                    allow_outside_files=self.allow_outside_files,
                    caches=self.hub_caches,
                )
        except InputError as error:
            counted = "" if start == 0 else f" (Counted from row {start} of the stream on.)"
            raise InputError(f"{error}{counted}") from None
        return dataset.data.table.cast(self.features.arrow_schema)


def open_stream(
    rows: IterableDataset,
    source: DatasetSource,
    *,
    image_column_name: str | None = None,
    label_column_name: str | None = None,
    caption_column: str | None = None,
    held_columns: Sequence[str | None] = (),
    further_columns: Sequence[str] = (),
    max_samples: int | None = None,
    allow_outside_files: bool = False,
) -> tuple[ImageStream, Dataset]:
    """Find the columns of a stream, as `read_images` finds those of a dataset, and give its first rows beside it.

    Those of `held_columns` that are columns of the stream are held in memory for all rows. `further_columns` are
    names that a subset gets beside its usual ones, and `max_samples` considers the first rows only.

    Raises `InputError` where the stream is shuffled or endless, tells no features, or has no rows; and as
    `read_images` for columns.
    """
    check_in_order(rows if max_samples is None else rows.take(max_samples))
    with _reading(source, 0):
        rows = with_features(rows)
    features, rows = rows.features.copy(), rows.decode(False)
    if max_samples is not None:
        rows = rows.take(max_samples)
    with _reading(source, 0):
        first = next(typed_tables(rows), None)
    if first is None or len(first) == 0:
        raise InputError(f"The stream {source.name or 'passed'} has no rows; nothing can be selected from it.")
    head = without_hollow_columns(Dataset(first.cast(features.arrow_schema)))
    features = Features({name: features[name] for name in head.column_names})
    image_column = find_image_column(head, image_column_name)
    if caption_column is None:
        label_column = find_label_column(head, label_column_name, image_column)
    else:
        label_column = find_caption_column(head, caption_column, image_column)
    check_column_names({image_column, label_column}, further_columns)
    if not isinstance(features[image_column], Image):
        features[image_column] = Image()
    held = (label_column, *(name for name in held_columns if name is not None and name in features))
    held = tuple(dict.fromkeys(held))
    beginning = _beginning(first, image_column, held)
    stream = ImageStream(
        rows,
        features,
        image_column,
        held,
        has_captions=caption_column is not None,
        source=source,
        allow_outside_files=allow_outside_files,
        hub_caches=tuple({cache for dataset in datasets_of_stream(rows) for cache in caches_of_hub_data(dataset)}),
        beginning=beginning,
    )
    return stream, head


def _reading(source: DatasetSource, start: int) -> AbstractContextManager[None]:
    """Tells what is wrong with the files of a stream that was opened by its name; a caller's own raises its errors."""
    if not source.name:
        return nullcontext()
    goes_on = "" if start == 0 else " (what is encoded stays, and once this is mended the same command goes on)"
    return explained(source.describe(), f"can't be read from row {start} on{goes_on}", reads_rows=False)


@contextmanager
def _without_bars() -> Iterator[None]:
    """Without the progress bars of `datasets`, of which each batch of a stream would get one."""
    if are_progress_bars_disabled():
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()


def _parts(tables: Iterator[pa.Table], shard_rows: int) -> Iterator[tuple[int, Iterator[pa.Table]]]:
    """The number of each shard, with its rows in tables of a few, to be used up before the next shard is asked for."""

    def numbered() -> Iterator[tuple[int, pa.Table]]:
        start = 0
        for table in tables:
            while len(table):
                part = table.slice(0, shard_rows - start % shard_rows)
                yield start // shard_rows, part
                table = table.slice(len(part))
                start += len(part)

    for number, parts in groupby(numbered(), key=itemgetter(0)):
        yield number, map(itemgetter(1), parts)


def _add_images(content: Any, images: pa.ChunkedArray) -> None:
    """Add the files of some images to a hash; of one that can't be read there is nothing to add but that."""
    for image in images.to_pylist():
        image = image or {}
        file = image.get("bytes") or bytes_there(image.get("path") or "")
        content.update(len(file).to_bytes(8, "big"))
        content.update(file)


def _beginning(table: pa.Table, image_column: str, held: Sequence[str]) -> str:
    """Hash of rows as a stream gives them, in which nothing is read of files that they name."""
    images = table.column(image_column).to_pylist()
    files = [(image["bytes"] or image["path"]) if isinstance(image, dict) else image for image in images]
    return hashlib.sha256(repr([files, table.select(list(held)).to_pylist()]).encode()).hexdigest()


def _with_own_urls(table: pa.Table, features: Features, rows: IterableDataset) -> pa.Table:
    """With the bytes of files that lie in the stream's own repository on the Hub, as it names them when it streams."""
    own = [re.escape(repository) for repository in rows._token_per_repo_id]
    if not own:
        return table
    # Also inside of a zip file there; what other names may mean is left for `with_own_images` to refuse.
    is_own = rf"^((zip|gzip)://[^:]*::)?hf://datasets/({'|'.join(own)})@[^:]*$"
    for name, feature in features.items():
        if isinstance(feature, Image):
            images = table.column(name).combine_chunks()
            paths = pc.struct_field(images, "path")
            wanted = pc.and_(pc.is_null(pc.struct_field(images, "bytes")), pc.match_substring_regex(paths, is_own))
            if pc.any(wanted).as_py():
                alone = pc.if_else(wanted, images, pa.scalar(None, images.type))  # nothing else is fetched
                there = embed_array_storage(alone, feature, rows._token_per_repo_id, local_files=False)
                table = table.set_column(table.column_names.index(name), name, pc.if_else(wanted, there, images))
    return table


def _emptied(table: pa.Table, needed: np.ndarray, held: Sequence[str]) -> pa.Table:
    """The rows with null in every column of those that are not needed, but for the held ones."""
    taken = table.take(pa.array(np.arange(len(table)), mask=~needed))
    for name in held:
        taken = taken.set_column(taken.column_names.index(name), name, table.column(name))
    return taken


def _same_values(known: pa.Table, now: pa.Table) -> bool:
    return known.cast(now.schema).equals(now)


def _other_rows(row: int) -> InputError:
    return InputError(
        f"The stream gave other rows from row {row} on when it was read again. Its first rows are read for its "
        "columns, all rows for the scores, and with an output folder once more for those that are kept. It has to "
        "give the same rows in the same order each time; sort its files, let its generator begin anew, or write it "
        "into files first."
    )
