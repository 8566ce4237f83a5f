"""Shards of the kept samples alone: copied as they are, tar to tar and Parquet to Parquet.

Legend: N rows of a shard.
"""

import io
import tarfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
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
from .shards import ENDINGS, numbered_members, shard_of
from .shuffle import Layout, ScoreFile, read_score_file
from .whole_files import write_whole


SUBSET, KEYS = "subset", "keys"
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
    if not work.isfile(_key_path(scores)):
        return False
    with work.open(_key_path(scores)) as file:
        return file.read() == key.encode()


def _key_path(scores: str) -> str:
    """Where it is noted of which selection the copies of a shard are."""
    return f"{SUBSET}/{KEYS}/{_stem(scores, SCORES)}.key"


def remove_others(work: DataFolder, layout: Layout, configs: Sequence[str], key: str) -> None:
    """Remove what an earlier selection left: masks of shards that are not in this one, and copies of samples that are
    not of this one, also where this one has made none.
    """
    ours = {_stem(scores, SCORES): scores for scores in layout.scores}
    for path in work.list_files(MASKS) if work.isdir(MASKS) else ():
        if _stem(path, MASKS) not in ours:
            work.rm_file(path)
    if not work.isdir(SUBSET):
        return
    paths = [path for path in work.list_files(SUBSET) if path.endswith((*ENDINGS, ".key"))]
    with ThreadPoolExecutor(_CHECKS_AT_ONCE) as pool:
        copied = pool.map(lambda scores: is_copied(work, scores, key), ours.values())
        current = {stem for stem, there in zip(ours, copied, strict=True) if there}
    # Keys go first: what is left of copies without one is made anew.
    for path in sorted(paths, key=lambda path: not path.endswith(".key")):
        config = PurePosixPath(path).parts[1]
        if config not in (*configs, KEYS) or _stem(path, f"{SUBSET}/{config}") not in current:
            work.rm_file(path)


def _stem(path: str, folder: str) -> PurePosixPath:
    """What names the shard of a file in a folder."""
    return PurePosixPath(path).with_suffix("").relative_to(folder)


def _write_subsets(source: DataFolder, work: DataFolder, scores: str, summary: dict[str, Any]) -> None:
    """Copy what each size keeps of one shard, by the mask beside its score file."""
    if work.exists(_key_path(scores)):
        work.rm_file(_key_path(scores))  # it vouches for the copies, which now become others
    file, _ = read_score_file(work, scores)
    _copy_kept(source, work, file, summary)
    with write_whole(work, _key_path(scores)) as key:
        key.write(summary["key"].encode())


def _copy_kept(source: DataFolder, work: DataFolder, file: ScoreFile, summary: dict[str, Any]) -> None:
    with work.open(mask_path(file.path)) as opened:
        mask = pq.read_table(opened)
    rows = mask.column("row").to_numpy()
    kept: dict[str, np.ndarray] = {}
    for config, suffix in summary["sizes"].items():
        selected = np.zeros(file.num_rows, dtype=bool)
        selected[rows[mask.column(f"selected_{suffix}").to_numpy()]] = True
        if selected.any():
            kept[config] = selected
        elif work.exists(path := subset_path(config, file.shard)):
            work.rm_file(path)  # of an earlier selection
    if not kept:
        return
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
