"""What a selection of so many rows takes: shards, tasks, device hours, storage, memory, and how they grow."""

import math
from collections import Counter
from dataclasses import dataclass
from functools import partial

from datatrove.io import DataFolder

from ..encoder.threads import in_order
from ..errors import InputError
from .score_files import SCORES
from .shuffle import read_score_file


# Score files that are looked at.
_MOST_FILES = 1000
_FILES_AT_ONCE = 16
# Bytes of a row in each kind of file, and in the memory of the task that sorts or ranks it, as measured on 10^7 random
# rows; an embedding adds two for each of its numbers, and in memory nine times as much, as the task that sorts 40,000
# rows with 512 numbers showed (the one that ranks them takes seven).
_SCORE_BYTES, _SORTED_BYTES, _RANKED_BYTES, _SELECTED_BYTES, _UID_BYTES = 45, 32, 20, 40, 16
_BYTES_IN_MEMORY, _EMBEDDINGS_IN_MEMORY = 200, 9


@dataclass(frozen=True)
class Known:
    """What is known before all rows are scored; `largest_cluster` is its share of the rows."""

    rows_per_shard: float = 10_000
    rows_per_second: float | None = None
    largest_cluster: float = 0.01
    embed_dim: int = 0


def known_from_scores(work: DataFolder) -> Known:
    """What the score files that are there tell. Raises `InputError` where there are none."""
    paths = [path for path in work.list_files(SCORES) if path.endswith(".parquet")] if work.isdir(SCORES) else []
    files, counts = [], Counter[int]()
    for file, of_file in in_order(partial(read_score_file, work), paths[:_MOST_FILES], threads=_FILES_AT_ONCE):
        files.append(file)
        counts.update(of_file)
    scored = sum(file.num_scored for file in files)
    if not scored:
        raise InputError(f"--work_dir {work.path} has no scores to go by. Score a shard first, or leave the flag out.")
    rows = sum(file.num_rows for file in files)
    return Known(
        rows / len(files),
        rows / max(sum(file.seconds for file in files), 1e-3),
        max(counts.values()) / scored,
        max(file.embed_dim for file in files),
    )


def planned(num_rows: float, known: Known, *, rows_per_task: int, gpus: int, ratio: float) -> list[str]:
    """The lines that tell it. Raises `InputError` where the speed is not known, or a number is out of range."""
    if known.rows_per_second is None:
        raise InputError(
            "A plan needs the speed of scoring: pass --work_dir with the scores of a shard, or --rows_per_second."
        )
    if not 1 <= num_rows < math.inf or num_rows != round(num_rows):  # nan is not, either
        raise InputError(f"--num_rows is a number of rows, whole and at least 1, got {num_rows}.")
    positive = {"gpus": gpus, "rows_per_shard": known.rows_per_shard}
    positive["rows_per_second"] = known.rows_per_second
    for name, number in positive.items():
        if not 0 < number < math.inf:
            raise InputError(f"--{name} must be a number above 0, got {number}.")
    for name, share in (("largest_cluster", known.largest_cluster), ("selection_ratio", ratio)):
        if not 0 < share <= 1:
            raise InputError(f"--{name} is a share of the rows and must lie in (0, 1], got {share}.")
    num_rows = round(num_rows)
    hours = num_rows / known.rows_per_second / 3600
    largest, tasks = round(num_rows * known.largest_cluster), -(-num_rows // rows_per_task)
    embedding = 2 * known.embed_dim
    between = num_rows * (_SORTED_BYTES + embedding + _RANKED_BYTES) + ratio * num_rows * _SELECTED_BYTES
    memory = max(largest, min(num_rows, rows_per_task)) * (_BYTES_IN_MEMORY + _EMBEDDINGS_IN_MEMORY * embedding)
    squares = "; comparing within clusters with their squares" if embedding else ""
    return [
        f"rows: {num_rows:,} in about {max(1, round(num_rows / known.rows_per_shard)):,} shards",
        f"score: {hours:,.1f} device hours at {known.rows_per_second:,.0f} rows a second (GPU hours if GPUs scored "
        f"them), {hours / gpus:,.1f} hours on {gpus:,} at once",
        f"select: {tasks:,} to {2 * tasks:,} tasks that sort and as many that rank, of up to {_size(memory)} of "
        f"memory; the largest cluster has {largest:,} rows",
        f"storage: {_size(num_rows * (_SCORE_BYTES + embedding))} of scores, {_size(between)} more from select, "
        f"{_size(ratio * num_rows * _UID_BYTES)} of uids at a ratio of {ratio}",
        "growth: scoring, storage and sorting grow with the rows, the memory of select with the largest cluster, "
        f"ranked in one piece, and its reads between sorting and ranking with the square of the tasks{squares}",
    ]


def _size(number: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number < 1000:
            return f"{number:.0f} {unit}"
        number /= 1000
    return f"{number:,.1f} TB"
