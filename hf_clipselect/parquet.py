"""Datasets as Parquet shards, the way `Dataset.push_to_hub` writes them: image bytes as they are in the source."""

import hashlib
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset
from datasets.table import embed_table_storage


_ROWS_PER_GROUP = 1000
_SHARD_BYTES = 500_000_000


def write_parquet(dataset: Dataset, folder: Path, *, split: str = "train") -> list[Path]:
    """Write `<split>-00000-of-00001.parquet`, or more shards of about 500 MB; images are neither decoded nor re-encoded.

    Args:
        dataset (`Dataset`): Rows to write. Images that are files get their bytes embedded, so that the shards stand alone.
        folder (`Path`): Created if missing; other shards of the split in it are removed.
        split (`str`, *optional*, defaults to `"train"`): First part of the file names.

    Returns:
        `list[Path]`: The shards in order.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dataset = dataset.with_format("arrow")
    # One group of rows in memory at a time, whatever the size of the dataset.
    starts = iter(range(0, len(dataset), _ROWS_PER_GROUP))
    start = next(starts, None)
    unnamed: list[Path] = []
    while start is not None or not unnamed:  # a dataset without rows still has columns
        path = folder / f".{split}-{len(unnamed):05d}.parquet.tmp"
        with pq.ParquetWriter(
            path, dataset.features.arrow_schema, use_content_defined_chunking=True, write_page_index=True
        ) as writer:
            written = 0
            while start is not None and written < _SHARD_BYTES:
                table = embed_table_storage(dataset[start : start + _ROWS_PER_GROUP])
                writer.write_table(table)
                written += table.nbytes
                start = next(starts, None)
        unnamed.append(path)
    for stale in folder.glob(f"{split}-*-of-*.parquet"):
        stale.unlink()  # another number of shards would leave rows of an earlier dataset beside the new ones
    return [
        path.rename(folder / f"{split}-{index:05d}-of-{len(unnamed):05d}.parquet")
        for index, path in enumerate(unnamed)
    ]


def content_id(folder: Path) -> str:
    """A short text that changes with the content of the Parquet shards in a folder."""
    shards = hashlib.sha256()
    for path in sorted(folder.glob("*.parquet")):
        with path.open("rb") as file:
            shards.update(hashlib.file_digest(file, "sha256").digest())
    return f"sha256 {shards.hexdigest()[:16]}"
