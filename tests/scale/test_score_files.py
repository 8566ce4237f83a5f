"""Score files: what is written is read, and nothing is trusted that is damaged or of something else."""

from pathlib import Path, PurePosixPath

import numpy as np
import pytest
from datatrove.io import DataFolder, get_datafolder

from hf_clipselect.scale.score_files import Shard, ShardScores, is_trusted, read_trusted, write_failure, write_scores


SHARD = Shard("part/a.b.tar", 1234, "ETag 7")
KEY = "k" * 64


def scores(*, with_embeddings: bool = False, with_label_errors: bool = False) -> ShardScores:
    rng = np.random.default_rng(0)
    sas, margin, sds, label_error = rng.random((4, 5), dtype=np.float32)
    embeds = rng.random((5, 4), dtype=np.float32) if with_embeddings else None
    uids = [bytes([row]) * 16 for row in range(5)]
    rows, clusters = np.array([0, 1, 3, 4, 6]), np.array([2, 0, 2, 2, 9])
    errors = label_error if with_label_errors else None
    return ShardScores(uids, rows, clusters, sas, margin, sds, embeds, errors, "row 2: no image")


def write(work: DataFolder, **options) -> ShardScores:
    written = scores(**options)
    write_scores(work, SHARD, written, key=KEY, num_rows=7, seconds=1.5)
    return written


@pytest.mark.parametrize("place", ["disk", "memory"])
def test_what_is_written_is_read(tmp_path: Path, place: str) -> None:
    """In memory there is no renaming, as on object storage."""
    work = get_datafolder(str(tmp_path) if place == "disk" else f"memory://{tmp_path}")
    written = write(work, with_embeddings=True, with_label_errors=True)
    told, table = read_trusted(work, SHARD, key=KEY, columns=["embedding", "label_error_probability"])
    counts = {"0": 1, "2": 3, "9": 1}
    assert told == {
        "key": KEY,
        "shard": SHARD.path,
        "shard_bytes": 1234,
        "shard_version": "ETag 7",
        "num_rows": 7,
        "num_scored": 5,
        "unreadable": 2,
        "example": "row 2: no image",
        "counts": counts,
        "seconds": 1.5,
    }
    assert work.list_files("scores") == ["scores/part/a.b.parquet"]
    assert table["uid"].to_pylist() == written.uid
    for name in ("row", "cluster", "sas", "margin", "sds"):
        assert table[name].to_numpy().tolist() == getattr(written, name).tolist()
    assert table["label_error_probability"].to_numpy().tolist() == written.label_error.tolist()
    embeds = np.stack(table["embedding"].to_numpy())
    assert embeds.dtype == np.float16 and np.array_equal(embeds, written.embeds.astype(np.float16))


def test_only_scores_that_fit_are_trusted(tmp_path: Path) -> None:
    work = get_datafolder(str(tmp_path))
    assert not is_trusted(work, SHARD, key=KEY)
    write(work)
    assert is_trusted(work, SHARD, key=KEY)
    assert not is_trusted(work, SHARD, key="other")
    assert not is_trusted(work, Shard(SHARD.path, 1235, SHARD.version), key=KEY)
    assert not is_trusted(work, Shard(SHARD.path, SHARD.size, "ETag 8"), key=KEY)
    for column in ("embedding", "label_error_probability"):
        assert read_trusted(work, SHARD, key=KEY, columns=[column]) is None
    other = Shard("part/c.tar", SHARD.size, SHARD.version)
    work.copy(SHARD.scores_path, other.scores_path)
    assert not is_trusted(work, other, key=KEY)


def test_damage_is_found_wherever_it_is(tmp_path: Path) -> None:
    """A byte is turned: nothing may be read that is other than was written, but for its time and the example."""
    work = get_datafolder(str(tmp_path))
    write(work)
    path = tmp_path / SHARD.scores_path
    content = path.read_bytes()
    written = read_trusted(work, SHARD, key=KEY)
    for place in range(0, len(content), 13):
        path.write_bytes(content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :])
        found = read_trusted(work, SHARD, key=KEY)
        if found is not None:
            assert found[1].equals(written[1]), place
            assert {**found[0], "seconds": 1.5, "example": "row 2: no image"} == written[0], place
    for length in range(0, len(content), 101):
        path.write_bytes(content[:length])
        assert not is_trusted(work, SHARD, key=KEY), length


def test_names_of_shards_are_no_patterns(tmp_path: Path) -> None:
    """In object storage what removes several files at once would take a[1] for a1."""
    work, other = get_datafolder(f"memory://{tmp_path}"), Shard("a[1].tar", 1)
    names = ["scores/a1.failed.json", "scores/a1.parquet"]
    for name in (*names, other.scores_path):
        work.pipe_file(name, b"")
    write_failure(work, other, "gone", key=KEY)
    assert work.list_files("scores") == sorted([*names, other.failed_path])
    write_scores(work, other, scores(), key=KEY, num_rows=7, seconds=1.5)
    assert work.list_files("scores") == sorted([*names, other.scores_path])


def test_a_folder_that_is_named_like_scores_has_a_place_of_its_own() -> None:
    """A table that Spark wrote is a folder `a.parquet`, and beside it may lie a.tar."""
    folders = ["a.parquet", "a.parquet_", "a.parquet__", "a.failed.json", "a", "A.parquet", "b.parquet/c.parquet"]
    shards = [Shard(f"{name}/x.tar", 1) for name in folders] + [Shard("a.tar", 1), Shard("b.parquet/c.tar", 1)]
    files = [PurePosixPath(path) for shard in shards for path in (shard.scores_path, shard.failed_path)]
    assert len(set(files)) == len(files) and Shard("a.d/b.e/x.tar", 1).scores_path == "scores/a.d/b.e/x.parquet"
    assert not {folder for file in files for folder in file.parents} & set(files)
    assert Shard("a.tar", 1).scores_path == "scores/a.parquet"


def test_a_shard_has_scores_or_a_failure(tmp_path: Path) -> None:
    work = get_datafolder(str(tmp_path))
    write(work)
    write_failure(work, SHARD, "gone", key="other")
    assert work.list_files("scores") == ["scores/part/a.b.failed.json"]
    write(work)
    assert work.list_files("scores") == ["scores/part/a.b.parquet"]
    # They stay where only embeddings were asked for besides, and the shard could not be read then.
    write_failure(work, SHARD, "gone", key=KEY)
    assert is_trusted(work, SHARD, key=KEY)
