"""Score files of shards as the score step writes them, made from arrays; the shards themselves are empty files."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq


KEY = "f" * 64
REFERENCE = {
    "key": KEY,
    "has_captions": True,
    "num_rows": 1000,
    "adapter_id": "a" * 64,
    "model": {"name": "openai/clip-vit-base-patch32", "revision": None},
}


@dataclass
class MadeScores:
    """Rows of all shards together, in the order of the shards."""

    uids: list[bytes]
    shards: np.ndarray
    rows: np.ndarray
    clusters: np.ndarray
    sas: np.ndarray
    margin: np.ndarray
    sds: np.ndarray
    embeds: np.ndarray | None


def made_scores(
    num_rows: int, *, num_shards: int = 5, num_clusters: int = 7, dimension: int = 0, seed: int = 0, ties: bool = True
) -> MadeScores:
    """Random scores, many of them equal with `ties`; clusters of falling size; of every shard some rows are unread."""
    rng = np.random.default_rng(seed)
    shards = np.sort(rng.integers(0, num_shards, num_rows))
    starts = np.searchsorted(shards, np.arange(num_shards))
    weights = 1 / np.arange(1, num_clusters + 1)
    margin = rng.normal(0.1, 0.3, num_rows).clip(-2, 2).astype(np.float32)
    sds = rng.uniform(0, 2, num_rows).astype(np.float32)
    sas = rng.normal(0.2, 0.3, num_rows).clip(-1, 1).astype(np.float32)
    if ties:
        sas, margin, sds = sas.round(1), margin.round(1), sds.round(1)
    embeds = rng.normal(size=(num_rows, dimension)).astype(np.float16) if dimension else None
    return MadeScores(
        uids=[hashlib.sha256(b"%d" % row).digest()[:16] for row in range(num_rows)],
        shards=shards,
        rows=(2 * (np.arange(num_rows) - starts[shards])).astype(np.int32),
        clusters=rng.choice(num_clusters, num_rows, p=weights / weights.sum()).astype(np.int32),
        sas=sas,
        margin=margin,
        sds=sds,
        embeds=embeds,
    )


def write_scores(
    made: MadeScores, folder: Path, *, num_shards: int = 5, ending: str = ".tar", versions: bool = True
) -> tuple[Path, Path]:
    """The data and the working folder, as `prepare` and `score` leave them."""
    data, work = folder / "data", folder / "work"
    (work / "reference").mkdir(parents=True)
    (work / "reference" / "reference.json").write_text(json.dumps(REFERENCE))
    for shard in range(num_shards):
        name = f"part/{shard:04d}{ending}"
        (data / name).parent.mkdir(parents=True, exist_ok=True)
        if not (data / name).exists():
            (data / name).touch()
        mine = np.flatnonzero(made.shards == shard)
        path = work / "scores" / f"part/{shard:04d}.parquet"
        write_score_file(made, mine, path, shard=name, data=data, versions=versions)
    return data, work


def write_score_file(
    made: MadeScores,
    mine: np.ndarray,
    path: Path,
    *,
    shard: str,
    data: Path,
    key: str = KEY,
    versions: bool = True,
) -> None:
    columns = {
        "uid": pa.array([made.uids[row] for row in mine], pa.binary(16)),
        "row": pa.array(made.rows[mine]),
        "cluster": pa.array(made.clusters[mine]),
        "sas": pa.array(made.sas[mine]),
        "margin": pa.array(made.margin[mine]),
        "sds": pa.array(made.sds[mine]),
    }
    if made.embeds is not None:
        values = pa.array(made.embeds[mine].ravel())
        columns["embedding"] = pa.FixedSizeListArray.from_arrays(values, made.embeds.shape[1])
    numbers, counts = np.unique(made.clusters[mine], return_counts=True)
    told = {
        "key": key,
        **shard_facts(data, shard),
        **({} if versions else {"shard_version": ""}),
        "num_rows": 2 * len(mine),
        "num_scored": len(mine),
        "unreadable": len(mine),
        "counts": dict(zip(map(str, numbers.tolist()), counts.tolist(), strict=True)),
        "seconds": 2.0,
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(
        pa.table(columns).replace_schema_metadata({"hf_clipselect": json.dumps(told)}), path, write_page_checksum=True
    )


def shard_facts(data: Path, shard: str) -> dict[str, Any]:
    """By what a shard is known as the one that was scored."""
    status = (data / shard).stat()
    return {"shard": shard, "shard_bytes": status.st_size, "shard_version": f"mtime {status.st_mtime}"}


def write_failed(work: Path, name: str, *, reason: str, key: str = KEY, **stale: Any) -> Path:
    """Tell of a shard `part/<name>.tar`, instead of its scores, why it can't be read."""
    (work / "scores" / "part" / f"{name}.parquet").unlink(missing_ok=True)
    told = {"key": key, **shard_facts(work.parent / "data", f"part/{name}.tar"), "reason": reason, **stale}
    path = work / "scores" / "part" / f"{name}.failed.json"
    path.write_text(json.dumps(told))
    return path
