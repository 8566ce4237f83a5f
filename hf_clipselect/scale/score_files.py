"""The scores of one shard as one Parquet file, or why it has none; a file is trusted only where all of it fits.

Legend: n rows of a shard that could be scored, D embed_dim.
"""

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.io import DataFolder

from .storage_failures import is_of_storage
from .whole_files import write_whole


# Where a score file tells what it is of, as JSON.
METADATA = b"hf_clipselect"
SCORES = "scores"
_COLUMNS = ("uid", "row", "cluster", "sas", "margin", "sds")
_LIKE_FILES = re.compile(r"\.(parquet|failed\.json)_*$")
# Columns that are there where they were asked for.
EMBEDDING, LABEL_ERROR = "embedding", "label_error_probability"


@dataclass(frozen=True)
class Shard:
    """A file of samples: its path in the data folder, and by what a replaced one is noticed: its size in bytes, and
    the version that its storage gives it, empty where it gives none.
    """

    path: str
    size: int
    version: str = field(default="", compare=False)

    @property
    def identity(self) -> tuple[str, int, str]:
        """Path, size and version, by all of which a shard is known as the one that was scored."""
        return self.path, self.size, self.version

    @property
    def scores_path(self) -> str:
        """Where in the working folder its scores are."""
        return f"{self._place}.parquet"

    @property
    def failed_path(self) -> str:
        """Where in the working folder it is told why it can't be read."""
        return f"{self._place}.failed.json"

    @property
    def _place(self) -> str:
        # A folder that is named like one of these files, as a.parquet/ beside a.tar, gets another name than it.
        *folders, name = PurePosixPath(self.path).with_suffix("").parts
        return "/".join([SCORES, *(_LIKE_FILES.sub(r"\g<0>_", folder) for folder in folders), name])


@dataclass(frozen=True)
class ShardScores:
    """Scores of the rows of a shard that could be scored, in its order.

    `uid` are `n` times 16 bytes; `row` `(n,)`, int32, places in the shard; `cluster` `(n,)`, int32, cluster or class;
    `sas`, `margin` and `sds` `(n,)`, float32, as in the scores table of a run; `embeds` `(n, D)`, where they are kept,
    and `label_error` `(n,)`, float32, in [0, 1], how probably each label is wrong, where that was asked for.
    """

    uid: list[bytes]
    row: np.ndarray
    cluster: np.ndarray
    sas: np.ndarray
    margin: np.ndarray
    sds: np.ndarray
    embeds: np.ndarray | None = None
    label_error: np.ndarray | None = None
    example: str | None = None  # a row that could not be scored, and why


def write_scores(
    work: DataFolder, shard: Shard, scores: ShardScores, *, key: str, num_rows: int, seconds: float
) -> None:
    """Write the score file of a shard, whole or not at all; an earlier failure of the shard is forgotten.

    `key` is that of the reference, `num_rows` counts the rows of the shard with those that could not be read, and
    `seconds` is how long it took.
    """
    told = {
        "key": key,
        **_of_shard(shard),
        "num_rows": num_rows,
        "num_scored": len(scores.row),
        "unreadable": num_rows - len(scores.row),
        "example": scores.example,
        "counts": _counts(scores.cluster),
        "seconds": round(seconds, 3),
    }
    arrays = [
        pa.array(scores.uid, pa.binary(16)),
        pa.array(scores.row, pa.int32()),
        pa.array(scores.cluster, pa.int32()),
        *(pa.array(values, pa.float32()) for values in (scores.sas, scores.margin, scores.sds)),
    ]
    names = list(_COLUMNS)
    if scores.embeds is not None:
        values = pa.array(scores.embeds.astype(np.float16).ravel(), pa.float16())
        arrays.append(pa.FixedSizeListArray.from_arrays(values, scores.embeds.shape[1]))
        names.append(EMBEDDING)
    if scores.label_error is not None:
        arrays.append(pa.array(scores.label_error, pa.float32()))
        names.append(LABEL_ERROR)
    table = pa.table(arrays, names=names).replace_schema_metadata({METADATA: json.dumps(told).encode()})
    with write_whole(work, shard.scores_path) as file:
        pq.write_table(table, file, write_page_checksum=True)
    if work.exists(shard.failed_path):
        work.rm_file(shard.failed_path)


def write_failure(work: DataFolder, shard: Shard, reason: str, *, key: str) -> None:
    """Note why a shard can't be read; scores of another reference or of an earlier shard of its name go. Good ones,
    which were to be made anew with embeddings, stay.
    """
    with write_whole(work, shard.failed_path) as file:
        file.write(json.dumps({"key": key, **_of_shard(shard), "reason": reason}).encode())
    if work.exists(shard.scores_path) and not is_trusted(work, shard, key=key):
        work.rm_file(shard.scores_path)


def is_trusted(work: DataFolder, shard: Shard, *, key: str) -> bool:
    """Whether the scores of a shard are there: whole, of this reference, and of the shard as it is now.

    Reads the file, whose pages have checksums.
    """
    return read_trusted(work, shard, key=key) is not None


def read_trusted(
    work: DataFolder, shard: Shard, *, key: str, columns: Collection[str] = ()
) -> tuple[dict[str, Any], pa.Table] | None:
    """What a score file tells of itself, and its rows; None where [`is_trusted`] is false, or it lacks one of these
    further columns. It may have others.
    """
    try:
        with work.open(shard.scores_path) as file:
            table = pq.read_table(file, page_checksum_verification=True)
        told = json.loads(table.schema.metadata[METADATA])
        of_shard = (told["shard"], told["shard_bytes"], told["shard_version"])
        same = told["key"] == key and of_shard == shard.identity
        whole = (
            told["num_scored"] == len(table) == told["num_rows"] - told["unreadable"]
            and table.column_names[: len(_COLUMNS)] == list(_COLUMNS)
            and told["counts"] == _counts(table["cluster"].to_numpy())
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, pa.ArrowException) as error:  # of a file damaged anywhere
        if is_of_storage(error):
            raise
        return None
    if not same or not whole or not set(columns) <= set(table.column_names):
        return None
    return told, table


def _of_shard(shard: Shard) -> dict[str, Any]:
    return dict(zip(("shard", "shard_bytes", "shard_version"), shard.identity, strict=True))


def _counts(clusters: np.ndarray) -> dict[str, int]:
    """How many rows each cluster has; the names are as JSON has them."""
    numbers, counts = np.unique(clusters, return_counts=True)
    return dict(zip(map(str, numbers.tolist()), counts.tolist(), strict=True))
