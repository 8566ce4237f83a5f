"""The exact solver against the authors' loop and a partition, and redundancy against the graph that it needs."""

from collections.abc import Iterable, Iterator

import numpy as np

from ...scores.diversity import class_diversity
from ...selection import (
    NUM_NEAREST,
    NeighborGraph,
    class_graph,
    duplicate_groups,
    joined_graph,
    redundancy_scores,
    sgd_select,
    top_k,
)
from .bench import Bench
from .machine import one_thread
from .made_data import clustered_embeddings


def selection(bench: Bench) -> None:
    """The exact solver against the authors' loop and a partition; iterations of sgd; redundancy against its graph."""
    scores = authors_scores(bench.rows(50_000))
    k = int(0.3 * len(scores))
    again = 100
    seconds = bench.timed(
        {"ours": lambda: [top_k(scores, k) for _ in range(again)], "loop": lambda: authors_loop(scores, k)}, repeats=3
    )
    bench.report("top_k", seconds["ours"].cpu / again, seconds["loop"].cpu, iterations=authors_loop(scores, k))
    many = np.random.default_rng(0).random(bench.rows(10_000_000), dtype=np.float32)
    k = int(0.3 * len(many))
    seconds = bench.timed(
        {"ours": lambda: top_k(many, k), "partition": lambda: np.partition(many, len(many) - k)}, repeats=5
    )
    bench.report("top_k_partition", seconds["ours"].cpu, seconds["partition"].cpu)
    equal = [
        np.array_equal(top_k(scores, k), np.sort(np.argsort(-scores, kind="stable")[:k]))
        for scores in awkward_scores((1, 2, 7, 1000, bench.rows(50_000)))
        for k in sorted({0, 1, len(scores) // 3, len(scores) - 1, len(scores)})
    ]
    bench.report("top_k_equal", sum(equal), len(equal))
    iterations = {}
    for rows in (bench.rows(10_000), bench.rows(100_000), bench.rows(1_000_000)):
        iterations[rows] = sgd_select(authors_scores(rows), int(0.3 * rows)).iterations
    bench.report("sgd_iterations", max(iterations.values()), min(iterations.values()), iterations=iterations)
    redundancy(bench)


def redundancy(bench: Bench) -> None:
    """What the greedy costs beside its graph, on one thread; the classes are alike, so one stands for ten."""
    size = max(200, bench.rows(5000))
    embeds = clustered_embeddings(size)
    class_rows = np.split(np.random.default_rng(0).permutation(10 * size), 10)

    def class_parts() -> tuple[np.ndarray, NeighborGraph]:
        diversity = class_diversity(embeds, size // 10, num_nearest=NUM_NEAREST)
        return diversity.scores, class_graph(np.asarray(diversity.nearest), np.asarray(diversity.cosines))

    with one_thread():
        scores, part = class_parts()
        graph = joined_graph([(rows, part) for rows in class_rows], 10 * size)
        many = np.empty(10 * size, np.float32)
        many[np.concatenate(class_rows)] = np.tile(scores, 10)
        sides = {
            "ours": lambda: (redundancy_scores(many, graph, 0.5), duplicate_groups(graph)),
            "graph": class_parts,
        }
        seconds = bench.timed(sides, repeats=5)
    bench.report(
        "redundancy", seconds["ours"].cpu, 10 * seconds["graph"].cpu, edges_per_row=len(graph.columns) / len(many)
    )


def authors_scores(rows: int) -> np.ndarray:
    """SAS + 0.1 SDS as the authors' code normalises them: the mean is 1.1."""
    return (2.2 * np.random.default_rng(0).beta(8, 8, rows)).astype(np.float32)


def authors_loop(scores: np.ndarray, k: int) -> int:
    """Algorithm 1 with the authors' settings: step 10 on d, momentum 0.9, beta 2, gap 5e-4 N. Gives its iterations.

    Its gradient is written out and everything is in place, which is several times faster than their autograd.
    """
    rows = len(scores)
    pull = {True: 10 * (2 - scores) / rows, False: 10 * (-2 - scores) / rows}  # by whether too many are kept
    logits, velocity, slope = np.ones_like(scores), np.zeros_like(scores), np.empty_like(scores)
    for iteration in range(100_000):
        count = int(np.count_nonzero(logits > 0))
        if abs(count - k) <= 5e-4 * rows:
            return iteration
        np.exp(np.negative(np.abs(logits, out=slope), out=slope), out=slope)
        slope /= np.square(1 + slope)  # p (1 - p)
        velocity *= 0.9
        velocity += np.multiply(slope, pull[count > k], out=slope)
        logits -= velocity
    raise RuntimeError(f"The loop is at {count} rows instead of {k}.")


def awkward_scores(sizes: Iterable[int]) -> Iterator[np.ndarray]:
    """Random, tied, constant, signed-zero and tiny inputs; the solver takes large ones another way than small ones."""
    rng = np.random.default_rng(0)
    for rows in sizes:
        yield rng.normal(size=rows).astype(np.float32)
        yield rng.integers(0, 5, rows).astype(np.float32)
        yield np.full(rows, 0.25, np.float32)
        yield rng.choice(np.array([-0.0, 0.0], np.float32), rows)
        yield rng.choice(np.array([-1.0, -0.0, 0.0, 1.0], np.float32), rows)
        yield (rng.normal(size=rows) * 1e-42).astype(np.float32)
