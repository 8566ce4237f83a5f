import tracemalloc

import numpy as np
import pytest

from hf_clipselect.scores.diversity import class_diversity
from hf_clipselect.selection import NUM_NEAREST, class_graph, joined_graph


def unit(rows):
    rows = np.asarray(rows, dtype=np.float64)
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def lists_of(embeds, num_nearest=NUM_NEAREST):
    found = class_diversity(embeds, max(1, len(embeds) // 10), num_nearest=num_nearest)
    return found.nearest, found.cosines


def matrix_of(graph):
    matrix = np.zeros((graph.num_rows, graph.num_rows), dtype=np.float32)
    matrix[graph.edge_rows(), graph.columns] = graph.weights
    return matrix


def test_four_rows_by_hand():
    # The median of the eight cosines lies between 0.5 and 0.75: below it there is no likeness.
    nearest = np.array([[1, 2], [0, 2], [3, 0], [2, 1]])
    cosines = np.array([[1.0, 0.5], [1.0, 0.5], [0.75, 0.5], [0.75, 0.25]], dtype=np.float32)
    graph = class_graph(nearest, cosines)
    near = ((0.75 - 0.625) / (1 - 0.625)) ** 2
    np.testing.assert_allclose(
        matrix_of(graph), [[0, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, near], [0, 0, near, 0]], rtol=1e-6
    )
    assert graph.starts.tolist() == [0, 1, 2, 3, 4]
    assert (graph.starts.dtype, graph.columns.dtype, graph.weights.dtype) == (np.int64, np.int32, np.float32)
    assert not graph.crowded.any()


@pytest.mark.parametrize(("num_rows", "num_nearest"), [(2, 32), (7, 3), (33, 32), (200, 10), (400, 32)])
def test_equals_the_formula_over_a_matrix(num_rows, num_nearest):
    rng = np.random.default_rng(num_rows)
    embeds = unit(rng.normal(size=(num_rows, 12)) + 1)
    embeds[rng.integers(num_rows, size=num_rows // 5)] = embeds[0]
    nearest, cosines = lists_of(embeds, num_nearest)
    matrix = matrix_of(class_graph(nearest, cosines))
    zero = min(np.median(cosines), 1 - 1e-4)
    listed = np.full((num_rows, num_rows), -np.inf)
    listed[np.arange(num_rows)[:, None], nearest] = cosines
    listed = np.maximum(listed, listed.T)
    expected = np.clip((listed - zero) / (1 - zero), 0, 1) ** 2
    np.testing.assert_allclose(matrix, expected, atol=1e-5)
    np.testing.assert_array_equal(matrix, matrix.T)
    assert not matrix.diagonal().any()


def test_a_class_of_copies_is_alike():
    embeds = np.repeat(unit(np.random.default_rng(0).normal(size=(1, 512))), 20, axis=0)
    matrix = matrix_of(class_graph(*lists_of(embeds)))
    np.testing.assert_allclose(matrix, 1 - np.eye(20), atol=0.01)


@pytest.mark.filterwarnings("error")
def test_copies_that_rounding_sets_apart_are_alike():
    nearest = (np.arange(20)[:, None] + np.arange(1, 20)) % 20
    cosines = (1 + 6e-8 * np.random.default_rng(0).integers(-3, 3, size=nearest.shape)).astype(np.float32)
    np.testing.assert_allclose(matrix_of(class_graph(nearest, cosines)), 1 - np.eye(20), atol=0.01)


def test_of_two_lists_the_larger_cosine_counts():
    nearest = np.array([[1], [0], [3], [2], [5], [4], [7], [6]])
    cosines = np.array([[0.9], [1.0], [1.0], [0.9], [0.5], [0.5], [0.5], [0.5]], dtype=np.float32)
    graph = class_graph(nearest, cosines)
    assert graph.edge_rows().tolist() == [0, 1, 2, 3] and graph.columns.tolist() == [1, 0, 3, 2]
    assert graph.weights.tolist() == [1, 1, 1, 1]


def test_a_class_of_one_row_has_no_edges():
    graph = class_graph(*lists_of(unit(np.ones((1, 4)))))
    assert graph.starts.tolist() == [0, 0] and len(graph.columns) == len(graph.weights) == 0


def test_a_list_of_nothing_but_copies_is_told():
    rng = np.random.default_rng(0)
    embeds = unit(rng.normal(size=(60, 8)))
    embeds[:6] = embeds[0]
    assert np.flatnonzero(class_graph(*lists_of(embeds, 4)).crowded).tolist() == [0, 1, 2, 3, 4, 5]
    assert not class_graph(*lists_of(embeds, 6)).crowded.any()
    # All other rows of the class are listed: nothing is missing.
    assert not class_graph(*lists_of(embeds[:6], 32)).crowded.any()


def test_parts_join_in_any_order():
    rng = np.random.default_rng(0)
    rows = np.split(rng.permutation(130), [50, 51, 120])[:3]  # ten rows are in no part
    parts = [(some, class_graph(*lists_of(unit(rng.normal(size=(len(some), 6)))))) for some in rows]
    whole = joined_graph(parts, 130)
    matrix = matrix_of(whole)
    for some, graph in parts:
        np.testing.assert_array_equal(matrix[np.ix_(some, some)], matrix_of(graph))
        np.testing.assert_array_equal(whole.crowded[some], graph.crowded)
    assert len(whole.columns) == sum(len(graph.columns) for _, graph in parts)
    again = joined_graph(parts[::-1], 130)
    assert all((whole.part[some] == some.min()).all() for some in rows) and (whole.part == -1).sum() == 10
    for name in ("starts", "columns", "weights", "crowded", "part"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))
    assert len(joined_graph([], 3).columns) == 0


def test_memory_is_a_few_times_the_lists():
    rng = np.random.default_rng(0)
    nearest = np.argsort(rng.random((20_000, 40)), axis=1)[:, :NUM_NEAREST].astype(np.int32)
    nearest = (nearest + 1 + np.arange(20_000)[:, None]) % 20_000
    cosines = rng.random((20_000, NUM_NEAREST)).astype(np.float32)
    tracemalloc.start()
    class_graph(nearest, cosines)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 12 * (20_000 * NUM_NEAREST * 8)
