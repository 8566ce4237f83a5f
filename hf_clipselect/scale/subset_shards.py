"""Shards of the kept samples alone: copied as they are, tar to tar and Parquet to Parquet.

Legend: N rows of a shard.
"""

import io
import json
import tarfile
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import IO, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.io import DataFolder, get_datafolder

from ..errors import InputError
from ..runtime.failures import is_of_the_machine
from ..runtime.words import in_one_line
from .keyed_step import KeyedStep
from .masks import MASKS, mask_path
from .score_files import SCORES
from .select_step import read_selection
from .shards import numbered_members, shard_of
from .shuffle import Layout, ScoreFile, metadata_of, read_score_file
from .whole_files import write_whole


SUBSET = "subset"
_NOTES = f"{SUBSET}/keys"
_CHECKS_AT_ONCE = 16
# Rows of a Parquet shard that are in memory at once.
_ROWS_AT_ONCE = 1024


class WriteSubsets(KeyedStep):
    """Writes `subset/<config>/<shard>` with the kept samples of every shard, in their order; a shard of which nothing
    is kept has no file.

    Each task takes every so many-th shard. Of a sample all its members are copied, or all columns of its row. Raises
    `InputError` where a shard is not the one that was scored, or can't be read.
    """

    name = "subsets"

    def __init__(self, data: str, work: str, key: str) -> None:
        super().__init__(work, key)
        self.data = data

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        source, work = get_datafolder(self.data), get_datafolder(self.work)
        layout, summary = read_selection(work, self.key)
        for scores in layout.scores[rank::world_size]:
            if not is_copied(work, scores, summary["key"]):
                _write_subsets(source, work, scores, summary)


def subset_path(config: str, shard: str) -> str:
    """The shard of the kept samples."""
    return f"{SUBSET}/{config}/{shard}"


def is_copied(work: DataFolder, scores: str, key: str) -> bool:
    """Whether the kept samples of a shard are there, of this selection."""
    note = _read_note(work, _note_path(scores))
    return note is not None and note.key == key


@dataclass(frozen=True)
class _Note:
    """Which copies of a shard's samples were written or begun, and once all are there, of which selection they are.

    What no note names is none of ours.
    """

    files: list[str]
    key: str | None = None

    def write(self, work: DataFolder, path: str) -> None:
        with write_whole(work, path) as file:
            file.write(json.dumps(asdict(self)).encode())


def _note_path(scores: str) -> str:
    return f"{_NOTES}/{PurePosixPath(scores).relative_to(SCORES).with_suffix('.json')}"


def _read_note(work: DataFolder, path: str) -> _Note | None:
    """The note; None where there is none of ours."""
    if not work.isfile(path):
        return None
    with work.open(path) as file:
        content = file.read()
    try:
        told = json.loads(content)
        files = told["files"]
        ours = isinstance(files, list) and all(str(name).startswith(f"{SUBSET}/") for name in files)
        return _Note(files, told["key"]) if ours else None
    except (ValueError, KeyError, TypeError):
        return None


def _remove_copies(work: DataFolder, note: _Note | None, but: Collection[str] = ()) -> None:
    for path in note.files if note is not None else ():
        if path not in but and work.exists(path):
            work.rm_file(path)


def remove_others(work: DataFolder, layout: Layout, key: str) -> None:
    """Remove what an earlier selection left: masks of shards that are not in this one, and copies of samples that are
    not of this one, also where this one has made none. Files that no selection wrote stay.
    """
    masks = {mask_path(scores) for scores in layout.scores}
    for path in work.list_files(MASKS) if work.isdir(MASKS) else ():
        if path not in masks and path.endswith(".parquet") and metadata_of(work, path) is not None:
            work.rm_file(path)
    notes, paths = {_note_path(scores) for scores in layout.scores}, []
    if work.isdir(_NOTES):
        paths = [path for path in work.list_files(_NOTES) if path.endswith(".json")]
    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        for path, note in zip(paths, pool.map(partial(_read_note, work), paths), strict=True):
            if note is not None and (path not in notes or note.key != key):
                _remove_copies(work, note)
                work.rm_file(path)


def _write_subsets(source: DataFolder, work: DataFolder, scores: str, summary: dict[str, Any]) -> None:
    """Copy what each size keeps of one shard, by the mask beside its score file."""
    file, _ = read_score_file(work, scores)
    kept = _kept_rows(work, file, summary)
    place, note = _note_path(scores), _Note([subset_path(config, file.shard) for config in kept])
    _remove_copies(work, _read_note(work, place), but=note.files)
    note.write(work, place)
    if kept:
        _copy_kept(source, work, file, kept)
    replace(note, key=summary["key"]).write(work, place)


def _kept_rows(work: DataFolder, file: ScoreFile, summary: dict[str, Any]) -> dict[str, np.ndarray]:
    """Which rows `(N,)`, bool, each size keeps of a shard; a size that keeps none is left out."""
    with work.open(mask_path(file.path)) as opened:
        mask = pq.read_table(opened)
    rows = mask.column("row").to_numpy()
    kept: dict[str, np.ndarray] = {}
    for config, suffix in summary["sizes"].items():
        selected = np.zeros(file.num_rows, dtype=bool)
        selected[rows[mask.column(f"selected_{suffix}").to_numpy()]] = True
        if selected.any():
            kept[config] = selected
    return kept


def _copy_kept(source: DataFolder, work: DataFolder, file: ScoreFile, kept: dict[str, np.ndarray]) -> None:
    if shard_of(file.shard, source.info(file.shard)).identity != file.of_shard:
        raise InputError(
            f"The shard {file.shard} was replaced since it was scored, so that its rows may be others. Run score and "
            "select again."
        )
    copy = _copy_tar if file.shard.endswith(".tar") else _copy_parquet
    with ExitStack() as stack:
        opened = stack.enter_context(source.open(file.shard))
        targets = [
            (stack.enter_context(write_whole(work, subset_path(config, file.shard))), selected)
            for config, selected in kept.items()
        ]
        try:
            num_rows = copy(opened, targets, file)
        except Exception as error:  # of damaged files, which raise anything
            if is_of_the_machine(error):
                raise
            raise InputError(
                f"The shard {file.shard} can't be read: {in_one_line(error, 300).rstrip('.')}. It could when it was "
                "scored; run write again, and if that does not help, score and select."
            ) from error
        if num_rows != file.num_rows:
            raise InputError(
                f"The shard {file.shard} has {num_rows} rows, and had {file.num_rows} when it was scored. Run score "
                "and select again."
            )


def _copy_tar(source: IO[bytes], targets: list[tuple[IO[bytes], np.ndarray]], file: ScoreFile) -> int:
    """Copy kept samples into all targets; gives the number of samples."""
    with ExitStack() as stack:
        archive = stack.enter_context(tarfile.open(fileobj=source, mode="r|*"))
        written = [
            (stack.enter_context(tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT)), selected)
            for target, selected in targets
        ]
        row = -1
        for row, _, _, member in numbered_members(archive):
            wanted = [target for target, selected in written if row < file.num_rows and selected[row]]
            if not wanted:
                continue
            content = archive.extractfile(member)
            data = b"" if content is None else content.read()
            for target in wanted:
                target.addfile(member, io.BytesIO(data))
        return row + 1


def _copy_parquet(source: IO[bytes], targets: list[tuple[IO[bytes], np.ndarray]], file: ScoreFile) -> int:
    """Copy kept rows into all targets; gives the number of rows."""
    parquet = pq.ParquetFile(source)
    schema, start = parquet.schema_arrow, 0
    with ExitStack() as stack:
        written = [(stack.enter_context(pq.ParquetWriter(target, schema)), selected) for target, selected in targets]
        for batch in parquet.iter_batches(_ROWS_AT_ONCE):
            for target, selected in written:
                part = selected[start : start + len(batch)]
                if len(part) == len(batch) and part.any():
                    target.write_batch(batch.filter(pa.array(part)))
            start += len(batch)
    return start
