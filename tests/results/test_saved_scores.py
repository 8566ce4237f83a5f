"""A scores file of a stranger is refused before it fills the memory."""

import json
import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from hf_clipselect import InputError, SelectionResult, load_pruned, select_embeddings
from hf_clipselect.results.saved_selection import read_scores


@pytest.fixture
def saved(tmp_path):
    rng = np.random.default_rng(0)
    images, texts, labels = rng.normal(size=(200, 4)), rng.normal(size=(2, 4)), np.arange(200) % 2
    select_embeddings(images, texts, labels, groups=["a", "b"] * 100, num_neighbors=1).save(tmp_path)
    return tmp_path


def shard(folder):
    [path] = folder.glob("scores/*.parquet")
    return path


def claim_rows(folder, num_rows):
    document = json.loads((folder / "selection.json").read_text())
    document["source"]["num_rows"] = num_rows
    (folder / "selection.json").write_text(json.dumps(document))


def refused(folder, message):
    before = pa.total_allocated_bytes()
    tracemalloc.start()
    with pytest.raises(InputError, match=f"holds no selection that can be read .*{message}"):
        SelectionResult.from_folder(folder)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6 and pa.total_allocated_bytes() - before < 20e6


def test_comes_back_whole(saved):
    result = SelectionResult.from_folder(saved)
    table = pq.read_table(shard(saved))
    assert read_scores(saved / "scores", num_rows=200).equals(table)
    pq.write_table(table.slice(0, 50), saved / "scores" / "train-00000-of-00002.parquet", use_dictionary=False)
    pq.write_table(table.slice(50), saved / "scores" / "train-00001-of-00002.parquet", row_group_size=7)
    shard_of_one = saved / "scores" / "train-00000-of-00001.parquet"
    shard_of_one.unlink()
    assert SelectionResult.from_folder(saved).scores[:] == result.scores[:]


def test_more_rows_than_bytes(saved):
    table = pq.read_table(shard(saved))
    many = table.slice(0, 1).take([0] * 1_000_000)
    with pq.ParquetWriter(shard(saved), table.schema, compression="zstd") as writer:
        for _ in range(3):
            writer.write_table(many, row_group_size=1_000_000)
    refused(saved, "claim 3000000 rows in .* bytes, for a source of 200 rows")
    claim_rows(saved, 10**9)
    refused(saved, "claim 3000000 rows in .* bytes, for a source of 1000000000 rows")


def test_one_long_text_for_all_rows(saved):
    table, place = pq.read_table(shard(saved)), 2
    name = table.schema.names[place]
    assert name == "group"
    text = pa.DictionaryArray.from_arrays(pa.array([0] * 200, pa.int32()), pa.array(["x" * 1_000_000]))
    schema = table.schema
    table = table.set_column(place, pa.field(name, text.type), text)
    plain = pa.schema([field if field.name != name else pa.field(name, pa.string()) for field in schema])
    # As other writers do: text that stands in the file once, and no note that it was a dictionary.
    pq.write_table(table, shard(saved), compression="zstd", store_schema=False)
    assert pq.read_schema(shard(saved)).field(name).type == plain.field(name).type == pa.string()
    refused(saved, "would take 200000000 bytes of memory")


@pytest.mark.parametrize(
    "column", [pa.array([[1]] * 200), pa.array([{"a": 1}] * 200), pa.array([b"x"] * 200), pa.nulls(200)]
)
def test_columns_that_no_run_writes(saved, column):
    pq.write_table(pq.read_table(shard(saved)).append_column("more", column), shard(saved))
    refused(saved, "the column 'more' of the scores holds")


def test_no_scores_at_all(saved):
    shard(saved).unlink()
    refused(saved, "there is no scores/")


def test_documents_that_are_too_large(saved):
    with (saved / "selection.json").open("ab") as file:
        file.truncate(200_000_000)  # takes no room on the disk
    refused(saved, "more than 100,000,000 bytes")
    (saved / "README.md").write_text("---\nconfigs: []\n---\n")
    with (saved / "README.md").open("ab") as file:
        file.truncate(200_000_000)
    with pytest.raises(InputError, match="no selection that can be read"):
        load_pruned(saved, ratio=0.3)
