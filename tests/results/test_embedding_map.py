from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from hf_clipselect.results.embedding_map import MAX_MAP_ROWS, make_map, read_map, write_map


def clusters(num_rows: int, num_clusters: int, dimension: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Unit-norm rows around some centers, and the cluster of each."""
    random = np.random.default_rng(0)
    of = np.arange(num_rows) % num_clusters
    rows = random.normal(size=(num_clusters, dimension))[of] + 0.2 * random.normal(size=(num_rows, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), of


class Rows:
    """Embeddings of rows that have the numbers 10, 20, 30, ... in the source."""

    def __init__(self, embeds: np.ndarray) -> None:
        self.embeds, self.source_index = embeds, 10 * np.arange(1, len(embeds) + 1)

    def take(self, source_index: np.ndarray) -> np.ndarray:
        return self.embeds[source_index // 10 - 1]


@pytest.fixture(scope="module")
def drawn() -> tuple[Rows, np.ndarray, pa.Table]:
    embeds, of = clusters(150, 3)
    rows = Rows(embeds)
    return rows, of, make_map(rows, rows.source_index, seed=1)


def test_rows_that_are_alike_lie_together(drawn: tuple[Rows, np.ndarray, pa.Table]) -> None:
    rows, of, table = drawn
    assert table.column("source_index").to_numpy().tolist() == rows.source_index.tolist()
    places = np.stack([table.column(name).to_numpy() for name in ("x", "y")], axis=1)
    assert places.dtype == np.float32
    distances = np.linalg.norm(places[:, None] - places, axis=2)
    np.fill_diagonal(distances, np.inf)
    assert (of[distances.argmin(axis=1)] == of).all()


def test_neighbors_are_places_in_the_table(drawn: tuple[Rows, np.ndarray, pa.Table]) -> None:
    rows, _, table = drawn
    for place in (0, 77, 149):
        cosines = rows.embeds @ rows.embeds[place]
        expected = sorted(set(range(150)) - {place}, key=lambda other: -cosines[other])[:10]
        neighbors = table.column("neighbors")[place].as_py()
        assert neighbors["ids"] == expected
        assert neighbors["distances"] == pytest.approx(1 - cosines[expected], abs=1e-6)


def test_same_embeddings_and_seed_are_placed_once(drawn: tuple[Rows, np.ndarray, pa.Table], tmp_path: Path) -> None:
    rows, _, table = drawn
    write_map(tmp_path, table.append_column("label", pa.array(["a"] * len(table))))
    earlier = read_map(tmp_path)
    assert earlier is not None and earlier.equals(table)
    assert make_map(rows, rows.source_index, seed=1).equals(table)
    # A marked place tells that it was read and not made again.
    marked = earlier.set_column(1, "x", pa.array(np.full(len(table), 5, dtype=np.float32)))
    assert make_map(rows, rows.source_index, seed=1, earlier=marked).column("x")[0].as_py() == 5
    assert make_map(rows, rows.source_index, seed=2, earlier=marked).column("x")[0].as_py() != 5
    assert make_map(rows, rows.source_index[1:], seed=1, earlier=marked).column("x")[0].as_py() != 5
    other = Rows(rows.embeds[:, ::-1])
    assert make_map(other, rows.source_index, seed=1, earlier=marked).column("x")[0].as_py() != 5


def test_map_that_is_damaged_or_absent_is_none(tmp_path: Path) -> None:
    assert read_map(tmp_path) is None
    (tmp_path / "map.parquet").write_bytes(b"no table")
    assert read_map(tmp_path) is None
    write_map(tmp_path, pa.table({"source_index": [1], "x": [0.5]}))
    assert read_map(tmp_path) is None


@pytest.mark.parametrize("num_rows", [1, 2, 3, 4, 5])
def test_few_rows_and_copies_have_places(num_rows: int) -> None:
    different, same = Rows(clusters(num_rows, num_rows)[0]), Rows(np.eye(1, 12, dtype=np.float32).repeat(num_rows, 0))
    for rows in (different, same):
        table = make_map(rows, rows.source_index, seed=0)
        assert np.isfinite(table.column("x").to_numpy()).all() and np.isfinite(table.column("y").to_numpy()).all()
        assert [len(near["ids"]) for near in table.column("neighbors").to_pylist()] == [num_rows - 1] * num_rows


def test_many_rows_are_a_sample_in_which_classes_have_their_shares() -> None:
    rows = Rows(np.eye(1, 12, dtype=np.float32).repeat(3 * MAX_MAP_ROWS, 0))  # all the same: t-SNE would take its time
    sample = make_map(rows, rows.source_index, seed=3).column("source_index").to_numpy()
    assert len(sample) == MAX_MAP_ROWS and (np.diff(sample) > 0).all()
    counts = np.bincount(sample // 10 % 5)
    assert counts.min() > 0.9 * counts.max()
