"""Which rows of every shard are kept: a Parquet file of booleans beside each shard's scores."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.io import DataFolder, get_datafolder

from .keyed_step import KeyedStep
from .score_files import METADATA, SCORES
from .select_step import read_selection, selected_path
from .shuffle import Layout, is_of, read_group
from .whole_files import write_whole


MASKS = "masks"


class WriteMasks(KeyedStep):
    """Writes `masks/<shard>.parquet` for every shard: uid and row as in the scores, and for each size
    `selected_<percent>`, bool. Of rows of a cluster with the same uid only one can be kept, that of the best scores.

    Each task takes every so many-th of the ranges of shards.
    """

    name = "masks"

    def run(self, data: object = None, rank: int = 0, world_size: int = 1) -> None:
        work = get_datafolder(self.work)
        layout, summary = read_selection(work, self.key)
        for number in range(len(layout.range_starts))[rank::world_size]:
            if not are_written(work, layout, number, summary["key"]):
                self._write_range(work, layout, number, summary)

    def _write_range(self, work: DataFolder, layout: Layout, number: int, summary: dict) -> None:
        groups = [selected_path(group) for group in range(len(layout.group_starts))]
        kept = read_group(work, groups, number, key=self.key)
        shards = kept.column("shard").to_numpy()
        order = np.argsort(shards, kind="stable")
        kept, files = kept.take(pa.array(order)), layout.files(number)
        ends = np.searchsorted(shards[order], [*files[1:], files[-1] + 1], side="left")
        start = 0
        for file, end in zip(files, ends.tolist(), strict=True):
            self._write(work, layout.scores[file], kept.slice(start, end - start), summary)
            start = end

    def _write(self, work: DataFolder, scores: str, kept: pa.Table, summary: dict) -> None:
        with work.open(scores) as file:
            table = pq.read_table(file, columns=["uid", "row"])
        rows, kept_rows = table.column("row").to_numpy(), kept.column("row").to_numpy()
        for suffix in summary["sizes"].values():
            selected = np.isin(rows, kept_rows[kept.column(f"selected_{suffix}").to_numpy()])
            table = table.append_column(f"selected_{suffix}", pa.array(selected))
        metadata = {METADATA: json.dumps({"key": summary["key"]}).encode()}
        with write_whole(work, mask_path(scores)) as file:
            pq.write_table(table.replace_schema_metadata(metadata), file)


def mask_path(scores: str) -> str:
    """The mask beside a score file."""
    return f"{MASKS}/{scores.removeprefix(f'{SCORES}/')}"


def are_written(work: DataFolder, layout: Layout, number: int, key: str) -> bool:
    """Whether the masks of a range of shards are there, whole and of this selection."""
    return all(is_of(work, mask_path(layout.scores[file]), key) for file in layout.files(number))
