import numpy as np
import pytest
from redundant_set import redundant_set

from hf_clipselect import semantic_alignment_score
from hf_clipselect.errors import InputError
from hf_clipselect.scores.diversity import class_diversity, neighbor_count
from hf_clipselect.selection import (
    NUM_NEAREST,
    NeighborGraph,
    class_graph,
    class_quotas,
    duplicate_groups,
    joined_graph,
    redundancy_scores,
    top_k,
)


def graph_of(num_rows, edges, crowded=()):
    """From {(i, j): weight}, each pair once."""
    both = sorted([(i, j, w) for (i, j), w in edges.items()] + [(j, i, w) for (i, j), w in edges.items()])
    rows, columns, weights = (np.array(column) for column in zip(*both, strict=True)) if both else np.empty((3, 0))
    starts = np.searchsorted(rows, np.arange(num_rows + 1)).astype(np.int64)
    full = np.zeros(num_rows, dtype=bool)
    full[list(crowded)] = True
    part = np.zeros(num_rows, dtype=np.int64)
    return NeighborGraph(starts, columns.astype(np.int32), weights.astype(np.float32), full, part)


def random_graph(rng, num_rows, num_edges, levels=None):
    edges = {}
    for i, j in np.sort(rng.integers(num_rows, size=(num_edges, 2)), axis=1).tolist():
        if i != j:
            edges[i, j] = float(rng.integers(1, levels + 1) / levels) if levels else 1 - rng.random()
    return graph_of(num_rows, edges)


def slow_greedy(scores, graph, weight, tiers):
    """All gains anew for every pick, over a full matrix."""
    matrix = np.zeros((graph.num_rows, graph.num_rows))
    matrix[graph.edge_rows(), graph.columns] = graph.weights
    picked, gains = [], np.zeros(len(scores), dtype=np.float32)
    while len(picked) < len(scores):
        likeness = matrix[:, picked].max(axis=1, initial=0)
        now = (scores.astype(np.float64) - weight * likeness).astype(np.float32)
        left = [row for row in range(len(scores)) if row not in picked]
        best = min(left, key=lambda row: (tiers[row], -now[row], row))
        gains[best] = now[best]
        picked.append(best)
    return np.array(picked), gains


# --- scores


def test_four_rows_by_hand():
    # 0 goes first; then 1, half like it, is worth 0.875 - 0.5 * 0.5 = 0.625, and 2, a copy, 0.75 - 0.5 = 0.25. Next
    # comes 3, with 0.6875, then 1, and 2 last: its likeness to 1 is less than that to 0.
    scores = np.array([1, 0.875, 0.75, 0.6875], dtype=np.float32)
    graph = graph_of(4, {(0, 1): 0.5, (0, 2): 1.0, (1, 2): 0.25})
    result = redundancy_scores(scores, graph, 0.5)
    assert result.dtype == np.float32
    assert result.tolist() == [1, 0.625, 0.25, 0.6875]
    assert redundancy_scores(scores, graph, 0).tolist() == scores.tolist()
    # With 2 alone in the first tier 1 loses 0.5 * 0.25, and 0, its copy, comes last.
    assert redundancy_scores(scores, graph, 0.5, tiers=np.array([1, 1, 0, 1])).tolist() == [0.5, 0.75, 0.75, 0.6875]


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("family", ["continuous", "tied", "rounded"])
def test_equals_a_slow_greedy_and_its_prefixes(family, seed):
    rng = np.random.default_rng(seed)
    num_rows = int(rng.integers(1, 250))
    # "rounded": scores so large that float32 keeps but two or three digits of what a likeness takes from them.
    scores = {
        "continuous": lambda: rng.normal(size=num_rows),
        "tied": lambda: rng.integers(4, size=num_rows) / 4,
        "rounded": lambda: 1e5 + rng.random(num_rows),
    }[family]().astype(np.float32)
    graph = random_graph(rng, num_rows, int(rng.integers(0, 6 * num_rows)), levels=4 if family == "tied" else None)
    weight = float(rng.choice([0.1, 0.5, 3.0]))
    tiers = rng.integers(3, size=num_rows) if seed % 2 else np.zeros(num_rows, dtype=int)
    order, expected = slow_greedy(scores, graph, weight, tiers)
    result = redundancy_scores(scores, graph, weight, tiers=tiers)
    np.testing.assert_array_equal(result, expected)
    # Sorted by tier, then by falling value, then by row, they are the order of the picks.
    np.testing.assert_array_equal(np.lexsort((np.arange(num_rows), -result, tiers)), order)
    if not seed % 2:
        for k in range(num_rows + 1):
            np.testing.assert_array_equal(top_k(result, k), np.sort(order[:k]))


def test_classes_do_not_see_each_other():
    rng = np.random.default_rng(0)
    graphs = [random_graph(rng, size, 5 * size) for size in (40, 1, 70)]
    rows = np.split(rng.permutation(111), [40, 41])
    scores, tiers = np.append(rng.random(111), [0.25, 0.5]).astype(np.float32), rng.integers(3, size=113)
    joined = joined_graph(list(zip(rows, graphs, strict=True)), 113)
    whole = redundancy_scores(scores, joined, 0.7, tiers=tiers)
    for some, graph in zip(rows, graphs, strict=True):
        np.testing.assert_array_equal(whole[some], redundancy_scores(scores[some], graph, 0.7, tiers=tiers[some]))
    assert whole[-2:].tolist() == [0.25, 0.5]  # of no class
    # One greedy over all rows, which no edge between classes disturbs, picks them with the same gains.
    np.testing.assert_array_equal(whole, slow_greedy(scores, joined, 0.7, tiers)[1])


def test_edges_between_cells_are_cut():
    graph = graph_of(4, {(0, 1): 0.9, (1, 2): 0.8, (2, 3): 0.7})
    within = graph.within(np.array([0, 1, 1, 0]))
    assert within.starts.tolist() == [0, 0, 1, 2, 2] and within.columns.tolist() == [2, 1]
    np.testing.assert_allclose(within.weights, 0.8)
    assert len(set(within.part.tolist())) == 2 and within.part[1] == within.part[2] != within.part[0] == within.part[3]
    assert graph.within(np.zeros(4, dtype=int)).columns.tolist() == graph.columns.tolist()


def test_permuted_rows_get_the_same_scores():
    rng = np.random.default_rng(1)
    scores, graph = rng.random(90).astype(np.float32), random_graph(rng, 90, 400)
    order = rng.permutation(90)
    moved = joined_graph([(order, graph)], 90)
    at = np.empty(90, dtype=np.float32)
    at[order] = scores
    np.testing.assert_array_equal(redundancy_scores(at, moved, 0.4)[order], redundancy_scores(scores, graph, 0.4))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_rejects_scores_that_cannot_be_ranked(bad):
    with pytest.raises(InputError, match="in row 1"):
        redundancy_scores(np.array([0, bad]), graph_of(2, {}), 0.5)


# --- groups


def test_groups_by_hand():
    # 1 and 3 are joined through 4; 0 and 2 are alike, but not enough.
    graph = graph_of(6, {(0, 2): 0.79, (1, 4): 0.8, (3, 4): 1.0})
    result = duplicate_groups(graph)
    assert result.dtype == np.int64
    assert result.tolist() == [-1, 1, -1, 1, 1, -1]
    assert duplicate_groups(graph, 0.75).tolist() == [0, 1, 0, 1, 1, -1]
    assert duplicate_groups(graph_of(3, {})).tolist() == [-1, -1, -1]


@pytest.mark.parametrize("seed", range(6))
def test_groups_equal_a_walk_from_row_to_row(seed):
    rng = np.random.default_rng(seed)
    graph = random_graph(rng, 300, int(rng.integers(50, 700)))
    matrix = np.zeros((300, 300), dtype=bool)
    matrix[graph.edge_rows(), graph.columns] = graph.weights >= 0.5
    expected = np.full(300, -1)
    for row in range(300):
        if expected[row] < 0 and matrix[row].any():
            reached, frontier = {row}, [row]
            while frontier:
                found = set(np.flatnonzero(matrix[frontier.pop()]).tolist()) - reached
                reached |= found
                frontier += found
            expected[list(reached)] = row
    np.testing.assert_array_equal(duplicate_groups(graph, 0.5), expected)


def test_a_long_chain_is_one_group():
    order = np.random.default_rng(0).permutation(2000).tolist()
    edges = {(min(pair), max(pair)): 0.9 for pair in zip(order, order[1:], strict=False)}
    assert not duplicate_groups(graph_of(2000, edges)).any()


@pytest.mark.parametrize("copies", [NUM_NEAREST + 1, 150])
def test_of_more_copies_than_a_list_holds_one_comes_first(copies):
    rng = np.random.default_rng(2)
    embeds = np.concatenate([np.repeat(rng.normal(size=(1, 16)), copies, axis=0), rng.normal(size=(600, 16))])
    embeds = (embeds / np.linalg.norm(embeds, axis=1, keepdims=True)).astype(np.float32)
    lists = class_diversity(embeds, 10, num_nearest=NUM_NEAREST)
    graph = class_graph(lists.nearest, lists.cosines)
    assert (duplicate_groups(graph)[:copies] == 0).all()
    scores = rng.random(len(embeds)).astype(np.float32) / 4
    scores[:copies] += 0.25  # in front of all others, as outliers or blank images may be
    kept = top_k(redundancy_scores(scores, graph, 1.0), 300)
    assert (kept < copies).sum() == 1


# --- the synthetic set


def graph_and_scores(made):
    """SAS + 0.1 SDS, and the graph of all classes."""
    sds, parts = np.zeros(len(made.labels), dtype=np.float32), []
    for label in np.unique(made.labels)[::-1]:
        rows = np.flatnonzero(made.labels == label)
        diversity = class_diversity(
            made.image_embeds[rows], neighbor_count(len(rows), 0.1, None), num_nearest=NUM_NEAREST
        )
        sds[rows] = diversity.scores
        parts.append((rows, class_graph(diversity.nearest, diversity.cosines)))
    sas = semantic_alignment_score(made.image_embeds, made.text_embeds, made.labels)
    return joined_graph(parts, len(made.labels)), sas + np.float32(0.1) * sds


def test_copies_are_put_back():
    made = redundant_set(400)
    graph, scores = graph_and_scores(made)
    gains = redundancy_scores(scores, graph, 0.5)
    for ratio in (0.1, 0.3):
        k = int(ratio * len(scores))
        ranked, greedy = top_k(scores, k), top_k(gains, k)
        assert made.redundant_share(ranked) >= 0.08
        assert made.redundant_share(greedy) <= 0.005
        assert made.wrong[greedy].mean() <= made.wrong[ranked].mean() + 0.005
        quotas = class_quotas(made.labels, k, balance="proportional", num_classes=10)
        by_class = [np.flatnonzero(made.labels == label) for label in range(10)]
        within = [rows[top_k(gains[rows], quota)] for rows, quota in zip(by_class, quotas, strict=True)]
        assert made.redundant_share(np.concatenate(within)) <= 0.005
    # The groups that are found are those that were made.
    found = duplicate_groups(graph)
    np.testing.assert_array_equal(found >= 0, made.group >= 0)
    first = {group: np.flatnonzero(made.group == group)[0] for group in range(made.group.max() + 1)}
    assert all(found[row] == first[group] for row, group in enumerate(made.group.tolist()) if group >= 0)
