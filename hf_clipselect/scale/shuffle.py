"""Score files to files that are sorted by cluster and uid, of which a later task reads the clusters that are its own.

Legend: R ranges of score files, each sorted by one task; G groups of clusters, each ranked by one task; C clusters.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from functools import partial
from itertools import islice
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.io import DataFolder, get_datafolder

from ..encoder.threads import in_order
from ..errors import InputError, RunError
from ..runtime.words import are, counted, in_one_line, listed
from .keyed_step import KeyedStep
from .score_files import EMBEDDING, METADATA, SCORES, Shard
from .shards import list_shards
from .storage_failures import is_of_storage
from .whole_files import read_json, write_whole


SORTED = "sorted"
UID = np.dtype([("f0", "<u8"), ("f1", "<u8")])

_LAYOUT = "selection_layout.json"
_COLUMNS = ("uid", "row", "cluster", "sas", "margin", "sds")
# Object storage answers each in some tenths of a second.
_FOOTERS_AT_ONCE = 16


@dataclass(frozen=True)
class ScoreFile:
    """What a score file tells of itself."""

    path: str  # in the working folder
    key: str  # of the reference
    shard: str  # its path in the data folder
    shard_bytes: int
    shard_version: str  # as its storage told it, empty where it tells none
    num_rows: int  # of the shard
    num_scored: int  # rows of the file; the other ones of the shard can't be read
    seconds: float  # that scoring took
    embed_dim: int  # of the embeddings in it, 0 where there are none

    @property
    def of_shard(self) -> tuple[str, int, str]:
        """The [`Shard.identity`] of the shard when it was scored."""
        return self.shard, self.shard_bytes, self.shard_version

    @property
    def content(self) -> str:
        """By what it is noticed that the file has other rows now, in 16 hexadecimal digits."""
        told = [self.key, *self.of_shard, self.num_rows, self.num_scored]
        return hashlib.sha256(json.dumps(told).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Scored:
    """The score files of all shards, in the order of the shards' names, with what does not grow with the clusters of
    each: `counts` are rows of all files by cluster, and `digest` is the hash of all that the files tell.
    """

    files: list[ScoreFile]
    lost: list[str]  # shards without scores
    counts: dict[int, int]
    digest: str


@dataclass(frozen=True)
class Layout:
    """How the work of a selection is cut into tasks; every task reads it from the working folder.

    `key` tells what the rows and their order follow from. `scores` are the paths of the score files; a shard is named
    by its place among them. `contents` are their [`ScoreFile.content`]. `range_starts` `(R,)` are the first file of
    each range, `group_starts` `(G,)` the first cluster of each group. The rows of sorted files have their embeddings
    where these are needed.
    """

    key: str
    scores: tuple[str, ...]
    contents: tuple[str, ...]
    range_starts: tuple[int, ...]
    group_starts: tuple[int, ...]
    with_embeddings: bool

    def write(self, work: DataFolder) -> None:
        with write_whole(work, _LAYOUT) as file:
            file.write(json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, work: DataFolder, key: str | None = None) -> "Layout":
        """The layout of a working folder; raises `RunError` where a key is given and it is another one's, and
        `InputError` where it is damaged.
        """
        kinds: dict[str, type] = {"key": str, "with_embeddings": bool}
        needs = {field.name: kinds.get(field.name, list) for field in fields(cls)}
        told = read_json(work, _LAYOUT, remedy="Run select again.", needs=needs)
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in told.items()}
        if key not in (None, values["key"]):
            raise RunError(changed(work))
        return cls(**{name: values[name] for name in needs})

    def files(self, number: int) -> range:
        """The numbers of the score files in a range."""
        ends = (*self.range_starts[1:], len(self.scores))
        return range(self.range_starts[number], ends[number])


def changed(work: DataFolder) -> str:
    """What a task says that finds another selection than the one it is for."""
    return (
        f"Another select has begun in {work.path} since this task was handed over, or its files are of several ones. "
        "Run select again with the flags that you want, and the commands after it."
    )


def checked_scores(data: DataFolder, work: DataFolder, *, key: str, accept_lost_shards: int = 0) -> Scored:
    """What is scored of all shards of a data folder.

    The lost ones are those that could not be scored, as their `.failed.json` tells, of this key and of the shard as it
    is; `accept_lost_shards` is their number. Raises `InputError` where it is not, where a shard has neither, where
    scores are not of this key or of the shard as it is, and where nothing is scored.
    """
    shards = list_shards(data, work)
    there = set(work.list_files(SCORES)) if work.isdir(SCORES) else set()
    scored = [shard for shard in shards if shard.scores_path in there]
    rest = [shard for shard in shards if shard.scores_path not in there]
    tried = [shard for shard in rest if shard.failed_path in there]
    with ThreadPoolExecutor(_FOOTERS_AT_ONCE) as pool:
        reasons = zip(tried, pool.map(partial(_failure, work, key=key), tried), strict=True)
        lost = {shard.path: reason for shard, reason in reasons if reason is not None}
    if missing := [shard.path for shard in rest if shard.path not in lost]:
        raise InputError(
            f"{counted(len(missing), 'shard')} of {len(shards)} {are(len(missing))} not scored yet, or replaced "
            f"since: {listed(missing, limit=3)}. Run score again, which scores what is missing."
        )
    if len(lost) != accept_lost_shards:
        named = [f"{path} ({reason})" for path, reason in islice(lost.items(), 3)]
        why = f": {listed(named)}" if lost else ""
        raise InputError(
            f"{counted(len(lost), 'shard')} of {len(shards)} could not be scored{why}. "
            + ("Run score again, or go on without them by " if lost else "Leave the flag out, or pass ")
            + f"--accept_lost_shards {len(lost)}; given was {accept_lost_shards}."
        )
    files, counts, digest = [], Counter[int](), hashlib.sha256()
    for file, of_file in in_order(partial(_checked_score_file, work, key=key), scored, threads=_FOOTERS_AT_ONCE):
        files.append(file)
        counts.update(of_file)
        digest.update(json.dumps([asdict(file), sorted(of_file.items())]).encode())
    if not any(file.num_scored for file in files):
        raise InputError(f"No row of the {counted(len(shards), 'shard')} in {data.path} could be scored.")
    return Scored(files, list(lost), dict(counts), digest.hexdigest())


def read_score_file(work: DataFolder, path: str) -> tuple[ScoreFile, dict[int, int]]:
    """What a score file tells of itself, and its rows by cluster. Raises `InputError` where it is damaged."""
    try:
        with work.open(path) as file:
            opened = pq.ParquetFile(file)
            told, schema = json.loads(opened.metadata.metadata[METADATA]), opened.schema_arrow
        counts = {int(cluster): count for cluster, count in told["counts"].items()}
        facts = {field.name: told[field.name] for field in fields(ScoreFile) if field.name in told}
        embed_dim = schema.field("embedding").type.list_size if "embedding" in schema.names else 0
        return ScoreFile(path, embed_dim=embed_dim, **facts), counts
    except (OSError, KeyError, TypeError, AttributeError, ValueError) as error:  # of pyarrow some are ValueErrors
        if is_of_storage(error):
            raise
        raise InputError(f"The score file {path} is damaged. Run score again, which makes it anew.") from None


def make_layout(scored: Scored, *, rows_per_task: int, with_embeddings: bool, depends_on: dict[str, Any]) -> Layout:
    """Cut the work of a selection so that a task has at most so many rows where no score file and no cluster has more.

    `depends_on` is what the order of the rows follows from besides the files, as plain values.
    """
    clusters = sorted(scored.counts)
    groups = [clusters[place] for place in _starts([scored.counts[cluster] for cluster in clusters], rows_per_task)]
    ranges = _starts([file.num_scored for file in scored.files], rows_per_task)
    told = [depends_on, rows_per_task, with_embeddings, scored.digest]
    key = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    paths, contents = (tuple(getattr(file, name) for file in scored.files) for name in ("path", "content"))
    return Layout(key, paths, contents, tuple(ranges), tuple(groups), with_embeddings)


def _starts(sizes: Sequence[int], most: int) -> list[int]:
    """Where groups of neighbours begin that together are at most so large, or one alone."""
    starts, held = [0], 0
    for place, size in enumerate(sizes):
        if held and held + size > most:
            starts.append(place)
            held = 0
        held += size
    return starts


class Shuffle(KeyedStep):
    """Sorts the rows of a range of score files by cluster, then by uid; rows of the same uid stay in their order.

    Writes `sorted/<range>.parquet` with a row group for each group of clusters that has rows, which the metadata
    counts: the columns of the score files, and the number of the shard. `key` is that of the layout.
    """

    name = "shuffle"

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        work = get_datafolder(self.work)
        layout = Layout.read(work, self.key)
        columns = [*_COLUMNS, *(["embedding"] if layout.with_embeddings else [])]
        tables = []
        for number in layout.files(rank):
            table = _read_scores(work, layout.scores[number], columns)
            _check_finite(table, layout.scores[number])
            tables.append(table.append_column("shard", pa.array(np.full(len(table), number, dtype=np.int32))))
        table = pa.concat_tables(tables).combine_chunks()
        clusters, uids = table.column("cluster").to_numpy(), uids_of(table.column("uid"))
        order = np.lexsort((uids["f1"], uids["f0"], clusters))
        table = table.take(pa.array(order))
        ends = np.searchsorted(clusters[order], [*layout.group_starts[1:], np.iinfo(np.int32).max], side="left")
        write_groups(work, sorted_path(rank), table, ends, key=layout.key)


def sorted_path(number: int) -> str:
    """The sorted file of a range."""
    return f"{SORTED}/{number:05d}.parquet"


def read_sorted(work: DataFolder, layout: Layout, group: int) -> pa.Table:
    """The rows of a group of clusters out of all sorted files, those of the first range first."""
    paths = [sorted_path(number) for number in range(len(layout.range_starts))]
    return read_group(work, paths, group, key=layout.key)


def write_groups(
    work: DataFolder, path: str, table: pa.Table, ends: np.ndarray, *, key: str, told: dict[str, Any] | None = None
) -> None:
    """Write a table whose row groups end at `ends` `(G,)`, so that [`read_group`] finds each; empty ones are counted
    alone. `told` is what the metadata tells beside the key.
    """
    starts = [0, *ends[:-1].tolist()]
    sizes = [end - start for start, end in zip(starts, ends.tolist(), strict=True)]
    metadata = {"key": key, "groups": sizes, **(told or {})}
    schema = table.schema.with_metadata({METADATA: json.dumps(metadata).encode()})
    with write_whole(work, path) as file, _writer(file, schema) as writer:
        for start, size in zip(starts, sizes, strict=True):
            if size:
                writer.write_table(table.slice(start, size).cast(schema), row_group_size=size)


def _writer(file: IO[bytes], schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(file, schema, write_statistics=False, write_page_checksum=True)


def read_group(work: DataFolder, paths: Sequence[str], group: int, *, key: str) -> pa.Table:
    """One group out of files of [`write_groups`], in the order of the files. Raises `RunError` where one is of another
    key, or is damaged: its pages have checksums.
    """
    tables = [_read_group(work, path, group, key=key) for path in paths]
    return pa.concat_tables(tables).replace_schema_metadata(None).combine_chunks()


def _read_group(work: DataFolder, path: str, group: int, *, key: str) -> pa.Table:
    try:
        with work.open(path) as opened:
            file = pq.ParquetFile(opened, page_checksum_verification=True)
            told = json.loads(file.metadata.metadata[METADATA])
            sizes = told["groups"]
            if told["key"] != key:
                raise RunError(changed(work))
            if sizes[group]:
                return file.read_row_group(sum(size > 0 for size in sizes[:group]))
            return file.schema_arrow.empty_table()
    except (OSError, KeyError, TypeError, IndexError, ValueError, pa.ArrowException) as error:
        if is_of_storage(error):
            raise
        raise RunError(damaged(path, in_one_line(error, 200))) from error


def damaged(path: str, reason: str) -> str:
    """What is said of a file of select that can't be read."""
    return f"{path} can't be read: {reason}. If it is damaged, remove it and run select again, which makes it anew."


def metadata_of(work: DataFolder, path: str) -> dict[str, Any] | None:
    """What a Parquet file of ours tells of itself; None where it is not there, or is damaged."""
    try:
        with work.open(path) as file:
            told = json.loads(pq.ParquetFile(file).metadata.metadata[METADATA])
    except FileNotFoundError:
        return None
    except (OSError, KeyError, TypeError, ValueError) as error:
        if is_of_storage(error):
            raise
        return None
    return told if isinstance(told, dict) else None


def is_of(work: DataFolder, path: str, key: str) -> bool:
    """Whether a file of [`write_groups`] is there, whole and of this key."""
    told = metadata_of(work, path)
    return told is not None and told.get("key") == key


def uids_of(column: pa.ChunkedArray | pa.Array) -> np.ndarray:
    """The 128-bit uids `(N,)` of a column of 16 bytes each, as pairs whose order is that of the bytes."""
    array = column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
    whole = np.frombuffer(array.buffers()[1], dtype=">u8", count=2 * (array.offset + len(array)))
    pairs = whole.reshape(-1, 2)[array.offset :]
    uids = np.empty(len(array), dtype=UID)
    uids["f0"], uids["f1"] = pairs[:, 0], pairs[:, 1]
    return uids


def uid_text(uid: np.void) -> str:
    """A uid in 32 hexadecimal digits."""
    return f"{int(uid['f0']):016x}{int(uid['f1']):016x}"


def _checked_score_file(work: DataFolder, shard: Shard, *, key: str) -> tuple[ScoreFile, dict[int, int]]:
    file, counts = read_score_file(work, shard.scores_path)
    if file.key != key or file.of_shard != shard.identity:
        raise InputError(
            f"The score file {file.path} is of another reference, or of the shard as it was. Run score again, which "
            "makes it anew."
        )
    return file, counts


def _read_scores(work: DataFolder, path: str, columns: list[str]) -> pa.Table:
    try:
        with work.open(path) as file:
            return pq.read_table(file, columns=columns, page_checksum_verification=True)
    except (OSError, pa.ArrowException) as error:
        if is_of_storage(error):
            raise
        raise RunError(
            f"The score file {path} can't be read: {in_one_line(error, 200)}. If it is damaged, score makes it anew; "
            "run score and select again."
        ) from error


def _check_finite(table: pa.Table, path: str) -> None:
    if not len(table):
        return
    for name in (name for name in table.column_names if name not in ("uid", "row", "cluster")):
        column = table.column(name).combine_chunks()
        values = column.flatten() if name == EMBEDDING else column
        finite = np.isfinite(values.to_numpy(zero_copy_only=False)).reshape(len(table), -1).all(axis=1)
        if not finite.all():
            row = table.column("row")[int(np.argmin(finite))].as_py()
            raise InputError(
                f"The score file {path} has {name} that is no finite number, first in row {row} of the shard. Remove "
                "the file and run score again, which makes it anew; if it is the same then, take the image of the row "
                "out of the shard, since the model gives no numbers for it."
            )


def _failure(work: DataFolder, shard: Shard, *, key: str) -> str | None:
    """Why a shard can't be scored; None where that is told of another reference, or of the shard as it was, or the
    file is damaged.
    """
    with work.open(shard.failed_path) as file:
        content = file.read()
    try:
        told = json.loads(content)
        same = (told["key"], told["shard_bytes"], told["shard_version"]) == (key, shard.size, shard.version)
        return str(told["reason"]) if same else None
    except (ValueError, KeyError, TypeError):
        return None
